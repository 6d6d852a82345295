//! What the daemon itself takes of the machine, and what machine that is.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// The daemon's own memory and processor time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelfUsage {
    /// Resident memory in bytes.
    pub memory: u64,
    /// Processor time used, in seconds.
    pub cpu: f64,
}

impl SelfUsage {
    /// Asks /proc; `None` where that does not tell.
    #[must_use]
    pub fn read() -> Option<Self> {
        let mut system = System::new().ok()?;
        let me = Pid::from_u32(std::process::id());
        let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[me]), false, what);
        let process = system.process(me)?;
        Some(Self {
            memory: process.memory(),
            cpu: process.accumulated_cpu_time() as f64 / 1000.0,
        })
    }
}

/// The host's name; empty where it has none.
#[must_use]
pub fn host_name() -> String {
    System::host_name().unwrap_or_default()
}

/// The kernel's release, as `uname -r` says it; empty where it cannot be had.
#[must_use]
pub fn kernel() -> String {
    System::kernel_version().unwrap_or_default()
}
