//! ecs-netguard keeps containers on an Amazon ECS host away from the instance metadata service.

pub mod config;
pub mod prove;
pub mod ruleset;
