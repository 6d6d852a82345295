//! All network namespaces of the machine, those of ECS tasks among them, and a look into each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::evidence::{self, Clues};
use super::labels::Labels;
use super::model::{Mode, Task};
pub use super::news::{News, Repair};
use super::place::{ASKED, HANDLES, Place, has_own_interface, open, task_id, vanished};
use super::power::Power;
use super::seen::Seen;
use super::space::Space;
use super::starts::ASIDE;
use super::task_netns::{Look, Sockets, Wish};
use crate::guarantee::awsvpc_imds_block::BRIDGES;
use crate::os::netns::Netns;
use crate::os::note::Note;
use crate::os::nsid::{Peers, Ports};
use crate::os::privilege;
use crate::os::procfs;
use crate::seal::task::TaskTable;

/// What the host's network namespace is, and what of others is known.
#[derive(Debug)]
pub struct Survey {
    home: Netns,
    peers: Peers,
    tasks: BTreeMap<u64, Space>,
    /// The other namespaces that the last pass saw.
    strangers: BTreeSet<u64>,
    labels: Labels,
    /// Where it notes which namespace it looks into.
    in_hand: Option<Note>,
    /// What it leaves alone, and until when.
    aside: (BTreeSet<u64>, Instant),
    /// The sockets of the last looks after events, by namespace, and when they are to be closed.
    lingering: BTreeMap<u64, (Instant, Sockets)>,
}

/// How long after the last event of a namespace a socket there stays open, for the next look: closed at once, it would
/// wait for the kernel to destroy what was deleted (see [`Socket`](crate::os::nft::Socket)), and the next event with
/// it. By then that is done.
const LINGER: Duration = Duration::from_millis(50);

/// In no more namespaces do they stay open.
const LINGERING: usize = 32;

