//! What happened, as values, and the way they take: drift and reports become [`Event`]s here, and from
//! here go to the hub and the journal.

mod changes;
pub mod drifts;
mod event;
pub mod journal;

pub use self::changes::{Reporter, tell};
pub use self::event::*;
