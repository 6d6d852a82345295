//! The machine that is measured on, and its cores.

use std::fs;
use std::process::Command;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// What a figure depends on besides the program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    iptables: String,
    nft: String,
}

impl Machine {
    /// Asks the machine.
    pub(crate) fn describe() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .into(),
            cpu: model.map_or("unknown", |(_, name)| name.trim()).into(),
            cpus: Cores::all().0.len(),
            iptables: version("iptables"),
            nft: version("nft"),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kernel,
            cpu,
            cpus,
            iptables,
            nft,
        } = self;
        write!(f, "Linux {kernel}, {cpus} × {cpu}, {iptables}, {nft}")
    }
}

fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map_or_else(|e| format!("{program}: {e}").into(), |o| o.stdout);
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Some of the machine's cores.
#[derive(Clone, Debug)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// Those this process may use.
    pub(crate) fn all() -> Self {
        let set = sched_getaffinity(Pid::from_raw(0)).expect("the kernel tells the own affinity");
        Self(
            (0..CpuSet::count())
                .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
                .collect(),
        )
    }

    /// The last one alone, and all others.
    ///
    /// # Panics
    /// On a machine with one core: nothing could be kept apart.
    pub(crate) fn split(mut self) -> (Self, Self) {
        let last = self.0.pop().expect("there is a core");
        assert!(!self.0.is_empty(), "a sender needs a core of its own");
        (Self(vec![last]), self)
    }

    /// Binds the calling thread to these, and with it the threads and processes that it starts.
    pub(crate) fn bind(&self) {
        let mut set = CpuSet::new();
        for cpu in &self.0 {
            set.set(*cpu).expect("a core the kernel named");
        }
        sched_setaffinity(Pid::from_raw(0), &set).expect("a thread may bind itself");
    }
}

/// Runs `work` with the calling thread, and all that it starts, off the core that is given to it.
pub(crate) fn apart<T>(work: impl FnOnce(&Cores) -> T) -> T {
    let all = Cores::all();
    let (senders, others) = all.clone().split();
    others.bind();
    let result = work(&senders);
    all.bind();
    result
}
