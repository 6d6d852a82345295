//! nf_tables over netlink: what iptables' own listing hides, and changes that happen all at once.

mod batch;
mod chains;
mod commits;
pub mod drops;
mod expressions;
mod foreign;
mod inventory;
mod message;
mod moment;
mod native;
mod opening;
mod rules;
mod socket;
mod tables;
mod tagged;

pub use self::batch::{Batch, CommitError};
pub use self::chains::{BaseHook, ChainName};
pub use self::commits::{Commit, Commits, Heard};
pub use self::expressions::encode;
pub use self::inventory::{ForeignRule, Inventory};
pub use self::message::Proto;
pub use self::message::table::{DORMANT, OWNER, PERSIST};
pub use self::moment::Moment;
pub use self::opening::open_native;
pub use self::rules::{Held, RawRule, first_of, packets_of};
pub use self::socket::Socket;
pub use self::tables::{Chain, Table, exists, wake};
pub use self::tagged::delete_tagged;
pub use super::netlink::Error;

/// The number of the last commit in this network namespace.
pub fn generation() -> Result<u32, Error> {
    Socket::open()?.generation()
}
