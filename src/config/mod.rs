//! What the operator wrote: `ecs.config` as the ECS agent reads it, and the daemon's own `config.toml`.
