//! The command line of ecs-netguard.

fn main() {}
