//! ECS tasks in awsvpc mode, made as the agent and its CNI plugins make them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Lab;
use super::namespace::{Kind, Namespace};
use super::wait::{LONG, eventually};

/// The unified hierarchy, where cgroup v2 is alone and where it stands beside v1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// How the interface of its own is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eni {
    /// A cable to the network in which the metadata service is.
    Cable,
    /// One on the host's uplink, moved into the task: no cable of the kind that containers have.
    Macvlan,
}

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether it has a port on the agent's bridge.
    pub bridged: bool,
    /// The name of that bridge.
    pub bridge: &'static str,
    /// Its interface to the network.
    pub eni: Eni,
    /// Whether the agent added its blackholes (`ECS_AWSVPC_BLOCK_IMDS` at its start).
    pub blackholes: bool,
    /// Whether its process is in a cgroup of the task's.
    pub cgroup: bool,
    /// What runs the process: capabilities are removed here.
    pub setpriv: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            bridged: true,
            bridge: "ecs-bridge",
            eni: Eni::Cable,
            blackholes: true,
            cgroup: false,
            setpriv: Vec::new(),
        }
    }
}

/// A running task. Its process ends with the value, and its namespace with both.
#[derive(Debug)]
pub struct Task {
    process: Child,
    cgroups: Vec<PathBuf>,
    /// A handle on the namespace, as the host's processes name it.
    handle: Option<String>,
    /// The task's id.
    pub id: String,
    /// Its network namespace.
    pub ns: Namespace,
    /// The host's end of its cable to the agent's bridge.
    pub port: String,
}

impl Lab {
    /// Starts a task.
    #[track_caller]
    pub fn task(&self, plan: Plan) -> Task {
        /// Counts tasks, for names and addresses of their own.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}{number:016x}", std::process::id());
        let ns = Namespace::new("task", Kind::Network).expect("a namespace for a task");
        // The pause container is there before the plugins make its network.
        let process = {
            let mut words = vec!["sleep".to_owned(), "infinity".to_owned()];
            if !plan.setpriv.is_empty() {
                words.splice(0..0, plan.setpriv.iter().cloned());
                words.insert(0, "setpriv".to_owned());
            }
            let (program, arguments) = words.split_first().expect("a program");
            ns.command(program)
                .args(arguments)
                .spawn(Stdio::null(), Stdio::null())
                .expect("a process for a task")
        };
        // Its interfaces begin with these.
        ns.sh("for all in all default; do
                echo 0 >/proc/sys/net/ipv6/conf/$all/accept_dad
                echo 0 >/proc/sys/net/ipv6/conf/$all/accept_ra
             done");
        let port = format!("vethe{number}");
        let last = number % 200 + 30;
        let netns = ns.netns();
        let netns = netns.display();
        if plan.bridged {
            self.host.sh(&format!(
                "ip link add {port} type veth peer name ecs-eth0 netns {netns}
                 ip link set {port} master {} up",
                plan.bridge
            ));
            ns.sh(&format!(
                "ip addr add 169.254.172.{last}/22 dev ecs-eth0; ip link set ecs-eth0 up
                 ip route add 169.254.170.2/32 via 169.254.172.1 dev ecs-eth0"
            ));
        }
        match plan.eni {
            Eni::Cable => self.imds.sh(&format!(
                "ip link add eni{number} type veth peer name eth0 netns {netns}
                 ip link set eni{number} master lan up"
            )),
            Eni::Macvlan => self.host.sh(&format!(
                "ip link add link ens5 name eni{number} type macvlan mode bridge
                 ip link set eni{number} netns {netns} name eth0"
            )),
        };
        let blackholes = if plan.blackholes {
            "ip route add blackhole 169.254.169.254/32
             ip -6 route add blackhole fd00:ec2::254/128"
        } else {
            ""
        };
        ns.sh(&format!(
            "ip link set lo up
             ip addr add 10.0.0.{last}/24 dev eth0; ip addr add fd00:10::{number:x}:{last}/64 dev eth0 nodad
             ip link set eth0 up; ip route add default via 10.0.0.1
             ip -6 route add default via fd00:10::1
             {blackholes}"
        ));
        // What the kernel adds by itself once a cable carries: addresses and routes of the link.
        let links = if plan.bridged { 2 } else { 1 };
        eventually(LONG, "the task's links carry packets", || {
            let shown = ns.sh("ip -6 -br addr");
            let carries = |line: &&str| line.contains(" UP ") && line.contains("fe80:");
            let own = ns.sh("ip -6 route show table local type local");
            shown.lines().filter(carries).count() == links
                && own.matches("local fe80:").count() == links
        });
        let mut task = Task {
            process,
            cgroups: Vec::new(),
            handle: None,
            id,
            ns,
            port,
        };
        if plan.cgroup {
            task.enter_cgroups();
        }
        task
    }
}

impl Task {
    /// The process of the task.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Docker's name of the namespace.
    pub fn sandbox(&self) -> &str {
        &self.id[20..]
    }

    /// Makes a handle on the namespace, where Docker has it.
    pub fn bind_handle(&mut self, host: &Namespace) {
        let sandbox = self.sandbox().to_owned();
        self.bind(host, "/run/docker/netns", &sandbox);
    }

    /// Makes a handle on the namespace, where the agent of a managed instance has it.
    pub fn bind_managed_handle(&mut self, host: &Namespace) {
        self.bind(host, "/run/netns", &format!("{}-eth1", self.id));
    }

    fn bind(&mut self, host: &Namespace, directory: &str, name: &str) {
        let handle = format!("{directory}/{name}");
        host.sh(&format!(
            "mkdir -p {directory}; touch {handle}; mount --bind {} {handle}",
            self.ns.netns().display()
        ));
        self.handle = Some(handle);
    }

    /// Puts the process into a cgroup of the task, as the agent and Docker do on cgroup v2.
    fn enter_cgroups(&mut self) {
        let root = UNIFIED
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.controllers").exists())
            .expect("a machine with cgroup v2");
        let slice = Path::new(root).join("ecstasks.slice");
        let task = slice.join(format!("ecstasks-{}.slice", self.id));
        let container = task.join(format!("docker-{}.scope", self.id));
        fs::create_dir_all(&container).expect("a cgroup of the test's own");
        fs::write(
            container.join("cgroup.procs"),
            self.process.id().to_string(),
        )
        .expect("a process goes into its cgroup");
        self.cgroups = vec![container, task, slice];
    }

    /// Ends it: the process, then all that was made for it.
    pub fn stop(self, host: &Namespace) {
        if let Some(handle) = &self.handle {
            host.sh(&format!("umount -l {handle}; rm {handle}"));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for cgroup in &self.cgroups {
            // The slice goes with the last of its tasks.
            let _ = fs::remove_dir(cgroup);
        }
    }
}
