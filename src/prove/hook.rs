//! The places where the kernel asks the rules.

use std::fmt;

use serde::Serialize;

use crate::ruleset::Place;

/// A netfilter hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Hook {
    /// Every packet that comes in, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets passing through.
    Forward,
    /// Packets of this host's processes.
    Output,
    /// Every packet about to leave.
    Postrouting,
}

impl Hook {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    /// The name of the chain that iptables attaches here.
    pub fn chain(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }

    /// The kernel's number for it: `NF_INET_…` of linux/netfilter.h.
    pub const fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    /// Whether it is where connections begin: connection tracking looks at packets here, and NAT at
    /// their destination.
    pub(super) const fn before_routing(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output)
    }
}

/// iptables' tables.
pub(super) const TABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// NF_IP_PRI_NAT_DST; that of NAT_SRC is the same without its sign.
pub(super) const NAT_DESTINATION: i32 = -100;

/// The priority of a table at a hook, where it has a chain there (`enum nf_ip_hook_priorities` in
/// include/uapi/linux/netfilter_ipv4.h; the same for IPv6).
pub(super) fn priority(place: Place, table: &str, hook: Hook) -> Option<i32> {
    use Hook::{Forward, Input, Output, Postrouting, Prerouting};
    let (iptables, seal) = match (table, hook) {
        ("raw", Prerouting | Output) => (-300, -300),
        ("mangle", _) => (-150, 300),
        ("nat", Prerouting | Output) => (NAT_DESTINATION, NAT_DESTINATION - 1),
        ("nat", Postrouting | Input) => (-NAT_DESTINATION, -NAT_DESTINATION),
        ("filter", Input | Forward | Output) => (0, -10),
        ("security", Input | Forward | Output) => (50, 50),
        _ => return None,
    };
    Some(match place {
        Place::Iptables => iptables,
        Place::Seal => seal,
    })
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.chain())
    }
}
