//! What the daemon and the process that goes into tasks' namespaces say to each other.

use serde::{Deserialize, Serialize};

use super::model::Task;
use super::power::Power;
use super::task_netns::Wish;
use crate::config::sanitize_to;

/// How many texts of a kind a message has, and how long each is: all of them together are shorter than the
/// longest message, whatever a task does.
const MOST_TEXTS: usize = 16;
const TEXT_BYTES: usize = 600;

/// What the daemon wants. Every order asks for a look at everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Counts up, for the answer.
    pub number: u64,
    /// What is wanted from now on.
    pub wish: Wish,
}

/// What is reported to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A task is new, or something of it is different.
    Task(Task),
    /// The task with this namespace is gone.
    Gone(u64),
    /// Something happened.
    Happened(Happened),
    /// It begins anew, since the one before it ended like this. What it was told is lost.
    Restarted(String),
    /// The look at everything that an order asked for is over.
    Complete {
        /// The order's number.
        number: u64,
        /// What could not be found out.
        troubles: Vec<String>,
    },
}

impl Told {
    /// The same within bounds: what is more is counted.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Task(mut task) => {
                task.id = text(&task.id);
                few(&mut task.problems);
                few(&mut task.notes);
                let has = |power: &Power| task.powers.contains(power);
                task.powers = Power::ALL.into_iter().filter(has).collect();
                Self::Task(task)
            }
            Self::Complete {
                number,
                mut troubles,
            } => {
                few(&mut troubles);
                Self::Complete { number, troubles }
            }
            Self::Happened(happened) => Self::Happened(match happened {
                Happened::Repaired(mut repaired) => {
                    few(&mut repaired.objects);
                    repaired.by = repaired.by.map(|(pid, name)| (pid, text(&name)));
                    Happened::Repaired(repaired)
                }
                Happened::Released(object) => Happened::Released(text(&object)),
                Happened::Trouble(trouble) => Happened::Trouble(text(&trouble)),
                Happened::Fight(netns) => Happened::Fight(netns),
            }),
            Self::Restarted(why) => Self::Restarted(text(&why)),
            Self::Gone(netns) => Self::Gone(netns),
        }
    }
}

fn few(texts: &mut Vec<String>) {
    let more = texts.len().saturating_sub(MOST_TEXTS);
    texts.truncate(MOST_TEXTS);
    for each in &mut *texts {
        *each = text(each);
    }
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
}

fn text(of: &str) -> String {
    sanitize_to(of, TEXT_BYTES)
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// Something was restored.
    Repaired(Repaired),
    /// The task with this namespace undoes again and again what is restored.
    Fight(u64),
    /// This was taken out of a task's namespace.
    Released(String),
    /// This could not be done.
    Trouble(String),
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repaired {
    /// The inode of the namespace.
    pub netns: u64,
    /// What was missing.
    pub objects: Vec<String>,
    /// From hearing of it until it was back, in microseconds.
    pub micros: u64,
    /// The process that removed it, where the kernel tells: its number and name.
    pub by: Option<(u32, String)>,
    /// How many more repairs of this namespace there were since the last one that was reported.
    pub more: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::channel::LONGEST;
    use crate::tasks::Mode;
    use crate::verdict::Standing;

    #[test]
    fn nothing_that_is_told_is_too_long() {
        let texts = |of: &str| vec![of.repeat(10_000); 500];
        for of in ["x", "\u{1b}", "\"", "\\", "\u{1f600}", "\u{fdd0}"] {
            let task = Task {
                id: of.repeat(10_000),
                mode: Mode::Awsvpc,
                netns: Some(u64::MAX),
                standing: Standing::Violated,
                problems: texts(of),
                notes: texts(of),
                frames_stopped: true,
                powers: vec![Power::NetRaw; 10_000],
            };
            let repaired = Repaired {
                netns: 7,
                objects: texts(of),
                micros: u64::MAX,
                by: Some((7, of.repeat(10_000))),
                more: u64::MAX,
            };
            for told in [
                Told::Task(task),
                Told::Complete {
                    number: u64::MAX,
                    troubles: texts(of),
                },
                Told::Happened(Happened::Repaired(repaired)),
                Told::Happened(Happened::Trouble(of.repeat(10_000))),
                Told::Happened(Happened::Released(of.repeat(10_000))),
                Told::Restarted(of.repeat(10_000)),
            ] {
                let bytes = serde_json::to_vec(&told.bounded()).unwrap();
                assert!(bytes.len() < LONGEST, "{} bytes of {of:?}", bytes.len());
            }
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut texts: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        few(&mut texts);
        assert_eq!(texts.len(), 17);
        assert_eq!(texts.last().unwrap(), "and 4 more");
    }
}
