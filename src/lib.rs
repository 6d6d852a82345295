//! ecs-netguard keeps containers on an Amazon ECS host away from the instance metadata service,
//! and tasks connected to their own credentials, and knows at any moment whether that holds.
//!
//! ```text
//! inputs ──► posture ──► guarantees ──► rules ──► plan (rules − ruleset) ──► kernel
//! ```
//!
//! [`config`] reads what the operator wrote, [`posture`] decides what it asks for, [`guarantee`]
//! says what that means in rules, [`plan`] compares them with the [`ruleset`] that the kernel
//! holds. Those are pure; [`os`] does all that touches the host, and [`daemon`] is the loop.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod desired;
pub mod events;
pub mod facts;
pub mod guarantee;
pub mod inputs;
pub mod log;
pub mod os;
pub mod out;
pub mod plan;
pub mod posture;
pub mod probe;
pub mod prove;
pub mod reconcile;
pub mod report;
pub mod ruleset;
pub mod schedule;
pub mod seal;
pub mod sentinel;
pub mod state;
pub mod status;
pub mod systemd;
pub mod tasks;
pub mod timestamp;
pub mod verdict;
