//! What the host is, as far as the rules depend on it: plain values, read by `os::facts`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::guarantee::{EdgePass, TaskCgroup};
use crate::ruleset::Net;
use crate::tasks::Power;

/// What of the host decides which rules are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether this kernel and namespace have IPv6.
    pub ipv6: bool,
    /// Every bridge interface, with its IPv4 networks.
    pub bridges: BTreeMap<String, Vec<Net>>,
    /// The default Docker bridge's name, `None` where Docker is configured to have none.
    pub default_bridge: Option<String>,
    /// The interfaces on which the kernel routes 127.0.0.0/8 (`route_localnet`); `all` alone where that is on.
    pub route_localnet: Vec<String>,
    /// Whether there is no IPv4 default route, as on a host that has IPv6 alone.
    pub ipv6_only: bool,
    /// The cgroup below which all tasks are, where the settings ask for it.
    pub task_cgroup: Option<TaskCgroup>,
    /// The tasks in it that are on the host's own network.
    pub host_tasks: Vec<HostTask>,
    /// What tells allowed packets at the edge, where the settings allow any.
    pub pass: Option<EdgePass>,
    /// The containers that can undo what stands on the host.
    pub privileged: Vec<PrivilegedContainer>,
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

/// A container whose processes hold CAP_NET_ADMIN or CAP_SYS_ADMIN in the host's user namespace: it can undo
/// what stands on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivilegedContainer {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// What Docker calls it; absent where Docker does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id of the ECS task that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What its processes have of these capabilities, or can get.
    pub powers: Vec<Power>,
}

impl PrivilegedContainer {
    /// Its capabilities, for a person: `CAP_NET_ADMIN, CAP_SYS_ADMIN`.
    #[must_use]
    pub fn capabilities(&self) -> String {
        let names: Vec<&str> = self.powers.iter().map(|power| power.capability()).collect();
        names.join(", ")
    }
}

/// For a person: `container web (0123456789ab) of task 0f3a…`.
impl fmt::Display for PrivilegedContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As much of an id as Docker shows.
        let short = self.id.get(..12).unwrap_or(&self.id);
        match &self.name {
            Some(name) => write!(f, "container {name} ({short})")?,
            None => write!(f, "container {short}")?,
        }
        self.task
            .iter()
            .try_for_each(|task| write!(f, " of task {task}"))
    }
}
