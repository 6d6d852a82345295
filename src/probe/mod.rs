//! Proof by packets: a probe sends them to the instance metadata service from wherever containers are,
//! and asks for credentials there. It changes nothing, and leaves nothing.
//!
//! What is sent from where, and what it comes to, are values ([`model`], [`verdict`]); packets are bytes
//! ([`packet`]). A thread each sends from a throwaway container on a bridge ([`bridge`]), from a task's
//! network namespace ([`task`]); a process does from a throwaway cgroup ([`host_tasks`]). Nothing of this
//! has a name that would outlive its maker.
//!
//! Whether a packet got out is not guessed from an answer that is missing: a tap on the host's interfaces
//! sees what is handed to their drivers, behind every hook and queue ([`watch`]).

pub mod address;
mod bridge;
pub mod host_tasks;
pub mod model;
pub mod packet;
mod post;
pub mod record;
mod task;
pub mod verdict;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use self::bridge::Bridge;
use self::model::{Asked, Place, Tried};
use self::watch::{Exits, Watch, host_exits};
use crate::os::netns::Netns;
use crate::os::nsid::Peers;
use crate::os::procfs;
use crate::os::veth::Wires;
use crate::tasks::place::HANDLES;

/// How long all of it may take. A place that is not done by then is undecided.
const LIMIT: Duration = Duration::from_secs(20);

/// How long the kernel may take to remove what was made.
const CLEARED: Duration = Duration::from_secs(3);

/// The names of the host's bridges.
pub fn bridges() -> io::Result<Vec<String>> {
    let links = Peers::open()?.links()?;
    let bridges = links
        .into_iter()
        .filter(|of| of.kind.as_deref() == Some("bridge"));
    let mut names: Vec<String> = bridges.map(|bridge| bridge.name).collect();
    names.sort();
    Ok(names)
}

/// Tries all places, at the same time; `program` is this program, which is started again for what needs
/// a process of its own. In the calling thread's network namespace, which is the host's.
pub fn run(asked: &[Asked], program: &Path) -> anyhow::Result<Vec<Tried>> {
    let shared = Arc::new(Shared::open(program)?);
    let (sender, receiver) = mpsc::sync_channel(asked.len());
    let ports = bridge::ports();
    for (number, asked) in asked.iter().enumerate() {
        let (shared, asked, sender) = (Arc::clone(&shared), asked.clone(), sender.clone());
        thread::Builder::new()
            .name("probe".to_owned())
            .spawn(move || {
                let tried = shared.probe(number, &asked);
                let tried = tried.unwrap_or_else(|why| Tried::failed(&asked, format!("{why:#}")));
                // Past the limit there is no receiver any more.
                let _late = sender.send((number, tried));
            })
            .context("start a thread")?;
    }
    drop(sender);
    let until = Instant::now() + LIMIT;
    let mut found = BTreeMap::new();
    while let Ok((number, tried)) =
        receiver.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        found.insert(number, tried);
    }
    wait_until_cleared(&ports);
    let late = || format!("not done within {} s", LIMIT.as_secs());
    let all = asked.iter().enumerate();
    Ok(all
        .map(|(number, asked)| {
            let tried = found.remove(&number);
            tried.unwrap_or_else(|| Tried::failed(asked, late()))
        })
        .collect())
}

/// What all places have in common.
struct Shared {
    host: Mutex<Watch>,
    exits: Exits,
    home: Netns,
    bridges: BTreeMap<String, Bridge>,
    /// Handles on other network namespaces, by inode.
    handles: BTreeMap<u64, Vec<PathBuf>>,
    program: PathBuf,
}

impl Shared {
    fn open(program: &Path) -> anyhow::Result<Self> {
        let links = Peers::open()?.links()?;
        let mut wires = Wires::open()?;
        let addresses = wires.addresses()?;
        let mut bridges = BTreeMap::new();
        for link in links
            .iter()
            .filter(|of| of.kind.as_deref() == Some("bridge"))
        {
            let name = &link.name;
            if let Some(bridge) = Bridge::find(name, &links, &addresses, &mut wires)? {
                bridges.insert(name.clone(), bridge);
            }
        }
        let home = Netns::current()?;
        let exits = host_exits(&links);
        Ok(Self {
            host: Mutex::new(Watch::open(exits.clone()).context("watch the host's interfaces")?),
            exits,
            bridges,
            handles: handles(&home)?,
            home,
            program: program.to_owned(),
        })
    }

    fn probe(&self, number: usize, asked: &Asked) -> anyhow::Result<Tried> {
        match &asked.place {
            Place::Host => task::probe_here(&self.host, &self.exits, asked),
            Place::Bridge { name } => {
                let Some(bridge) = self.bridges.get(name) else {
                    return Ok(Tried::noted(asked, "it is gone"));
                };
                bridge::probe(&self.host, bridge, &bridge::port(number), asked)
            }
            Place::Task { .. } => match self.task(asked) {
                Some(task) => task::probe(&self.host, &task, &self.home, asked),
                None => Ok(Tried::noted(asked, "it has ended")),
            },
            Place::HostTasks { .. } => host_tasks::probe(&self.program, asked),
        }
    }

    fn task(&self, asked: &Asked) -> Option<Netns> {
        let inode = asked.netns?;
        let handles = self.handles.get(&inode)?;
        let mut opened = handles.iter().filter_map(|path| Netns::open(path).ok());
        opened.find(|netns| netns.inode == inode)
    }
}

/// How other network namespaces can be opened: by their processes, and by handles of Docker or of the agent.
fn handles(home: &Netns) -> io::Result<BTreeMap<u64, Vec<PathBuf>>> {
    let (by_process, _) = procfs::namespaces()?;
    let handles = |pids: Vec<u32>| pids.into_iter().map(procfs::handle).collect();
    let mut found: BTreeMap<u64, Vec<PathBuf>> = by_process
        .into_iter()
        .map(|(inode, pids)| (inode, handles(pids)))
        .collect();
    let folders = HANDLES.iter().flat_map(std::fs::read_dir);
    for entry in folders.flatten().flatten() {
        if let Ok(Some(inode)) = home.identify(&entry.path()) {
            found.entry(inode).or_default().push(entry.path());
        }
    }
    Ok(found)
}

/// The threads have ended; the kernel removes their namespaces, and the veth pairs into them, a moment later.
fn wait_until_cleared(ports: &str) {
    let began = Instant::now();
    let there = || {
        let links = Peers::open().and_then(|mut peers| peers.links());
        links.is_ok_and(|all| all.iter().any(|link| link.name.starts_with(ports)))
    };
    while began.elapsed() < CLEARED && there() {
        thread::sleep(Duration::from_millis(10));
    }
}
