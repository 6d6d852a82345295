//! The environment that the tools run in.

/// What the process keeps: its own options, what systemd tells it, and what a terminal needs.
const KEPT: [&str; 9] = [
    "ECS_NETGUARD_",
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "LISTEN_",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "TERM",
    "COLUMNS",
    "NO_COLOR",
];

/// Removes everything from the process's environment that could change what iptables does
/// (`XTABLES_LIBDIR`, `XTABLES_LOCKFILE`, `LD_*`, `PATH`, locales), so that every child gets a clean
/// one, also those that a library starts.
///
/// To be called first thing in `main`, before any thread exists.
pub fn clean() {
    let foreign: Vec<_> = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| {
            !KEPT
                .iter()
                .any(|kept| name.to_string_lossy().starts_with(kept))
        })
        .collect();
    for name in foreign {
        // SAFETY: no other thread exists yet, so nothing reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    // SAFETY: as above.
    unsafe {
        std::env::set_var("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        std::env::set_var("LC_ALL", "C");
    }
}
