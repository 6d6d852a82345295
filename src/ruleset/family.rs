//! IPv4 or IPv6.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The address family of a ruleset: iptables and ip6tables hold separate ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// What `iptables` manages.
    #[serde(rename = "ipv4")]
    V4,
    /// What `ip6tables` manages.
    #[serde(rename = "ipv6")]
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}
