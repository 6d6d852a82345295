//! What a turn found, in the words of the API. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::model::{Backend, GuaranteeStatus, Layer, Layers, Overall, Rule, Seal, Stopped, Trap};
use crate::guarantee::{Guarantee, NativeRule};
use crate::inputs::Inputs;
use crate::os::host_tasks::HostTask;
use crate::posture::{Decision, Posture};
use crate::reconcile::{Outcome, Standing, Target, Turn};
use crate::ruleset::Family;
use crate::seal::{self, SealState};
use crate::tasks::{Mode, Task};

/// How many intervals of verification may pass without one before what is known counts as old.
const MISSED_INTERVALS: u32 = 3;
/// What a turn itself may take, on a slow machine with very large rulesets.
const SLACK: Duration = Duration::from_secs(120);

/// What a turn found.
#[derive(Debug, Clone)]
pub struct Published {
    /// When the turn ended.
    pub at: SystemTime,
    ended: Instant,
    /// How long it took.
    pub duration: Duration,
    /// How often the guard looks even where nothing seems to have changed.
    pub interval: Duration,
    /// How the guarantees stand.
    pub guarantees: Vec<GuaranteeStatus>,
    /// What is required and why.
    pub decisions: Vec<Decision>,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// The iptables programs.
    pub backends: Vec<Backend>,
    /// The sealed layer.
    pub seal: Option<Seal>,
    /// Lines of the inputs that mislead.
    pub traps: Vec<Trap>,
    /// Inputs that could not be read, and what holds instead.
    pub input_warnings: Vec<String>,
    /// Tables that could not be read, steps that failed, notes.
    pub turn_warnings: Vec<String>,
    /// What the guard keeps in the kernel.
    pub rules: Vec<Rule>,
    /// Where metrics are written for node_exporter.
    pub textfile: Option<PathBuf>,
    /// Where the inventory document is written for the SSM agent.
    pub inventory: Option<PathBuf>,
}

/// What the sealed layer adds.
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    /// What there is of it.
    pub seal: Option<Seal>,
    /// How the guarantees that have a part in it stand there.
    pub standings: BTreeMap<Guarantee, Standing>,
    /// How the visible layer stands by itself, where that differs from the whole.
    pub visible: BTreeMap<Guarantee, Standing>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl Sealed {
    /// What a turn found of it. `stored` says whether systemd keeps a copy of its socket.
    #[must_use]
    pub fn of(target: &Target, turn: &Turn, stored: bool) -> Self {
        let word = |holds| {
            if holds {
                Standing::Held
            } else {
                Standing::Violated
            }
        };
        let required = || {
            turn.outcomes
                .iter()
                .filter(|o| o.standing != Standing::NotRequired)
        };
        let visible = |outcome: &Outcome| match outcome.standing {
            Standing::Undecided if !outcome.visible => Standing::Undecided,
            _ => word(outcome.visible),
        };
        let in_force = turn.seal.state.is_intact();
        let rule = |rule: &NativeRule| Rule {
            guarantee: rule.guarantee,
            layer: Layer::Sealed,
            family: rule.family,
            place: format!("nftables {}", seal::place(rule)),
            rule: rule.to_string(),
            in_place: Some(in_force),
        };
        Self {
            seal: seal_of(turn, stored),
            standings: required()
                .filter_map(|o| Some((o.guarantee, word(o.sealed?))))
                .collect(),
            visible: required().map(|o| (o.guarantee, visible(o))).collect(),
            rules: target.wanted.native.iter().map(rule).collect(),
        }
    }
}

fn seal_of(turn: &Turn, stored: bool) -> Option<Seal> {
    let state = turn.seal.state;
    if matches!(state, SealState::Off | SealState::NotNeeded) {
        return None;
    }
    let explanation = match &turn.seal.why {
        Some(why) => format!("{state}: {why}"),
        None => state.to_string(),
    };
    Some(Seal {
        state,
        stored: stored && state.is_owned(),
        explanation,
    })
}

