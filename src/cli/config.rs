//! `ecs-netguard config`: configured against effective, with every source.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::common::{Common, Exit, print_json};
use crate::config::ecs::{EcsConfig, Setting, Wish};
use crate::config::sanitize;
use crate::config::settings::Settings;
use crate::config::trap::Trap;
use crate::facts::Facts;
use crate::guarantee::Guarantee;
use crate::inputs::Inputs;
use crate::os::privilege;
use crate::out;
use crate::posture::Posture;
use crate::state::{Remembered, Store};

#[derive(Serialize)]
struct Report<'a> {
    ecs: &'a EcsConfig,
    settings: &'a Settings,
    posture: &'a Posture,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Print every error and trap of the files, one a line, and nothing else. Exit codes: 0 there is none,
    /// 1 there are traps, 2 a file cannot be used
    #[arg(long)]
    check: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.check {
        return check(common, arguments.json);
    }
    let json = arguments.json;
    let inputs = Inputs::read(&common.inputs(), &remembered(common))?;
    let posture = inputs.posture(&Facts::default());
    if json {
        let (ecs, settings) = (&inputs.ecs, &inputs.settings);
        print_json(&Report {
            ecs,
            settings,
            posture: &posture,
        })?;
    } else {
        print(&mut out::text(), common, &inputs, &posture)?;
    }
    // A file that cannot be read is a configuration error, and so said by the exit code.
    Ok(if inputs.ecs.unreadable.is_empty() {
        Exit::Held
    } else {
        Exit::Usage
    })
}

/// What the daemon remembers; nothing for a user who may not read that.
fn remembered(common: &Common) -> Remembered {
    if privilege::has_net_admin() {
        Store::peek(&common.state_dir).0.state.inputs
    } else {
        Remembered::default()
    }
}

/// What is wrong with the files.
#[derive(Debug, Default, Serialize)]
struct Checked {
    errors: Vec<String>,
    traps: Vec<String>,
}

fn check(common: &Common, json: bool) -> anyhow::Result<Exit> {
    let inputs = Inputs::read_or_keep(&common.inputs(), None, &Remembered::default());
    let errors = Settings::errors_in(&common.config);
    let unreadable = inputs.ecs.unreadable.iter();
    let unreadable = unreadable.map(|input| format!("{} {}", input.path.display(), input.reason));
    let checked = Checked {
        errors: (errors.iter().map(ToString::to_string))
            .chain(unreadable)
            .collect(),
        traps: inputs.ecs.traps.iter().map(trap).collect(),
    };
    if json {
        print_json(&checked)?;
    } else {
        let mut out = out::text();
        for line in &checked.errors {
            writeln!(out, "error: {line}")?;
        }
        for line in &checked.traps {
            writeln!(out, "trap: {line}")?;
        }
    }
    Ok(
        match (checked.errors.as_slice(), checked.traps.as_slice()) {
            ([], []) => Exit::Held,
            ([], _) => Exit::Violated,
            _ => Exit::Usage,
        },
    )
}

fn trap(trap: &Trap) -> String {
    format!("{}:{}: {}", trap.path.display(), trap.line, trap.message)
}

/// Prints what is configured and what it comes to.
pub(super) fn print(
    out: &mut impl Write,
    common: &Common,
    inputs: &Inputs,
    posture: &Posture,
) -> anyhow::Result<()> {
    let init = if inputs.ecs.ecs_init_present {
        "installed"
    } else {
        "not installed"
    };
    writeln!(
        out,
        "{} (ecs-init is {init})",
        common.inputs().ecs.config.display()
    )?;
    writeln!(
        out,
        "  {:<42}{:<14}{:<11}source",
        "variable", "configured", "effective"
    )?;
    for setting in inputs.ecs.settings() {
        let configured = configured(setting);
        let (variable, effective) = (setting.variable, setting.effective);
        writeln!(
            out,
            "  {variable:<42}{configured:<14}{effective:<11}{}",
            source(setting)
        )?;
    }
    let file = common.config.display();
    let absent = if common.config.exists() {
        ""
    } else {
        " (absent: defaults)"
    };
    writeln!(out, "\n{file}{absent}")?;
    for line in toml::to_string(&inputs.settings)?
        .lines()
        .filter(|line| !line.is_empty())
    {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "\nGuarantees")?;
    for decision in posture.decisions() {
        let word = if decision.required {
            "required"
        } else {
            "not required"
        };
        let guarantee = decision.guarantee;
        writeln!(out, "  {guarantee:<22}{word:<14}{}", decision.reason)?;
    }
    let decisions = posture.decisions().iter();
    let mut block = decisions.filter(|of| of.guarantee == Guarantee::ImdsBlock);
    if let Some(block) = block.next().filter(|block| !block.required) {
        writeln!(out, "  IMDS OPEN: {}", inputs.imds_open(&block.reason))?;
    }
    let traps = &inputs.ecs.traps;
    if !traps.is_empty() || !inputs.warnings.is_empty() {
        writeln!(out, "\nTraps")?;
    }
    for warning in &inputs.warnings {
        writeln!(out, "  ! {warning}")?;
    }
    for trap in traps {
        writeln!(out, "  ! {}", self::trap(trap))?;
    }
    Ok(())
}

fn configured(setting: &Setting) -> String {
    match &setting.raw {
        None => "-".to_owned(),
        Some(raw) if raw.is_empty() => "(empty)".to_owned(),
        Some(raw) => sanitize(raw),
    }
}

/// Where the effective value comes from, and where the wish stands if that is elsewhere.
fn source(setting: &Setting) -> String {
    match (&setting.written, setting.wish) {
        (Some(written), Wish::Unreadable { .. }) => {
            format!(
                "{} (what stands in {written} cannot be read)",
                setting.source
            )
        }
        _ => setting.source.to_string(),
    }
}