impl Survey {
    /// Begins, with the calling thread's network namespace as the host's. The thread must do nothing
    /// else: a survey goes into other namespaces and comes back.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            home: Netns::current()?,
            peers: Peers::open()?,
            tasks: BTreeMap::new(),
            strangers: BTreeSet::new(),
            labels: Labels::default(),
            in_hand: None,
            aside: (BTreeSet::new(), Instant::now()),
            lingering: BTreeMap::new(),
        })
    }

    /// The same that notes which namespace it looks into, and leaves some alone for [`ASIDE`].
    #[must_use]
    pub fn watched(self, in_hand: Note, aside: BTreeSet<u64>) -> Self {
        Self {
            in_hand: Some(in_hand),
            aside: (aside, Instant::now() + ASIDE),
            ..self
        }
    }

    /// All tasks that are known.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().map(|space| &space.task)
    }

    /// The namespace to which the host gave this number, where it is a task's.
    #[must_use]
    pub fn numbered(&self, nsid: i32) -> Option<u64> {
        let mut spaces = self.tasks.iter();
        let of = spaces.find(|(_, space)| space.nsid == Some(nsid));
        of.map(|(inode, _)| *inode)
    }

    /// Forgets all tasks, and closes what keeps their namespaces alive; the inodes of these.
    pub fn forget(&mut self) -> Vec<u64> {
        self.lingering.clear();
        std::mem::take(&mut self.tasks).into_keys().collect()
    }

    /// Looks for namespaces that are new or gone, and into those that are new; into all with `every`.
    pub fn pass(&mut self, wish: Wish, every: bool) -> io::Result<News> {
        let mut news = News::default();
        let ports = Ports::of(&self.peers.links()?);
        let places = self.places(&mut news)?;
        let gone = |inode: &&u64| !places.contains_key(inode);
        news.gone = self.tasks.keys().filter(gone).copied().collect();
        for inode in &news.gone {
            self.tasks.remove(inode);
            self.lingering.remove(inode);
        }
        // What is new comes first: it may be a task that nothing stops yet.
        let known = |inode: &u64| self.tasks.contains_key(inode) || self.strangers.contains(inode);
        let (old, new): (Vec<u64>, Vec<u64>) = places.keys().partition(|inode| known(inode));
        for inode in new.into_iter().chain(old) {
            if let Some(place) = places.get(&inode) {
                self.go_to(inode, place, &ports, (wish, every), &mut news);
            }
        }
        let strangers = places
            .keys()
            .filter(|inode| !self.tasks.contains_key(inode));
        self.strangers = strangers.copied().collect();
        if news.unsure.is_empty() {
            return Ok(news);
        }
        news.warnings.extend(self.labels.read());
        let unsure = std::mem::take(&mut news.unsure);
        let (told, unsure) = unsure
            .into_iter()
            .partition(|name| self.labels.task(name).is_some());
        let told: BTreeSet<String> = told;
        news.unsure = unsure;
        for (inode, place) in places {
            if place.sandboxes().any(|name| told.contains(name)) {
                self.go_to(inode, &place, &ports, (wish, false), &mut news);
            }
        }
        Ok(news)
    }

    /// Looks into the namespaces behind the agent's bridges that are not known to be tasks' yet, as far as there are
    /// handles on them. That takes no walk through all processes, for which a new task's block would have to wait;
    /// what else there is to know of it the next pass finds.
    pub fn welcome(&mut self, wish: Wish) -> News {
        let mut news = News::default();
        let ports = Ports::of(&self.peers.links().unwrap_or_default());
        let is_known = |nsid| self.numbered(nsid).is_some();
        if ports.behind(&BRIDGES).all(is_known) {
            return news;
        }
        for (inode, place) in self.handles(&mut news) {
            let nsid = match open(&place.handles, inode) {
                Ok(ns) if !self.tasks.contains_key(&inode) => self.peers.nsid(&ns).ok().flatten(),
                _ => None,
            };
            if nsid.is_some_and(|nsid| ports.leads(&BRIDGES, nsid)) {
                self.go_to(inode, &place, &ports, (wish, false), &mut news);
            }
        }
        // Of which the next pass has more to say.
        news.troubles.clear();
        news.unsure.clear();
        news
    }

    /// Looks at one namespace.
    fn go_to(
        &mut self,
        inode: u64,
        place: &Place,
        ports: &Ports,
        how: (Wish, bool),
        news: &mut News,
    ) {
        let (aside, until) = &self.aside;
        let visited = if aside.contains(&inode) && Instant::now() < *until {
            Err(io::Error::other(
                "the process that looks into it ended over it again and again; it is left alone for an hour",
            ))
        } else {
            self.note(Some(inode));
            let visited = self.visit(inode, place, ports, how, news);
            self.note(None);
            visited
        };
        if let Err(error) = visited
            && !vanished(&error)
        {
            news.troubles.push(format!(
                "the network namespace {inode} cannot be looked into: {error}"
            ));
        }
    }

    /// Closes what is to be closed by now; when there is more of that.
    pub fn close(&mut self, now: Instant) -> Option<Instant> {
        self.lingering.retain(|_, (due, _)| *due > now);
        self.lingering.values().map(|(due, _)| *due).min()
    }

    /// Looks into one task's namespace, and repairs what is wrong there.
    pub fn tend(&mut self, inode: u64, wish: Wish, news: &mut News) -> io::Result<()> {
        self.note(Some(inode));
        // Something changed: whether it did need not be asked first.
        let done = self.look_into(inode, wish, (false, true), news);
        self.note(None);
        done
    }

    fn note(&self, inode: Option<u64>) {
        self.in_hand.iter().for_each(|note| note.write(inode));
    }

    /// A look; with `compare`, only where something is not as the last one found it, and with `linger` with sockets
    /// that stay open for the next one.
    fn look_into(
        &mut self,
        inode: u64,
        wish: Wish,
        (compare, linger): (bool, bool),
        news: &mut News,
    ) -> io::Result<()> {
        let Some(space) = self.tasks.get_mut(&inode) else {
            return Ok(());
        };
        let began = Instant::now();
        let lingering = self.lingering.remove(&inode);
        let (known, before) = (space.cookie, space.found.take());
        let linger = linger || lingering.is_some();
        // Before the first look there is nothing to compare with, and no time to lose.
        let compare = compare && space.looked;
        let take = |mut sockets: Sockets| {
            let seen = compare.then(|| Seen::now(&mut sockets, wish)).flatten();
            let look = match before {
                Some((then, look)) if seen.as_ref() == Some(&then) => look,
                _ => Look::take(&mut sockets, wish, known)?,
            };
            Some((seen, look, began.elapsed(), sockets))
        };
        let looked = match lingering {
            Some((_, sockets)) => take(sockets),
            None => {
                let ns = open(&space.handles, inode)?;
                ns.with(&self.home, || take(Sockets::open()))?
            }
        };
        let Some((seen, look, took, sockets)) = looked else {
            // Another namespace got the number: it is not the one that was recognised.
            self.tasks.remove(&inode);
            news.gone.push(inode);
            return Ok(());
        };
        if linger && look.is_whole() {
            if self.lingering.len() >= LINGERING {
                let oldest = self.lingering.iter().min_by_key(|(_, (due, _))| *due);
                let oldest = oldest.map(|(inode, _)| *inode);
                oldest.and_then(|inode| self.lingering.remove(&inode));
            }
            let due = Instant::now() + LINGER;
            self.lingering.insert(inode, (due, sockets));
        }
        space.looked = true;
        if !look.done.is_empty() {
            if wish == Wish::Nothing {
                let task = space.id.clone().unwrap_or_else(|| format!("netns {inode}"));
                let of_task = |object: &String| format!("task {task}: {object}");
                news.released.extend(look.done.iter().map(of_task));
            } else if space.kept {
                news.repairs.push(Repair {
                    netns: inode,
                    objects: look.done.clone(),
                    took,
                });
            }
        }
        space.cookie = look.cookie;
        space.kept = wish == Wish::Keep;
        let (standing, problems, notes) = look.verdict();
        let task = Task {
            id: space.id.clone().unwrap_or_else(|| format!("netns {inode}")),
            mode: Mode::Awsvpc,
            netns: Some(inode),
            standing,
            problems,
            notes,
            frames_stopped: look.frames == Some(TaskTable::Intact),
            powers: Power::of(space.processes.values().fold(0, |all, mask| all | mask)),
        };
        space.learn(task, news);
        space.found = seen.filter(|_| look.is_settled()).map(|seen| (seen, look));
        Ok(())
    }

    /// Where the namespaces are on which there are handles.
    fn handles(&self, news: &mut News) -> BTreeMap<u64, Place> {
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        let entries = HANDLES.iter().flat_map(fs::read_dir).flatten();
        for entry in entries.flatten() {
            let path = entry.path();
            match self.home.identify(&path) {
                Ok(Some(inode)) => places.entry(inode).or_default().handles.push(path),
                // Docker and the agent make the file before they mount the handle over it.
                Ok(None) => {}
                Err(error) if vanished(&error) => {}
                Err(error) => news
                    .troubles
                    .push(format!("open {}: {error}", path.display())),
            }
        }
        places
    }

    /// Where all namespaces are but the host's.
    fn places(&self, news: &mut News) -> io::Result<BTreeMap<u64, Place>> {
        let mut places = self.handles(news);
        let (by_process, hidden) = procfs::namespaces()?;
        for (inode, processes) in by_process {
            places.entry(inode).or_default().processes = processes;
        }
        // A process that cannot be seen even with it has more rights than root here: no task has.
        if hidden > 0 && !privilege::has_sys_ptrace() {
            news.troubles.push(format!(
                "the network namespaces of {hidden} processes cannot be seen without CAP_SYS_PTRACE"
            ));
        }
        places.remove(&self.home.inode);
        Ok(places)
    }

    fn visit(
        &mut self,
        inode: u64,
        place: &Place,
        ports: &Ports,
        (wish, every): (Wish, bool),
        news: &mut News,
    ) -> io::Result<()> {
        let label = place.sandboxes().find_map(|name| self.labels.task(name));
        let mut names = place.handles.iter().filter_map(|h| h.file_name()?.to_str());
        let named = names.find_map(evidence::task_in);
        let mut handles = place.handles.clone();
        handles.extend(
            place
                .processes
                .iter()
                .take(ASKED)
                .map(|pid| procfs::handle(*pid)),
        );
        if let Some(space) = self.tasks.get_mut(&inode) {
            space.handles = handles;
            if every {
                // A container's first process gives its capabilities up on the way to its program.
                space.processes.clear();
            }
            let anew = space.count(&self.home, inode, &place.processes);
            let nameless = space.id.is_none();
            if nameless {
                space.id = task_id(&place.processes)
                    .or_else(|| label.cloned())
                    .or(named);
            }
            if space.id.is_none() {
                news.unsure.extend(place.sandboxes().map(str::to_owned));
            }
            let learned = nameless && space.id.is_some();
            if every || anew || learned {
                self.look_into(inode, wish, (true, !every), news)?;
            }
            // One that had another's number is a stranger: the next pass judges it.
            return Ok(());
        }
        let ns = open(&handles, inode)?;
        let nsid = self.peers.nsid(&ns)?;
        let mut clues = Clues {
            ecs_port: nsid.is_some_and(|nsid| ports.leads(&BRIDGES, nsid)),
            other_port: nsid.is_some_and(|nsid| ports.leads_otherwise(&BRIDGES, nsid)),
            ..Clues::default()
        };
        if clues.ecs_port || !clues.other_port {
            clues.cgroup = task_id(&place.processes);
            clues.label = label.cloned();
            clues.handle = named;
        }
        let tellable =
            clues.cgroup.is_some() || clues.handle.is_some() || place.sandboxes().next().is_some();
        if !clues.ecs_port && !clues.other_port && tellable {
            clues.own_interface = ns.with(&self.home, has_own_interface)??;
        }
        let id = (clues.cgroup.clone())
            .or_else(|| clues.label.clone())
            .or_else(|| clues.handle.clone());
        let recognised = evidence::weigh(&clues).is_some();
        if evidence::unsure(&clues) || (recognised && id.is_none()) {
            news.unsure.extend(place.sandboxes().map(str::to_owned));
        }
        if !recognised {
            return Ok(());
        }
        // A namespace is heard of only once the host has a number for it; that does not pin it.
        let nsid = match nsid {
            Some(nsid) => Some(nsid),
            None => self.peers.number(&ns)?,
        };
        let mut space = Space::unseen(inode, nsid, handles, id);
        space.count(&self.home, inode, &place.processes);
        self.tasks.insert(inode, space);
        self.look_into(inode, wish, (true, !every), news)
    }
}
