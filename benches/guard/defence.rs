//! What keeps the rules in place: the scripts that people run, and the guard.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::wait::eventually;

/// Everything that the guard does by default where ecs-init is installed.
pub(crate) const ECS_CONFIG: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// How long a start may take before something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the daemon says once it has proved the block.
pub(crate) const PROVED: &str = "imds-block is held";

/// Who puts back what was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defence {
    /// A script that looks every second.
    Poll,
    /// A script that looks at every event.
    Event,
    /// The daemon.
    Guard { seal: bool },
}

impl Defence {
    /// As the tables name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll every 1 s, iptables -C",
            Self::Event => "nft monitor, then iptables",
            Self::Guard { seal: false } => "sentinel, seal off",
            Self::Guard { seal: true } => "sentinel, seal on",
        }
    }

    /// Starts it; what it guards is in place afterwards.
    pub(crate) fn start(self, lab: &Lab, backend: Backend) -> Daemon {
        match self {
            Self::Poll => self.script(lab, "poll.sh", backend),
            Self::Event => self.script(lab, "event.sh", backend),
            Self::Guard { seal } => guard(lab, backend, seal),
        }
    }

    fn script(self, lab: &Lab, name: &str, backend: Backend) -> Daemon {
        lab.tamper(backend).aws_documented_block();
        let script = run_script(lab, name, backend);
        if self == Self::Event {
            eventually(PATIENCE, "nft monitor listens", || listens(lab));
        }
        script
    }
}

/// Whether a socket in the host is in a multicast group of netfilter's (netlink(7): protocol 12).
fn listens(lab: &Lab) -> bool {
    let sockets = lab.host.sh("cat /proc/net/netlink");
    sockets.lines().skip(1).any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next() == Some("12") && words.nth(1).is_some_and(|groups| groups != "00000000")
    })
}

/// The daemon, once it has proved that the block holds.
pub(crate) fn guard(lab: &Lab, backend: Backend, seal: bool) -> Daemon {
    configure(lab, backend, seal);
    let daemon = lab.start_daemon(ECS_CONFIG);
    daemon.wait_for_log(PROVED, PATIENCE);
    daemon
}

/// Writes config.toml.
pub(crate) fn configure(lab: &Lab, backend: Backend, seal: bool) {
    let backend = match backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    };
    let mut text = format!("[iptables]\nbackend = \"{backend}\"\n");
    for layer in native_layers(lab) {
        text.push_str(&format!("[{layer}]\nenabled = {seal}\n"));
    }
    lab.write("config.toml", text);
}

/// The layers of native tables that this binary knows. An older one is worth measuring too.
fn native_layers(lab: &Lab) -> &'static [&'static str] {
    static KNOWN: OnceLock<Vec<&str>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let known = |layer: &&str| {
            lab.write("config.toml", format!("[{layer}]\nenabled = true\n"));
            let status = lab.netguard(["config"]).status();
            status.is_ok_and(|status| status.success())
        };
        let all = ["seal", "edge"];
        let known: Vec<&str> = all.into_iter().filter(known).collect();
        if known.len() < all.len() {
            println!("! Of the layers {all:?} this ecs-netguard has {known:?}: what bears their names is measured without.");
        }
        known
    })
}

/// Starts one of the baselines. A process namespace holds all that the script starts: when its
/// first process ends, the kernel ends the others.
pub(crate) fn run_script(lab: &Lab, name: &str, backend: Backend) -> Daemon {
    let command = lab
        .host
        .command("unshare")
        .args(["--pid", "--fork", "--kill-child=KILL"])
        .arg(baseline(name))
        .arg(backend.iptables());
    Daemon::start(command)
}

/// Runs one of the baselines to its end.
pub(crate) fn run_once(lab: &Lab, name: &str, backend: Backend) {
    let script = lab.host.command(baseline(name)).arg(backend.iptables());
    script.run();
}

fn baseline(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/guard/baselines")
        .join(name)
}
