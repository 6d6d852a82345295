//! One look into a task's network namespace: what stands there against the metadata service, what
//! was restored, and what that comes to.

use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::readable;
use crate::guarantee::edge::Interface;
use crate::guarantee::{awsvpc_imds_block, imds_block};
use crate::os::nft::Socket;
use crate::os::routes::{Routes, Way};
use crate::ruleset::Family;
use crate::seal::{
    self,
    edge::task as edge,
    task::{self, TaskTable},
};
use crate::verdict::Standing;

/// How many interfaces that lead out are named: a task may make thousands.
const NAMED: usize = 8;

/// What is wanted of the tasks' namespaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Nothing: what the guard put there is taken out.
    #[default]
    Nothing,
    /// That they are looked at and judged; nothing is changed.
    Audit,
    /// That the metadata service stays out of reach.
    Keep,
}

/// What a look found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// How packets for the service fare, a family each.
    pub families: Vec<Found>,
    /// Whether the native table stands.
    pub drop: Option<TaskTable>,
    /// Why the native table could not be read or written.
    pub no_drop: Option<String>,
    /// Whether the chains at the interfaces stand, which stop raw frames.
    pub frames: Option<TaskTable>,
    /// Why they could not be read or written.
    pub no_frames: Option<String>,
    /// What tells the namespace from a later one with the same inode, where the kernel has such a thing.
    pub cookie: Option<u64>,
    /// What was changed, in words.
    pub done: Vec<String>,
    /// What could not be read or changed.
    pub failures: Vec<String>,
}

/// How packets of one family fare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub family: Family,
    /// By the routing tables and rules.
    pub way: Way,
    /// The priority of the rule that leads to that table, where they go out.
    pub rule: Option<u32>,
    /// The interfaces by which a socket that names one gets past a blackhole.
    pub past: Vec<String>,
}

/// The sockets of a look.
#[derive(Debug)]
pub struct Sockets {
    pub(super) routes: Result<Routes, String>,
    pub(super) tables: Result<Socket, String>,
}

impl Sockets {
    /// Opens them in the calling thread's network namespace. Until they are closed they keep it alive; to close them
    /// may take time, as with any [`Socket`].
    #[must_use]
    pub fn open() -> Self {
        Self {
            routes: Routes::open().map_err(|error| format!("ask for routes: {error}")),
            tables: Socket::open().map_err(|error| error.to_string()),
        }
    }

    /// All interfaces but the loopback.
    pub(super) fn interfaces(&mut self) -> Result<Vec<Interface>, String> {
        let routes = self.routes.as_mut().map_err(|error| error.clone())?;
        let all = routes.interfaces();
        let mut all = all.map_err(|error| format!("list the interfaces: {error}"))?;
        all.retain(|one| !one.loopback);
        Ok(all)
    }
}

impl Look {
    /// Takes it, in the network namespace of the sockets; `None` where that is not the one with this cookie.
    #[must_use]
    pub fn take(sockets: &mut Sockets, wish: Wish, cookie: Option<u64>) -> Option<Self> {
        let mut look = Self {
            cookie: sockets.routes.as_ref().ok().and_then(Routes::cookie),
            ..Self::default()
        };
        if cookie.is_some() && cookie != look.cookie {
            return None;
        }
        // What stops packets whatever the routes are comes first: the program that deleted it is about to close its
        // socket, and nobody can write until the kernel has destroyed what was deleted.
        let table = match &mut sockets.tables {
            Ok(tables) => look.table(tables, wish).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        look.no_drop = table.err();
        let interfaces = sockets.interfaces();
        if let Ok(tables) = &mut sockets.tables {
            let frames = interfaces.and_then(|interfaces| {
                let kept = look.frames(tables, wish, &interfaces);
                kept.map_err(|error| error.to_string())
            });
            look.no_frames = frames.err();
        }
        match &mut sockets.routes {
            Ok(routes) => {
                for family in [Family::V4, Family::V6] {
                    if let Err(error) = look.route(routes, family, wish) {
                        look.failures.push(format!("{family} routes: {error}"));
                    }
                }
            }
            Err(error) => look.failures.push(error.clone()),
        }
        // Not knowing of a way out is not knowing that there is none.
        if wish != Wish::Nothing
            && look.drop != Some(TaskTable::Intact)
            && let Err(error) = look.name_interfaces(sockets)
        {
            look.failures
                .push(format!("ask which interfaces lead out: {error}"));
        }
        Some(look)
    }

    /// Whether everything could be read and changed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.failures.is_empty() && self.no_drop.is_none() && self.no_frames.is_none()
    }

