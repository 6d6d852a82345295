//! What is known of a task, as a value that is reported, shown and judged. Pure.

use serde::{Deserialize, Serialize};

use super::power::Power;
use crate::guarantee::Guarantee;
use crate::prove::{End, Hook, Outcome, Step, Walk};
use crate::verdict::{Proof, Standing, Verdict};

/// The network mode of a task, as its task definition names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A network namespace and an interface of its own.
    Awsvpc,
    /// The host's own network.
    Host,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Awsvpc, Self::Host];

    /// The word of task definitions, of the API and of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Awsvpc => "awsvpc",
            Self::Host => "host",
        }
    }
}

/// A task and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The ECS task's id; `netns 4026532…` where nothing tells it.
    pub id: String,
    /// Its network mode.
    pub mode: Mode,
    /// The inode of its network namespace; absent where that is the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u64>,
    /// Whether it is kept from the metadata service.
    pub standing: Standing,
    /// What keeps it from being so, or from being known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// What is to be known besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether native chains stop its raw frames: at its own interfaces, or for tasks on the host's network at
    /// the host's edge.
    #[serde(default)]
    pub frames_stopped: bool,
    /// What its processes could do about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub powers: Vec<Power>,
}

impl Task {
    /// One on the host's own network. No rule tells one of these from another: they stand as the guarantee
    /// about all of them does.
    #[must_use]
    pub fn on_host(id: &str, capabilities: u64, standing: Standing, frames_stopped: bool) -> Self {
        Self {
            id: id.to_owned(),
            mode: Mode::Host,
            netns: None,
            standing,
            problems: Vec::new(),
            notes: Vec::new(),
            frames_stopped,
            powers: Power::of(capabilities),
        }
    }

    /// The claim about an awsvpc task, with its verdict.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let (id, mode) = (&self.id, self.mode.name());
        let (guarantee, why) = (Guarantee::AwsvpcImdsBlock, self.problems.join("; "));
        let claim = format!("no packet of the {mode} task {id} reaches the metadata service");
        let verdict = match self.standing {
            Standing::Held | Standing::NotRequired => Verdict::Held,
            Standing::Violated => Verdict::Violated {
                walk: way_out(&self.id, why),
            },
            Standing::Undecided => return Proof::undecided(guarantee, claim, why),
        };
        Proof {
            guarantee,
            claim,
            visible: verdict == Verdict::Held,
            verdict,
        }
    }
}

/// The way by which a task's packets get out.
#[must_use]
pub fn way_out(task: &str, why: String) -> Walk {
    Walk {
        steps: vec![Step {
            hook: Hook::Output,
            table: "task".to_owned(),
            chain: task.to_owned(),
            rule: None,
            text: why,
            outcome: Outcome::Matched,
            note: String::new(),
        }],
        ends: vec![End::LetThrough],
        ..Walk::default()
    }
}

/// What is known of all tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks {
    /// Those that run.
    pub running: Vec<Task>,
    /// Why there may be others, or why nothing is known of them.
    pub unknown: Vec<String>,
}

impl Tasks {
    /// The claims about them, with their verdicts.
    #[must_use]
    pub fn proofs(&self) -> Vec<Proof> {
        let awsvpc = self.running.iter().filter(|task| task.mode == Mode::Awsvpc);
        let mut proofs: Vec<Proof> = awsvpc.map(Task::proof).collect();
        proofs.extend(self.unknown.iter().map(|why| {
            Proof::undecided(
                Guarantee::AwsvpcImdsBlock,
                "no packet of any other awsvpc task reaches the metadata service".to_owned(),
                why.clone(),
            )
        }));
        proofs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(standing: Standing) -> Task {
        Task {
            id: "0123".into(),
            mode: Mode::Awsvpc,
            netns: Some(4_026_532_000),
            standing,
            problems: vec!["routing table 100 has a way".into()],
            notes: Vec::new(),
            frames_stopped: false,
            powers: Power::of(1 << 12 | 1 << 13),
        }
    }

    #[test]
    fn a_violated_task_is_named_with_its_way_out() {
        let (cause, problem) = task(Standing::Violated).proof().problem().unwrap();
        assert!(cause.contains("routing table 100"), "{cause}");
        assert!(problem.contains("the awsvpc task 0123"), "{problem}");
        assert_eq!(task(Standing::Held).proof().problem(), None);
    }

    #[test]
    fn what_is_not_known_is_undecided() {
        let tasks = Tasks {
            running: vec![task(Standing::Held)],
            unknown: vec!["not root".into()],
        };
        let problems: Vec<_> = tasks.proofs().iter().filter_map(Proof::problem).collect();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].1.starts_with("cannot prove"), "{problems:?}");
    }

    #[test]
    fn a_task_survives_json() {
        let json = serde_json::to_string(&task(Standing::Undecided)).unwrap();
        assert!(
            json.contains(r#""powers":["net-admin","net-raw"]"#),
            "{json}"
        );
        let back: Task = serde_json::from_str(&json).unwrap();
        assert_eq!(back, task(Standing::Undecided));
    }
}
