//! ecs-netguard keeps containers on an Amazon ECS host away from the instance metadata service,
//! and tasks connected to their own credentials, and knows at any moment whether that holds.
//!
//! ```text
//! inputs ──► posture ──► guarantees ──► rules ──► plan (rules − ruleset) ──► kernel
//! ```
//!
//! [`config`] reads what the operator wrote, [`posture`] decides what it asks for, [`guarantee`]
//! says what that means in rules, [`plan`] compares them with the [`ruleset`] that the kernel
//! holds. Those are pure; [`kernel`] does all that touches the host, and [`guard`] is the loop.

pub mod cli;
pub mod config;
pub mod event;
pub mod guarantee;
pub mod guard;
pub mod inputs;
pub mod journal;
pub mod kernel;
pub mod log;
pub mod plan;
pub mod posture;
pub mod prove;
pub mod report;
pub mod ruleset;
pub mod sentinel;
pub mod state;
pub mod status;
pub mod systemd;
pub mod tasks;
pub mod turn;
pub mod witness;
