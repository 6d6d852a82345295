//! What this process may do.

use super::capabilities::{CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE};

/// linux/capability.h.
const CAP_NET_RAW: u32 = 13;

/// Whether the process has CAP_NET_ADMIN in effect, which iptables, nft and the sysctl need. Where
/// that cannot be read, the tools themselves will say.
#[must_use]
pub fn has_net_admin() -> bool {
    has(CAP_NET_ADMIN)
}

/// Whether the process has CAP_SYS_PTRACE in effect, which seeing the namespaces of others needs.
#[must_use]
pub fn has_sys_ptrace() -> bool {
    has(CAP_SYS_PTRACE)
}

/// Whether the process can do what a probe does besides: send raw packets, and make and enter network
/// namespaces.
#[must_use]
pub fn can_probe() -> bool {
    [CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_SYS_PTRACE]
        .into_iter()
        .all(has)
}

fn has(capability: u32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return true;
    };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_none_or(|mask| mask & (1 << capability) != 0)
}
