//! What a container's capabilities let it do about its block. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a task can do to reach the metadata service despite the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// CAP_NET_ADMIN: it can delete what blocks it; that is restored.
    NetAdmin,
    /// CAP_SYS_ADMIN, as privileged containers have it: it can leave its namespaces.
    SysAdmin,
    /// CAP_NET_RAW, which Docker grants by default: it can write frames past every rule.
    NetRaw,
}

impl Power {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NetAdmin, Self::SysAdmin, Self::NetRaw];

    /// The capability's name (capabilities(7)).
    #[must_use]
    pub const fn capability(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    /// Its number (linux/capability.h).
    const fn number(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysAdmin => 21,
        }
    }

    /// Those in a mask of capabilities.
    #[must_use]
    pub fn of(mask: u64) -> Vec<Self> {
        let has = |power: &Self| mask & (1 << power.number()) != 0;
        Self::ALL.into_iter().filter(has).collect()
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "can delete the block (CAP_NET_ADMIN)",
            Self::SysAdmin => "can leave its namespaces (CAP_SYS_ADMIN)",
            Self::NetRaw => "can write frames past it (CAP_NET_RAW)",
        })
    }
}
