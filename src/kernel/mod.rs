//! All that touches the kernel and the host. What to do is decided elsewhere; this room does it and
//! says exactly what failed.

mod attributes;
pub mod capabilities;
pub mod cgroup;
pub mod channel;
pub mod confine;
pub mod elsewhere;
pub mod environment;
pub mod exec;
pub mod facts;
pub mod host_tasks;
pub mod inherited;
pub mod iptables;
pub mod legacy;
pub mod links;
pub mod lock;
pub mod memory;
pub mod net_cls;
mod netlink;
pub mod netns;
pub mod nftables;
pub mod nsid;
pub mod privilege;
pub mod process;
pub mod routes;
pub mod sched;
pub mod sysctl;
pub mod table;
pub mod touched;
pub mod wait;
pub mod watch;
