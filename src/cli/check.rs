//! `ecs-netguard check`: reads only, and proves.

use std::time::SystemTime;

use clap::Args;

use super::common::{Common, Demand, Exit, need_net_admin};
use super::saved::{self, Files, Given};
use super::screen;
use crate::config::settings::Mode;
use crate::desired::{self, Desired, Undecidable};
use crate::facts::Facts;
use crate::guarantee::{Guarantee, Scope};
use crate::inputs::Inputs;
use crate::posture::Posture;
use crate::reconcile;
use crate::report::{GuaranteeReport, Report};
use crate::ruleset::Family;
use crate::state::Store;
use crate::tasks::{self, Tasks};
use crate::verdict::Proof;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    demand: Demand,
    #[command(flatten)]
    files: Files,
    /// With --ruleset: a container interface of that host, besides the patterns (repeatable)
    #[arg(long, value_name = "NAME", requires = "saved")]
    iface: Vec<String>,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let (store, warning) = Store::peek(&common.state_dir);
    let inputs = Inputs::read(&common.inputs(), &store.state.inputs)?;
    if let Some(given) = arguments.files.read()? {
        return judge(common, arguments, &inputs, &given);
    }
    inputs.require_readable()?;
    need_net_admin("check")?;
    let (_, mut report) = prove(common, &inputs, &store);
    report.warnings.extend(warning);
    screen::print(&report, arguments.json)?;
    Ok(arguments.demand.exit(&report))
}

/// Reads this host's rules and tasks, and proves.
pub(super) fn prove(common: &Common, inputs: &Inputs, store: &Store) -> (Facts, Report) {
    let (posture, desired, host) = common.resolve_with(inputs, |posture| {
        if posture.requires(Guarantee::AwsvpcImdsBlock) {
            tasks::once::pass(tasks::Wish::Audit).tasks
        } else {
            Tasks::default()
        }
    });
    let mut report = reconcile::check(&desired, &host, &posture, &store.state).report;
    inputs.describe(&mut report);
    (host.facts, report)
}

/// Judges saved rules: every guarantee that has not to be asked for in config.toml, unless an ecs.config
/// is named, since this machine's own says nothing about the rules of another. The tasks' namespaces
/// are left out.
fn judge(
    common: &Common,
    arguments: &Arguments,
    inputs: &Inputs,
    given: &Given,
) -> anyhow::Result<Exit> {
    let has = |family| given.has(family);
    let facts = Facts {
        ipv6: has(Family::V6),
        default_bridge: Some("docker0".to_owned()),
        // A saved ruleset does not say.
        route_localnet: vec!["all".to_owned()],
        task_cgroup: inputs
            .settings
            .imds
            .host_tasks
            .then(|| saved::tasks(&inputs.settings)),
        ..Facts::default()
    };
    let mut posture = match &common.ecs_config {
        Some(_) => {
            inputs.require_readable()?;
            inputs.posture(&facts)
        }
        None => Posture::everything("asked of every saved ruleset; --ecs-config narrows it")
            .opted(&inputs.settings),
    };
    posture.leave_out(
        Guarantee::AwsvpcImdsBlock,
        "saved rulesets say nothing of the network namespaces of tasks",
    );
    let mut scope = desired::scope(&inputs.settings, &facts);
    let covered = match inputs.settings.imds.ipv6 {
        Mode::Never => vec![Family::V4],
        Mode::Auto | Mode::Always => vec![Family::V4, Family::V6],
    };
    scope.families = covered
        .iter()
        .copied()
        .filter(|family| has(*family))
        .collect();
    // A bridge that is named is meant, whether a pattern fits it or not.
    scope.bridges = arguments
        .iface
        .iter()
        .map(|name| (name.clone(), Vec::new()))
        .collect();
    let desired = Desired::of(&inputs.settings, &posture, &scope);
    // What was not given was not judged, and is not held for it.
    let missing = Scope {
        families: covered.into_iter().filter(|family| !has(*family)).collect(),
        ..scope
    };
    let unjudged = Desired::of(&inputs.settings, &posture, &missing).claims;
    let unjudged = unjudged
        .iter()
        .filter(|(_, claim)| missing.families.contains(&claim.packets.family));
    let of = |family| (given.of_iptables(family).collect(), Vec::new());
    let mut proofs = reconcile::prove(&desired.claims, of, &given.host(&arguments.iface));
    proofs.extend(desired.undecidable.iter().map(Proof::from));
    proofs.extend(unjudged.map(|(guarantee, claim)| {
        Proof::from(&Undecidable {
            guarantee: *guarantee,
            claim: claim.to_string(),
            why: saved::not_given(claim.packets.family).to_owned(),
        })
    }));
    let guarantees = GuaranteeReport::all(&posture, &proofs, |_| None);
    let mut report = Report::new(SystemTime::now(), guarantees);
    inputs.describe(&mut report);
    screen::print(&report, arguments.json)?;
    Ok(arguments.demand.exit(&report))
}
