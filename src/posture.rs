//! From inputs to posture: which guarantees are required on this host, and why.
//!
//! A setting that asks for the block and cannot be read counts as a block; a wish to open that cannot be read opens nothing.

use serde::{Deserialize, Serialize};

use crate::config::ecs::{EcsConfig, Setting, Wish};
use crate::config::sanitize;
use crate::config::settings::{Awsvpc, Mode, Settings};
use crate::guarantee::Guarantee;

/// The resolved wish, one decision a guarantee, in the order of [`Guarantee::ALL`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Posture {
    decisions: Vec<Decision>,
}

/// Whether one guarantee is required, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The guarantee.
    pub guarantee: Guarantee,
    /// Whether the guard has to keep it.
    pub required: bool,
    /// Which input, which line: `ECS_AWSVPC_BLOCK_IMDS=true (/etc/ecs/ecs.config:3)`.
    pub reason: String,
    /// Why it cannot be brought about, whatever the guard does: another input says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impossible: Option<String>,
}

impl Posture {
    /// The posture that the inputs ask for.
    #[must_use]
    pub fn resolve(settings: &Settings, ecs: &EcsConfig) -> Self {
        let decisions = Guarantee::ALL
            .into_iter()
            .map(|guarantee| {
                let (required, reason) = match guarantee {
                    Guarantee::ImdsBlock => imds_block(settings, ecs),
                    Guarantee::AwsvpcImdsBlock => awsvpc_imds_block(settings, ecs),
                    Guarantee::TaskCredentials => task_credentials(settings, ecs),
                    Guarantee::LoopbackShield => loopback_shield(settings, ecs),
                    Guarantee::IntrospectionShield => introspection_shield(ecs),
                    Guarantee::HostImdsBlock => host_imds_block(settings),
                };
                Decision {
                    guarantee,
                    required,
                    reason,
                    impossible: impossible(guarantee, ecs),
                }
            })
            .collect();
        Self { decisions }
    }

    /// Every guarantee but those that have to be asked for in config.toml, whatever the inputs say:
    /// for judging rules of a host whose inputs are not here.
    #[must_use]
    pub fn everything(reason: &str) -> Self {
        let decision = |guarantee| match guarantee {
            Guarantee::HostImdsBlock => Decision {
                guarantee,
                required: false,
                reason: HOST_TASKS_OFF.to_owned(),
                impossible: None,
            },
            _ => Decision {
                guarantee,
                required: true,
                reason: reason.to_owned(),
                impossible: None,
            },
        };
        Self {
            decisions: Guarantee::ALL.map(decision).into(),
        }
    }

    /// Takes from `earlier` what the ECS software's inputs decide and cannot tell now; what config.toml
    /// decides stays.
    pub fn keep(&mut self, earlier: &Self, settings: &Settings) {
        let asked = |guarantee| earlier.decisions.iter().find(|d| d.guarantee == guarantee);
        let needed = asked(Guarantee::TaskCredentials).is_some_and(|d| d.required);
        for decision in &mut self.decisions {
            let earlier = match decision.guarantee {
                // A program that did not know of tasks kept containers away.
                of @ Guarantee::AwsvpcImdsBlock => {
                    asked(of).or_else(|| asked(Guarantee::ImdsBlock))
                }
                of => asked(of),
            };
            let Some(earlier) = earlier else {
                continue;
            };
            decision.impossible.clone_from(&earlier.impossible);
            let by_inputs = match (decision.guarantee, settings.credentials.endpoint) {
                // Where it could have been needed and was not, the filter was to be skipped.
                (Guarantee::LoopbackShield, Mode::Always | Mode::Never) => {
                    needed && !earlier.required
                }
                (guarantee, _) => by_ecs(guarantee, settings),
            };
            if by_inputs {
                decision.required = earlier.required;
                decision.reason = format!("{}, when it was last read", earlier.reason);
            }
        }
    }

    /// Requires the block for a reason besides what is asked for, unless config.toml decides.
    pub fn block(&mut self, settings: &Settings, reason: &str) {
        if settings.imds.block != Mode::Auto {
            return;
        }
        let asked = |guarantee| match guarantee {
            Guarantee::ImdsBlock => true,
            Guarantee::AwsvpcImdsBlock => settings.imds.awsvpc != Awsvpc::Never,
            _ => false,
        };
        let undecided = |d: &&mut Decision| asked(d.guarantee) && !d.required;
        for decision in self.decisions.iter_mut().filter(undecided) {
            decision.required = true;
            decision.reason = reason.to_owned();
        }
    }

    /// Requires the shield where the kernel routes 127.0.0.0/8 from other interfaces, whichever program made it so.
    pub fn observe(&mut self, ecs: &EcsConfig, route_localnet: &[String]) {
        let [first, ..] = route_localnet else {
            return;
        };
        if ecs.skip_localhost_traffic_filter.effective {
            return;
        }
        let shield = |d: &&mut Decision| d.guarantee == Guarantee::LoopbackShield && !d.required;
        for decision in self.decisions.iter_mut().filter(shield) {
            decision.required = true;
            decision.reason = format!("net.ipv4.conf.{first}.route_localnet is 1");
        }
    }

    /// The same with what config.toml alone decides taken from there.
    #[must_use]
    pub fn opted(mut self, settings: &Settings) -> Self {
        for decision in &mut self.decisions {
            if decision.guarantee == Guarantee::HostImdsBlock {
                (decision.required, decision.reason) = host_imds_block(settings);
            }
        }
        self
    }

    /// Takes a guarantee out of what is required: what is judged says nothing about it.
    pub fn leave_out(&mut self, guarantee: Guarantee, reason: &str) {
        let of = |d: &&mut Decision| d.guarantee == guarantee;
        for decision in self.decisions.iter_mut().filter(of) {
            decision.required = false;
            decision.reason = reason.to_owned();
        }
    }

