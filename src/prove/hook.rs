//! The places where the kernel asks the rules.

use std::fmt;

use serde::Serialize;

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

    /// The tables asked here, in the order of their priorities (`enum nf_ip_hook_priorities` in
    /// include/uapi/linux/netfilter_ipv4.h; the same for IPv6). Connection tracking, at -200, comes
    /// between raw and mangle.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Prerouting => &["raw", "mangle", "nat"],
            Self::Input => &["mangle", "filter", "security", "nat"],
            Self::Forward => &["mangle", "filter", "security"],
            Self::Output => &["raw", "mangle", "nat", "filter", "security"],
            Self::Postrouting => &["mangle", "nat"],
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.chain())
    }
}