impl Published {
    /// Puts together what is to be told of a turn.
    #[must_use]
    pub fn new(
        inputs: &Inputs,
        posture: &Posture,
        target: &Target,
        turn: &Turn,
        mut sealed: Sealed,
    ) -> Self {
        let at = SystemTime::now();
        let guarantees = posture
            .decisions()
            .iter()
            .map(|decision| guarantee(decision, turn, at, &sealed))
            .collect();
        let mut rules = visible_rules(target, turn);
        rules.append(&mut sealed.rules);
        let failures = turn.failures.iter().map(|failure| failure.message.clone());
        Self {
            at,
            ended: Instant::now(),
            duration: turn.elapsed,
            interval: inputs.settings.verify.interval,
            guarantees,
            decisions: posture.decisions().to_vec(),
            tasks: turn.tasks.clone(),
            backends: backends(turn),
            seal: sealed.seal,
            traps: traps(inputs),
            input_warnings: inputs.warnings.clone(),
            turn_warnings: (turn.unread.iter().cloned())
                .chain(failures)
                .chain(turn.notes.iter().cloned())
                .collect(),
            rules,
            textfile: inputs.settings.metrics.textfile.clone(),
            inventory: inputs.settings.fleet.ssm_inventory.clone(),
        }
    }

    /// How the host stood as a whole.
    #[must_use]
    pub fn overall(&self) -> Overall {
        Overall::of(self.guarantees.iter().map(|status| status.standing))
    }

    /// The same, looked at again now.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self {
            at: SystemTime::now(),
            ended: Instant::now(),
            ..self.clone()
        }
    }

    /// The same with these packets stopped.
    #[must_use]
    pub fn counted(mut self, stopped: &BTreeMap<Guarantee, Vec<Stopped>>) -> Self {
        for status in &mut self.guarantees {
            status.stopped = stopped.get(&status.name).cloned().unwrap_or_default();
        }
        self
    }

    /// The same with these tasks on the host's network.
    #[must_use]
    pub fn with_host_tasks(mut self, found: &[HostTask]) -> Self {
        let mut guarantees = self.guarantees.iter();
        let block = guarantees.find(|status| status.name == Guarantee::HostImdsBlock);
        if let Some(standing) = block.map(|status| status.standing) {
            self.tasks.retain(|task| task.mode != Mode::Host);
            let rows = found.iter().map(|task| Task::on_host(task, standing));
            self.tasks.extend(rows);
        }
        self
    }

    /// Why this is too old to be relied on, where it is.
    #[must_use]
    pub fn stale(&self) -> Option<String> {
        let age = self.ended.elapsed();
        (age > self.interval * MISSED_INTERVALS + SLACK).then(|| {
            format!(
                "the last verification was {} s ago, though one is due every {} s",
                age.as_secs(),
                self.interval.as_secs()
            )
        })
    }

    /// Everything that an operator should know besides.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        self.input_warnings.iter().chain(&self.turn_warnings)
    }
}

fn guarantee(decision: &Decision, turn: &Turn, at: SystemTime, sealed: &Sealed) -> GuaranteeStatus {
    let name = decision.guarantee;
    let outcome = turn.outcomes.iter().find(|o| o.guarantee == name);
    let standing = outcome.map_or(Standing::Undecided, |outcome| outcome.standing);
    GuaranteeStatus {
        name,
        standing,
        required: decision.required,
        reason: decision.reason.clone(),
        since: at,
        problems: outcome.map(|o| o.problems()).unwrap_or_default(),
        layers: Layers {
            visible: sealed.visible.get(&name).copied().unwrap_or(standing),
            sealed: sealed.standings.get(&name).copied(),
        },
        stopped: Vec::new(),
    }
}

fn backends(turn: &Turn) -> Vec<Backend> {
    let backend = |tool: &crate::os::iptables::Tool| Backend {
        family: tool.family,
        name: tool.backend.to_string(),
        version: tool.version.clone(),
        path: tool.path.to_owned(),
    };
    turn.tools.iter().map(backend).collect()
}

