//! The command line of ecs-netguard. This is the only place that ends the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecs_netguard::os::environment::clean();
    let inherited = ecs_netguard::os::inherited::Inherited::take();
    ecs_netguard::cli::main(inherited)
}
