//! What the operator wrote: `ecs.config` as the ECS software reads it, and the daemon's own `config.toml`.
//!
//! Everything here is a value: files are read once by two thin functions ([`EcsInputs::read`] and
//! [`Settings::text`](settings::Settings::text)), and all that follows is pure. No wish is turned into a rule here; that is
//! the posture's business.

pub mod ecs;
pub mod settings;
pub mod trap;

mod envfile;
mod file;
mod files;
mod gobool;
mod inspect;
mod json;
mod known;
mod parsed;
mod read;
mod resolve;
#[cfg(test)]
mod samples;
mod sanitize;
mod source;
mod variables;

pub use file::FileText;
pub use files::{DEFAULT_CONFIG, EcsInputs, EcsPaths};
pub use read::{MAX_INPUT_BYTES, open_regular};
pub use resolve::resolve;
pub(crate) use sanitize::{
    is_shown, readable, sanitize, sanitize_line, sanitize_message, sanitize_to,
};
pub use source::Source;