fn traps(inputs: &Inputs) -> Vec<Trap> {
    let trap = |trap: &crate::config::trap::Trap| Trap {
        path: trap.path.clone(),
        line: trap.line,
        message: trap.message.clone(),
    };
    inputs.ecs.traps.iter().map(trap).collect()
}

/// The wanted rules. Whether one stands is known of its table: a turn ends only when all of them do,
/// or with a failure that names the table, or where something could not be read.
fn visible_rules(target: &Target, turn: &Turn) -> Vec<Rule> {
    let in_place = |family: Family, object: &str| {
        let failed = turn
            .failures
            .iter()
            .any(|failure| failure.family == family && failure.object == object);
        if failed {
            Some(false)
        } else {
            turn.unread.is_empty().then_some(true)
        }
    };
    let rules = target.wanted.iptables.iter().map(|rule| Rule {
        guarantee: rule.guarantee,
        layer: Layer::Visible,
        family: rule.family,
        place: format!("{} {}", rule.table, rule.chain),
        rule: rule.spec.clone(),
        in_place: in_place(rule.family, rule.table),
    });
    let sysctls = target.wanted.sysctls.iter().map(|sysctl| Rule {
        guarantee: sysctl.guarantee,
        layer: Layer::Visible,
        family: Family::V4,
        place: format!("net.ipv4.conf.{}.route_localnet", sysctl.interface),
        rule: "1".to_owned(),
        in_place: in_place(Family::V4, "route_localnet"),
    });
    rules.chain(sysctls).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ecs::EcsPaths;
    use crate::inputs::InputPaths;
    use crate::status::answer;
    use crate::status::hub::Hub;
    use crate::status::packet_counters::Now;

    fn published(sealed: Sealed, interval: Duration) -> Published {
        let dir = tempfile::tempdir().unwrap();
        let paths = InputPaths {
            settings: dir.path().join("config.toml"),
            ecs: EcsPaths::beside(&dir.path().join("ecs.config")),
            cloud_init: None,
        };
        let mut inputs = Inputs::read(&paths, None).unwrap();
        inputs.settings.verify.interval = interval;
        let turn = Turn {
            unread: vec!["nat".into()],
            ..Turn::default()
        };
        let posture = Posture::everything("test");
        Published::new(&inputs, &posture, &Target::default(), &turn, sealed)
    }

    #[test]
    fn what_the_seal_adds_is_told_everywhere() {
        let stopped = Stopped {
            family: Family::V4,
            interface: "docker+".into(),
            layer: Layer::Sealed,
            packets: 7,
        };
        let sealed = Sealed {
            seal: Some(Seal {
                state: SealState::Owned,
                stored: true,
                explanation: "nobody else can change it".into(),
            }),
            standings: BTreeMap::from([(Guarantee::ImdsBlock, Standing::Held)]),
            ..Sealed::default()
        };
        let board = Hub::new();
        let stopped_by = BTreeMap::from([(Guarantee::ImdsBlock, vec![stopped.clone()])]);
        board.put_up(Now {
            stopped: stopped_by,
            ..Now::default()
        });
        board.publish(published(sealed, Duration::from_secs(5)));
        let status = answer::status(&board);
        let imds = &status.guarantees[0];
        assert_eq!(imds.layers.sealed, Some(Standing::Held));
        assert_eq!(imds.stopped, [stopped]);
        assert_eq!(status.seal.map(|seal| seal.stored), Some(true));
        assert_eq!(status.warnings, ["nat"]);
        // Nobody proved anything here.
        assert_eq!(status.state, Overall::Undecided);
        let text = board.metrics_text();
        let line = r#"ecs_netguard_packets_stopped_total{guarantee="imds-block",family="ipv4",interface="docker+",layer="sealed"} 7"#;
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_is_too_old_is_not_relied_on() {
        let mut published = published(Sealed::default(), Duration::from_secs(1));
        assert_eq!(published.stale(), None);
        let age = SLACK + Duration::from_secs(4);
        published.ended = Instant::now().checked_sub(age).unwrap();
        assert!(published.stale().unwrap().contains("one is due every 1 s"));
        let board = Hub::new();
        board.publish(published);
        assert!(!answer::health(&board).0);
    }
}
