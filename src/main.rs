//! The command line of ecs-netguard. This is the only place that ends the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    ecs_netguard::kernel::memory::spare();
    ecs_netguard::kernel::environment::clean();
    let inherited = ecs_netguard::kernel::inherited::Inherited::take();
    ecs_netguard::cli::main(inherited)
}
