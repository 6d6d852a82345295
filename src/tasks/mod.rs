//! The awsvpc tasks that run on this host: found, looked at, and kept from the instance metadata
//! service within their own network namespaces.
//!
//! That needs more power than all the rest of the daemon, so a process of its own does it ([`worker`]),
//! which can do nothing else and receives so little that it has nothing to pass on it wrong
//! ([`protocol`]); the daemon gives that power up ([`worker_client`]). Where it ends it is started again
//! ([`supervisor`]).

pub mod discovery;
pub mod evidence;
mod labels;
pub mod model;
mod news;
pub mod once;
pub mod place;
pub mod power;
pub mod protocol;
mod seen;
mod space;
pub mod starts;
pub mod supervisor;
pub mod task_events;
pub mod task_netns;
pub mod worker;
pub mod worker_client;

pub use self::model::{Mode, Task, Tasks, way_out};
pub use self::power::Power;
pub use self::task_netns::Wish;

use crate::config::settings::{Awsvpc, Settings};
use crate::guarantee::Guarantee;
use crate::posture::Posture;

/// What the inputs want of the tasks' namespaces.
#[must_use]
pub fn wish(settings: &Settings, posture: &Posture) -> Wish {
    match settings.imds.awsvpc {
        _ if !posture.requires(Guarantee::AwsvpcImdsBlock) => Wish::Nothing,
        Awsvpc::Auto => Wish::Keep,
        Awsvpc::Audit => Wish::Audit,
        Awsvpc::Never => Wish::Nothing,
    }
}
