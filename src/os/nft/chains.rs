//! Where chains are, and how they are hooked in.

use super::message::Proto;
use crate::os::netlink::Error;
use crate::plan::ChainId;
use crate::ruleset::Family;

/// Where a chain is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainName {
    /// The table's family.
    pub proto: Proto,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl ChainName {
    /// A chain of iptables.
    #[must_use]
    pub fn of_iptables(family: Family, table: &str, chain: &str) -> Self {
        Self {
            proto: family.into(),
            table: table.to_owned(),
            chain: chain.to_owned(),
        }
    }

    /// Which chain of iptables it is; `None` for one of a native table.
    #[must_use]
    pub fn in_iptables(&self) -> Option<ChainId> {
        let family = match self.proto {
            Proto::Ipv4 => Family::V4,
            Proto::Ipv6 => Family::V6,
            Proto::Inet | Proto::Netdev => return None,
        };
        Some(ChainId {
            family,
            table: self.table.clone(),
            chain: self.chain.clone(),
        })
    }
}

/// How a base chain is hooked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseHook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `NF_INET_…` or `NF_NETDEV_…` of linux/netfilter.h; 0 prerouting, 1 input, 2 forward, 3 output,
    /// 4 postrouting.
    pub number: u32,
    /// Lower comes first.
    pub priority: i32,
    /// The interface's name, in the family netdev; names need not be UTF-8.
    pub device: Option<Vec<u8>>,
}

/// Whether what was asked for is not there.
pub(super) fn absent<T>(asked: &Result<T, Error>) -> bool {
    matches!(asked, Err(Error::Kernel(error)) if error.kind() == std::io::ErrorKind::NotFound)
}
