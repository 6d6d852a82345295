//! A little world on real kernel networking: an ECS host, its containers, the network around it and
//! the instance metadata service, made in a fraction of a second and gone when the test is, however
//! the test ends.
//!
//! Nothing of the machine is touched: not its network namespace, not its /run, not its disk. Root
//! is needed, and `ip`, `nft`, `iptables` (both kinds) and `setpriv`.
//!
//! ```no_run
//! let lab = Lab::new();
//! assert!(lab.docker.role_credentials_v1(IMDS).is_ok());
//! lab.tamper(Backend::Nft).aws_documented_block();
//! assert!(lab.docker.role_credentials_v1(IMDS).is_err());
//! assert_eq!(lab.counter().arrived().from(DOCKER), 0);
//! ```

// A lab that cannot be built, or a tool that fails in it, ends the test: a panic with a message is
// what every caller would make of an error.
#![allow(
    clippy::expect_used,
    clippy::new_without_default,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test support, as in #[test] functions"
)]

pub mod asking;
pub mod cgroup;
pub mod counter;
pub mod crowd;
pub mod daemon;
pub mod docker;
pub mod docker_files;
mod docker_rules;
pub mod figures;
pub mod firewalls;
pub mod frames;
pub mod http;
pub mod imds;
pub mod namespace;
pub mod probe;
pub mod prometheus;
pub mod socket;
pub mod systemd;
pub mod tamper;
pub mod task;
pub mod topology;
pub mod wait;

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use counter::Counter;
use daemon::Daemon;
use http::Server;
use namespace::{Kind, Namespace, NsCommand};
use tamper::{Backend, Tamper};

/// Where the project is.
pub fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// The container on docker0.
pub const DOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));
/// The container on a user-defined network.
pub const USER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2));
/// The awsvpc task, by its interface to the host.
pub const AWSVPC: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 172, 2));
/// Another machine on the host's network.
pub const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 20));
/// The host, on its uplink.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10));

/// The lab's directory as processes in the host see it.
const DIR: &str = "/run/lab";

/// The whole world. Fields are dropped in the order in which they stand: servers before the
/// namespaces in which they run.
#[derive(Debug)]
pub struct Lab {
    servers: Vec<Server>,
    /// A container on the default bridge. Not connected in a lab `without_docker0`.
    pub docker: Namespace,
    /// A container on a user-defined Docker network.
    pub user: Namespace,
    /// A task with a network interface of its own, by its way to the host.
    pub awsvpc: Namespace,
    /// Another machine on the host's network; it sends packets for 127.0.0.0/8 to the host.
    pub neighbour: Namespace,
    /// The container instance.
    pub host: Namespace,
    /// The metadata service, and the router to it.
    pub imds: Namespace,
}

/// Options of a lab.
#[derive(Debug)]
pub struct Builder {
    docker0: bool,
    host_services: bool,
}

impl Builder {
    /// Leaves docker0 to a real Docker daemon.
    pub fn without_docker0(mut self) -> Self {
        self.docker0 = false;
        self
    }

    /// A host on which no ECS agent listens (yet).
    pub fn without_agent(mut self) -> Self {
        self.host_services = false;
        self
    }

    /// Builds it; panics with the reason where that fails.
    #[track_caller]
    pub fn build(self) -> Lab {
        let make = |name, kind| {
            Namespace::new(name, kind).unwrap_or_else(|e| panic!("namespace {name}: {e}"))
        };
        let mut lab = Lab {
            servers: Vec::new(),
            docker: make("docker", Kind::Network),
            user: make("user", Kind::Network),
            awsvpc: make("awsvpc", Kind::Network),
            neighbour: make("neighbour", Kind::Network),
            host: make("host", Kind::Host),
            imds: make("imds", Kind::Network),
        };
        topology::World {
            imds: &lab.imds,
            host: &lab.host,
            docker: &lab.docker,
            user: &lab.user,
            awsvpc: &lab.awsvpc,
            neighbour: &lab.neighbour,
        }
        .connect(self.docker0)
        .unwrap_or_else(|e| panic!("connecting the lab: {e}"));
        lab.wait_for_links(self.docker0);
        counter::install(&lab.imds);
        lab.servers
            .extend(imds::start_imds(&lab.imds).expect("the metadata service starts"));
        if self.host_services {
            lab.servers
                .extend(imds::start_host(&lab.host).expect("the agent's services start"));
        }
        for dir in ["state", "run"] {
            fs::create_dir_all(lab.dir().join(dir)).expect("the lab's /run takes directories");
        }
        lab.write("ecs.config", "");
        lab.write("config.toml", "");
        lab
    }
}

