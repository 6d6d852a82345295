//! What happened, as values: drift and reports become [`Event`]s here, with one rate limit. The hub
//! numbers them and hands them on to the journal, to followers, to metrics and to the history.

mod displacement;
mod event;
pub mod journal;
mod limit;
mod reporter;

pub use self::displacement::{Displacement, format_duration};
pub use self::event::{By, Event, Kind};
pub(crate) use self::event::{rfc3339, rfc3339_maybe};
pub use self::reporter::{Passed, Reporter};
