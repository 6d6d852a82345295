//! What the process that goes into tasks' namespaces tells, as events.

use std::time::Duration;

use super::model::Task;
use super::protocol::{Happened, Repaired};
use crate::events::{By, Event, Kind, format_duration};
use crate::guarantee::Guarantee;

const ABOUT: Guarantee = Guarantee::AwsvpcImdsBlock;

/// What the daemon's loop hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A task appeared, changed or is gone.
    Changed,
    /// Something happened.
    Happened(Box<Event>),
    /// Something it said was not understood.
    Trouble(String),
    /// It ended and was started again.
    Restarted(String),
    /// The process is gone.
    Ended,
}

impl Happened {
    /// In which namespace, by its inode.
    #[must_use]
    pub const fn netns(&self) -> Option<u64> {
        match self {
            Self::Repaired(Repaired { netns, .. }) | Self::Fight(netns) => Some(*netns),
            Self::Released(_) | Self::Trouble(_) => None,
        }
    }

    /// The event; `task` is the one with that namespace, where it is known, and `who` finds out more of a
    /// process.
    #[must_use]
    pub fn event(self, task: Option<&Task>, who: fn(u32, &str) -> By) -> Event {
        let task = match (task, self.netns()) {
            (Some(task), _) => task.id.clone(),
            (None, Some(netns)) => format!("netns {netns}"),
            (None, None) => String::new(),
        };
        let event = match self {
            Self::Repaired(repaired) => self::repaired(&task, repaired, who),
            Self::Fight(_) => Event::new(
                Kind::Fight,
                format!(
                    "{ABOUT}: task {task} undoes the block in its own network namespace again and \
                     again; it is restored each time, with a short rest after it: stop the task, or \
                     take CAP_NET_ADMIN from its task definition"
                ),
            ),
            Self::Released(object) => {
                Event::new(Kind::Installed, format!("{ABOUT}: {object} removed"))
            }
            Self::Trouble(message) => Event::new(Kind::Warning, message),
        };
        event.about(ABOUT)
    }
}

fn repaired(task: &str, repaired: Repaired, who: fn(u32, &str) -> By) -> Event {
    let more = match repaired.more {
        0 => String::new(),
        more => format!("; {more} more repairs there since the last report"),
    };
    if repaired.objects.is_empty() {
        return Event::new(Kind::Drift, format!("{ABOUT}: task {task}{more}"));
    }
    let took = Duration::from_micros(repaired.micros);
    let message = format!(
        "{ABOUT}: {} missing in the network namespace of task {task}, repaired in {}{more}",
        repaired.objects.join(" and "),
        format_duration(took)
    );
    Event {
        objects: repaired.objects,
        by: repaired.by.map(|(pid, comm)| who(pid, &comm)),
        repair: Some(took),
        ..Event::new(Kind::Drift, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_names_the_task_and_how_long_it_took() {
        let happened = Happened::Repaired(Repaired {
            netns: 4_026_532_000,
            objects: vec!["blackhole 169.254.169.254".into()],
            micros: 184,
            by: None,
            more: 2,
        });
        let event = happened.event(None, |_, _| By::default());
        assert_eq!(
            event.message,
            "awsvpc-imds-block: blackhole 169.254.169.254 missing in the network namespace of task netns \
             4026532000, repaired in 184 µs; 2 more repairs there since the last report"
        );
        assert_eq!(event.repair, Some(Duration::from_micros(184)));
        assert_eq!(event.kind, Kind::Drift);
    }
}