    /// The decisions, one a guarantee.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Whether a guarantee is required.
    #[must_use]
    pub fn requires(&self, guarantee: Guarantee) -> bool {
        self.decisions
            .iter()
            .any(|d| d.required && d.guarantee == guarantee)
    }

    /// The guarantees that are required.
    #[must_use]
    pub fn required(&self) -> Vec<Guarantee> {
        self.decisions
            .iter()
            .filter(|d| d.required)
            .map(|d| d.guarantee)
            .collect()
    }
}

/// Whether the ECS software's inputs have a say in a guarantee, beside these settings.
pub const fn by_ecs(guarantee: Guarantee, settings: &Settings) -> bool {
    match guarantee {
        Guarantee::ImdsBlock => matches!(settings.imds.block, Mode::Auto),
        Guarantee::AwsvpcImdsBlock => {
            matches!(settings.imds.block, Mode::Auto)
                && !matches!(settings.imds.awsvpc, Awsvpc::Never)
        }
        Guarantee::TaskCredentials => matches!(settings.credentials.endpoint, Mode::Auto),
        Guarantee::LoopbackShield | Guarantee::IntrospectionShield => true,
        Guarantee::HostImdsBlock => false,
    }
}

fn imds_block(settings: &Settings, ecs: &EcsConfig) -> (bool, String) {
    let wish = &ecs.block_imds;
    match (settings.imds.block, wish.wish) {
        (Mode::Always, _) => (
            true,
            "block = \"always\" under [imds] in config.toml".into(),
        ),
        (Mode::Never, _) => (
            false,
            "block = \"never\" under [imds] in config.toml".into(),
        ),
        (Mode::Auto, Wish::Unreadable { .. }) => (
            wish.wanted(),
            format!(
                "{}; the ECS agent cannot read that and takes it as unset",
                describe(wish)
            ),
        ),
        (Mode::Auto, _) if wish.effective && ecs.external.wanted() => (
            true,
            format!(
                "{}; {} changes nothing about that: such a host may run on EC2",
                describe(wish),
                describe(&ecs.external)
            ),
        ),
        (Mode::Auto, _) => (wish.effective, describe(wish)),
    }
}

fn awsvpc_imds_block(settings: &Settings, ecs: &EcsConfig) -> (bool, String) {
    match settings.imds.awsvpc {
        Awsvpc::Never => (
            false,
            "awsvpc = \"never\" under [imds] in config.toml".into(),
        ),
        Awsvpc::Auto | Awsvpc::Audit => imds_block(settings, ecs),
    }
}

fn task_credentials(settings: &Settings, ecs: &EcsConfig) -> (bool, String) {
    match settings.credentials.endpoint {
        Mode::Always => (
            true,
            "endpoint = \"always\" under [credentials] in config.toml".into(),
        ),
        Mode::Never => (
            false,
            "endpoint = \"never\" under [credentials] in config.toml".into(),
        ),
        Mode::Auto => {
            let (bridge, host) = (&ecs.task_iam_role, &ecs.task_iam_role_network_host);
            match (bridge.effective, host.effective) {
                (true, _) => (true, describe(bridge)),
                (false, true) => (true, describe(host)),
                (false, false) => (false, format!("{}, {}", describe(bridge), describe(host))),
            }
        }
    }
}

fn loopback_shield(settings: &Settings, ecs: &EcsConfig) -> (bool, String) {
    let skip = &ecs.skip_localhost_traffic_filter;
    if skip.effective {
        return (false, describe(skip));
    }
    match task_credentials(settings, ecs) {
        (true, reason) => (true, format!("route_localnet is needed: {reason}")),
        // Whatever the variables say (ecs-init/engine/engine.go, `PreStart`).
        _ if ecs.ecs_init_present => (true, "ecs-init sets route_localnet=1 when it starts".into()),
        (false, reason) => (false, format!("route_localnet is not needed: {reason}")),
    }
}

/// Why `host-imds-block` is not required where it is not asked for.
const HOST_TASKS_OFF: &str = "host_tasks = false under [imds] in config.toml";

/// Asked for by itself: tasks on the host's network may need the metadata service, whatever is said of
/// containers.
fn host_imds_block(settings: &Settings) -> (bool, String) {
    if settings.imds.host_tasks {
        let reason = "host_tasks = true under [imds] in config.toml";
        (true, reason.to_owned())
    } else {
        (false, HOST_TASKS_OFF.to_owned())
    }
}

/// Without cgroups of their own, tasks on the host's network are like any other process of the host.
fn impossible(guarantee: Guarantee, ecs: &EcsConfig) -> Option<String> {
    let limit = &ecs.task_cpu_mem_limit;
    let without = guarantee == Guarantee::HostImdsBlock && !limit.effective;
    without.then(|| {
        format!(
            "{}: the ECS agent makes no cgroups for tasks, so that a task on the host's network is \
             like any other process",
            describe(limit)
        )
    })
}

fn introspection_shield(ecs: &EcsConfig) -> (bool, String) {
    let allow = &ecs.allow_offhost_introspection;
    (!allow.effective, describe(allow))
}

/// `ECS_AWSVPC_BLOCK_IMDS=true (/etc/ecs/ecs.config:3)`
fn describe(setting: &Setting) -> String {
    let source = setting.wish_source();
    let variable = setting.variable;
    if let Some(line) = &setting.line {
        return format!("\"{}\" ({source})", sanitize(line));
    }
    match &setting.raw {
        Some(raw) => format!("{variable}={} ({source})", sanitize(raw)),
        None => format!("{variable}={} ({source})", setting.effective),
    }
}

#[cfg(test)]
mod tests;
