//! What a probe sends, from where, what it expects, and what it saw. Values only.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::guarantee::Guarantee;

/// One thing that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first packet of a TCP connection to port 80.
    Tcp,
    /// The same from a socket that names its interface, which gets past a blackhole route.
    TcpBound,
    /// A UDP datagram to port 80.
    Udp,
    /// An echo request.
    Icmp,
    /// A packet of IP protocol 253, which no firewall has an opinion on.
    #[serde(rename = "protocol-253")]
    Protocol253,
    /// A whole frame from a packet socket: it meets neither routes nor the hooks of IP.
    Frame,
    /// The same past the interface's queue (PACKET_QDISC_BYPASS).
    FrameBypass,
    /// The same, named to the kernel as another protocol than its header says.
    FrameMislabelled,
    /// The same, named as if it had a VLAN tag, which it has not.
    FrameAsTagged,
    /// A TCP connection that is to come about.
    Connect,
}

impl Kind {
    /// What any process can send.
    pub const PACKETS: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Protocol253];
    /// What only a process with CAP_NET_RAW can send.
    pub const FRAMES: [Self; 4] = [
        Self::Frame,
        Self::FrameBypass,
        Self::FrameMislabelled,
        Self::FrameAsTagged,
    ];

    /// The word of tables and of JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::TcpBound => "tcp-bound",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Protocol253 => "protocol-253",
            Self::Frame => "frame",
            Self::FrameBypass => "frame-bypass",
            Self::FrameMislabelled => "frame-mislabelled",
            Self::FrameAsTagged => "frame-as-tagged",
            Self::Connect => "connect",
        }
    }
}

/// Where a probe sends from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Place {
    /// The host itself.
    Host,
    /// A throwaway container on a bridge.
    Bridge {
        /// The bridge.
        name: String,
    },
    /// The network namespace of an awsvpc task.
    Task {
        /// The task's id.
        id: String,
    },
    /// A throwaway cgroup below that of the tasks on the host's network.
    HostTasks {
        /// The cgroup of all tasks.
        cgroup: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Bridge { name } => write!(f, "bridge {name}"),
            Self::Task { id } => write!(f, "task {id}"),
            Self::HostTasks { .. } => f.write_str("host tasks"),
        }
    }
}

/// What the required guarantees make of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// It does not reach its destination.
    Stopped,
    /// It is answered.
    Answered,
    /// Either: no guarantee that is required speaks of it.
    Anything,
}

/// What came of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// The destination answered.
    Answered,
    /// It left this host, or the task's own network interface; no answer came.
    Left,
    /// It did not leave, and what stopped it is known.
    Stopped,
    /// It was not seen to leave, no counter of the guard moved, and no answer came.
    NoAnswer,
    /// The connection was refused.
    Refused,
    /// It could not be sent.
    NotSent,
}

impl Seen {
    /// Whether it got to where the guard cannot stop it any more.
    #[must_use]
    pub const fn reached(self) -> bool {
        matches!(self, Self::Answered | Self::Left)
    }

    /// The word of tables and of JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Left => "left",
            Self::Stopped => "stopped",
            Self::NoAnswer => "no answer",
            Self::Refused => "refused",
            Self::NotSent => "not sent",
        }
    }
}

/// What stopped a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A tagged rule of iptables.
    Visible,
    /// The guard's table `inet ecs_netguard`.
    Seal,
    /// The guard's table `netdev ecs_netguard`.
    Edge,
    /// A route that refuses it, or no route at all.
    Route,
    /// A filter in the kernel that refused it to the sender: none of the guard's counters moved.
    Other,
}

impl Layer {
    /// The word of tables and of JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Seal => "seal",
            Self::Edge => "edge",
            Self::Route => "route",
            Self::Other => "other",
        }
    }
}

/// One thing that was tried and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What.
    pub what: Kind,
    /// To which address.
    pub to: IpAddr,
    /// What is required.
    pub expected: Expected,
    /// What was seen.
    pub seen: Seen,
    /// What stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// The interface by which it left, the rule that stopped it, or why it was not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Row {
    /// Whether it went as required; `None` where that is not known, or nothing is required.
    #[must_use]
    pub const fn as_expected(&self) -> Option<bool> {
        match (self.expected, self.seen) {
            (Expected::Anything, _) | (_, Seen::NotSent) => None,
            (Expected::Stopped, seen) => Some(!seen.reached()),
            (Expected::Answered, seen) => Some(matches!(seen, Seen::Answered)),
        }
    }
}

/// What is asked of one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The place.
    pub place: Place,
    /// The guarantee that keeps the metadata service away from it; absent where none that is required
    /// does.
    pub block: Option<Guarantee>,
    /// Whether that covers IPv6 too.
    pub ipv6: bool,
    /// Whether credentials are required to be reached from it.
    pub credentials: bool,
    /// Whether a process there can write frames (CAP_NET_RAW).
    pub frames: bool,
    /// The inode of its network namespace, where that is not the host's and exists already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
}

impl Asked {
    /// What is required of a packet from here.
    #[must_use]
    pub fn expects(&self, kind: Kind, to: IpAddr) -> Expected {
        match (kind, &self.place) {
            // Whether the agent listens at all.
            (Kind::Connect, _) if to.is_loopback() => Expected::Anything,
            (Kind::Connect, _) if self.credentials => Expected::Answered,
            (Kind::Connect, _) => Expected::Anything,
            // The control.
            (_, Place::Host) => match to {
                IpAddr::V4(_) => Expected::Answered,
                IpAddr::V6(_) => Expected::Anything,
            },
            _ if self.block.is_none() || (to.is_ipv6() && !self.ipv6) => Expected::Anything,
            _ => Expected::Stopped,
        }
    }
}

/// What came of all that was tried from one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The place.
    #[serde(rename = "from")]
    pub place: Place,
    /// The addresses it was tried from.
    pub sources: Vec<IpAddr>,
    /// The guarantee that speaks of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<Guarantee>,
    /// What was tried.
    pub rows: Vec<Row>,
    /// Why nothing, or not all that is required, was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What to know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Tried {
    /// Nothing yet.
    #[must_use]
    pub fn new(asked: &Asked) -> Self {
        Self {
            place: asked.place.clone(),
            sources: Vec::new(),
            guarantee: asked.block,
            rows: Vec::new(),
            failure: None,
            notes: Vec::new(),
        }
    }

    /// There was nothing to try, for this reason.
    #[must_use]
    pub fn noted(asked: &Asked, why: &str) -> Self {
        Self {
            notes: vec![why.to_owned()],
            ..Self::new(asked)
        }
    }

    /// Nothing was tried, for this reason.
    #[must_use]
    pub fn failed(asked: &Asked, why: impl Into<String>) -> Self {
        Self {
            failure: Some(why.into()),
            ..Self::new(asked)
        }
    }
}