    /// Whether everything was read, and nothing was or remains to be changed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.done.is_empty() && self.is_whole()
    }

    fn route(&mut self, routes: &mut Routes, family: Family, wish: Wish) -> io::Result<()> {
        let service = imds_block::address(family);
        if wish == Wish::Nothing {
            if routes.unblock(service)? {
                self.done.push(format!("blackhole {service}"));
            }
            return Ok(());
        }
        let mut way = routes.way(service, None)?;
        if wish == Wish::Keep && matches!(way, Way::Out { .. } | Way::None) {
            match routes.block(service) {
                Ok(_) => {
                    self.done.push(format!("blackhole {service}"));
                    way = routes.way(service, None)?;
                }
                // With no way out there is nothing to close: IPv6 may be switched off here.
                Err(_) if way == Way::None => {}
                Err(error) => self
                    .failures
                    .push(format!("add a blackhole route for {service}: {error}")),
            }
        }
        let rule = match way {
            Way::Out { table, .. } => routes.rule_to(service, table)?,
            _ => None,
        };
        self.families.push(Found {
            family,
            way,
            rule,
            past: Vec::new(),
        });
        Ok(())
    }

    fn frames(
        &mut self,
        socket: &mut Socket,
        wish: Wish,
        interfaces: &[Interface],
    ) -> Result<(), seal::Error> {
        let wanted = (wish != Wish::Nothing).then_some(interfaces);
        let changed = wish != Wish::Audit && edge::keep(socket, wanted)?;
        if changed {
            self.done
                .push("nftables table netdev ecs_netguard".to_owned());
        }
        self.frames = state(wish, changed, || edge::look(socket, interfaces))?;
        Ok(())
    }

    fn table(&mut self, socket: &mut Socket, wish: Wish) -> Result<(), seal::Error> {
        let wanted = match wish {
            Wish::Nothing => Vec::new(),
            Wish::Audit | Wish::Keep => awsvpc_imds_block::drops(),
        };
        let changed = wish != Wish::Audit && task::keep(socket, &wanted)?;
        if changed {
            self.done
                .push("nftables table inet ecs_netguard".to_owned());
        }
        self.drop = state(wish, changed, || task::look(socket, &wanted))?;
        Ok(())
    }

    /// Asks by which interfaces a socket that names one gets past the routes, and names the first few.
    fn name_interfaces(&mut self, sockets: &mut Sockets) -> Result<(), String> {
        let interfaces = sockets.interfaces()?;
        let routes = sockets.routes.as_mut().map_err(|error| error.clone())?;
        for found in &mut self.families {
            let service: IpAddr = imds_block::address(found.family);
            for interface in &interfaces {
                let way = routes.way(service, Some(interface.index));
                if let Way::Out { .. } = way.map_err(|error| error.to_string())? {
                    found.past.push(readable(&interface.name));
                }
                if found.past.len() == NAMED {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What it comes to: the standing, what keeps it from being held, and what else to know.
    #[must_use]
    pub fn verdict(&self) -> (Standing, Vec<String>, Vec<String>) {
        let sealed = self.drop == Some(TaskTable::Intact);
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        for found in &self.families {
            let service = imds_block::address(found.family);
            let around = match found.way {
                Way::Out { table, .. } => {
                    let rule = found.rule.map_or_else(String::new, |priority| {
                        format!(", to which the rule of priority {priority} leads")
                    });
                    Some(format!(
                        "routing table {table}{rule}, has a way to {service} \
                         (`ip rule`, `ip route show table {table}` in the task)"
                    ))
                }
                _ if found.past.is_empty() => None,
                _ => Some(format!(
                    "a socket that names its interface ({}) gets past the blackhole route to \
                     {service}",
                    found.past.join(", ")
                )),
            };
            match around {
                Some(around) if sealed => {
                    notes.push(format!("{around}; the native table stops it"))
                }
                Some(around) => problems.push(around),
                None => {}
            }
        }
        if !problems.is_empty() {
            if let Some(error) = &self.no_drop {
                problems.push(format!(
                    "the native table that would stop it cannot be kept: {error}"
                ));
            }
            return (Standing::Violated, problems, notes);
        }
        if !sealed && !self.failures.is_empty() {
            return (Standing::Undecided, self.failures.clone(), notes);
        }
        notes.extend(self.failures.iter().cloned());
        notes.extend(
            self.no_frames
                .iter()
                .map(|error| format!("native table of raw frames: {error}")),
        );
        notes.extend(
            self.no_drop
                .iter()
                .map(|error| format!("native table: {error}")),
        );
        (Standing::Held, problems, notes)
    }
}

/// What a table is. One that was to be kept and needed no change was found intact just now.
fn state(
    wish: Wish,
    changed: bool,
    look: impl FnOnce() -> Result<TaskTable, seal::Error>,
) -> Result<Option<TaskTable>, seal::Error> {
    match wish {
        Wish::Nothing => Ok(None),
        Wish::Keep if !changed => Ok(Some(TaskTable::Intact)),
        Wish::Keep | Wish::Audit => look().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(way: Way, past: &[&str], drop: Option<TaskTable>) -> Look {
        Look {
            families: vec![Found {
                family: Family::V4,
                way,
                rule: Some(100),
                past: past.iter().map(|name| (*name).to_owned()).collect(),
            }],
            drop,
            ..Look::default()
        }
    }

    const AROUND: Way = Way::Out {
        interface: 2,
        table: 100,
    };

    #[test]
    fn a_way_around_is_named_with_its_table_and_rule() {
        let (standing, problems, _) = look(AROUND, &[], Some(TaskTable::Missing)).verdict();
        assert_eq!(standing, Standing::Violated);
        assert!(problems[0].contains("table 100"), "{problems:?}");
        assert!(problems[0].contains("priority 100"), "{problems:?}");
        let (standing, problems, notes) = look(AROUND, &[], Some(TaskTable::Intact)).verdict();
        assert_eq!((standing, problems.as_slice()), (Standing::Held, &[][..]));
        assert!(notes[0].ends_with("the native table stops it"), "{notes:?}");
    }

    #[test]
    fn a_blackhole_alone_is_no_block() {
        let (standing, problems, _) =
            look(Way::Refused, &["eth0"], Some(TaskTable::Missing)).verdict();
        assert_eq!(standing, Standing::Violated);
        assert!(
            problems[0].contains("names its interface (eth0)"),
            "{problems:?}"
        );
        let (standing, ..) = look(Way::Refused, &["eth0"], Some(TaskTable::Altered)).verdict();
        assert_eq!(standing, Standing::Violated);
        let (standing, ..) = look(Way::Refused, &[], Some(TaskTable::Intact)).verdict();
        assert_eq!(standing, Standing::Held);
        // Without any interface there is no way out.
        let (standing, ..) = look(Way::None, &[], None).verdict();
        assert_eq!(standing, Standing::Held);
    }

    #[test]
    fn what_could_not_be_read_is_undecided_unless_the_table_stands() {
        let unread = |drop| Look {
            drop,
            failures: vec!["IPv4 routes: refused".to_owned()],
            ..Look::default()
        };
        assert_eq!(unread(None).verdict().0, Standing::Undecided);
        assert_eq!(unread(Some(TaskTable::Intact)).verdict().0, Standing::Held);
    }
}
