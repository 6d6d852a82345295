//! What the host is, as far as the rules depend on it: plain values, read by `os::facts`.

use std::collections::BTreeMap;

use crate::guarantee::TaskCgroup;
use crate::ruleset::Net;

/// What of the host decides which rules are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether this kernel and namespace have IPv6.
    pub ipv6: bool,
    /// Every bridge interface, with its IPv4 networks.
    pub bridges: BTreeMap<String, Vec<Net>>,
    /// The default Docker bridge's name, `None` where Docker was told to have none.
    pub default_bridge: Option<String>,
    /// The interfaces on which the kernel routes 127.0.0.0/8 (`route_localnet`); `all` alone where that is on.
    pub route_localnet: Vec<String>,
    /// Whether there is no IPv4 default route, as on a host that has IPv6 alone.
    pub ipv6_only: bool,
    /// The cgroup below which all tasks are, where the settings ask for it.
    pub task_cgroup: Option<TaskCgroup>,
    /// The tasks in it that are on the host's own network.
    pub host_tasks: Vec<HostTask>,
    /// What of this could not be read, ready for a person.
    pub problems: Vec<String>,
}

/// A task on the host's own network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTask {
    /// The ECS task's id.
    pub id: String,
    /// What its processes have of capabilities, or can get.
    pub capabilities: u64,
}