impl Lab {
    /// The usual lab.
    #[track_caller]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A lab with options.
    pub fn builder() -> Builder {
        Builder {
            docker0: true,
            host_services: true,
        }
    }

    /// A bridge forwards to a port only once the kernel has noticed, on a work queue of its own, that
    /// the cable's other end is up; on a busy machine that takes a while.
    fn wait_for_links(&self, docker0: bool) {
        let mut links = vec![
            (&self.host, "10.0.0.1"),
            (&self.neighbour, "10.0.0.1"),
            (&self.user, "172.18.0.1"),
            (&self.awsvpc, "169.254.172.1"),
        ];
        if docker0 {
            links.push((&self.docker, "172.17.0.1"));
        }
        for (ns, gateway) in links {
            let gateway = gateway.parse().expect("an address");
            let link = format!("{}'s link carries packets", ns.name());
            wait::eventually(wait::LONG, &link, || {
                ns.icmp_echo(gateway).is_ok_and(|answered| answered)
            });
        }
    }

    /// All namespaces.
    pub fn namespaces(&self) -> [&Namespace; 6] {
        [
            &self.imds,
            &self.host,
            &self.docker,
            &self.user,
            &self.awsvpc,
            &self.neighbour,
        ]
    }

    /// The containers, one on each kind of bridge.
    pub fn containers(&self) -> [&Namespace; 3] {
        [&self.docker, &self.user, &self.awsvpc]
    }

    /// What arrived at the metadata service.
    pub fn counter(&self) -> Counter<'_> {
        Counter(&self.imds)
    }

    /// What other programs do to the host's rules.
    pub fn tamper(&self, backend: Backend) -> Tamper<'_> {
        Tamper::new(&self.host, backend)
    }

    /// The daemon's files: `ecs.config`, `config.toml`, `state/`, `run/`. In the host's memory, so
    /// that nothing is left even of a killed test; this is the way to it from outside.
    pub fn dir(&self) -> PathBuf {
        self.host.root().join(DIR.trim_start_matches('/'))
    }

    /// The same file as processes inside the host name it.
    pub fn inside(&self, file: &str) -> PathBuf {
        Path::new(DIR).join(file)
    }

    /// Writes one of the lab's files, as an editor does: in one go.
    #[track_caller]
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir().join(file), text).unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// Writes a shell script that the host's processes can start. Not by this process: a child that another test starts
    /// meanwhile has what is being written open too, and the kernel starts no such program (ETXTBSY, execve(2)).
    #[track_caller]
    pub fn script(&self, path: impl AsRef<OsStr>, text: &str) {
        let install = self.host.command("install").args(["-m", "755"]);
        let install = install.arg("/dev/stdin").arg(path);
        install.stdin(format!("#!/bin/sh\n{text}\n")).run();
    }

    /// A copy of the program under test that everybody in the host may run, as the build directory may be root's alone.
    /// It is made as a [`Lab::script`] is.
    #[track_caller]
    pub fn binary_for_all(&self) -> &'static str {
        const COPY: &str = "/run/ecs-netguard-bin";
        let install = self.host.command("install").args(["-m", "755"]);
        install.arg(daemon::binary()).arg(COPY).run();
        COPY
    }

    /// The program under test in the host, pointed at the lab's files.
    pub fn netguard<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> NsCommand<'_> {
        daemon::with_paths(self.host.command(daemon::binary()).args(args), self)
    }

    /// Starts the daemon with this ecs.config. Ready or not: the caller waits for what it needs.
    #[track_caller]
    pub fn start_daemon(&self, ecs_config: &str) -> Daemon {
        self.write("ecs.config", ecs_config);
        Daemon::start(self.netguard(["run"]))
    }
}
