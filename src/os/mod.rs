//! All that touches the kernel and the host. What to do is decided elsewhere; this room does it and
//! says exactly what failed.

pub mod addresses;
mod attributes;
pub mod capabilities;
pub mod cgroup;
pub mod channel;
pub mod confine;
pub mod containers;
pub mod docker;
pub mod environment;
pub mod exec;
pub mod facts;
pub mod host_tasks;
pub mod inherited;
pub mod inotify;
pub mod ipset;
pub mod iptables;
pub mod links;
pub mod lock;
pub mod memory;
mod netlink;
pub mod netns;
pub mod netns_events;
pub mod nft;
pub mod note;
pub mod nsid;
pub mod packet_socket;
pub mod poll;
pub mod privilege;
pub mod process;
pub mod procfs;
pub mod routes;
pub mod sched;
pub mod self_usage;
pub mod sysctl;
pub mod unix_http;
pub mod veth;
pub mod watch;

#[cfg(fuzzing)]
pub use self::netlink::script;
