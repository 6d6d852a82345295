//! Rulesets from files instead of the kernel: without root, also from another machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::config::settings::Settings;
use crate::guarantee::TaskCgroup;
use crate::prove::{HostView, Iface};
use crate::ruleset::{Family, Ruleset, parse_save};

/// Which files.
#[derive(Debug, Args)]
#[group(id = "saved", multiple = true)]
pub(super) struct Files {
    /// Judge this output of iptables-save instead of the kernel
    #[arg(long, value_name = "FILE")]
    ruleset: Option<PathBuf>,
    /// Judge this output of ip6tables-save instead of the kernel
    #[arg(long, value_name = "FILE")]
    ruleset6: Option<PathBuf>,
}

impl Files {
    /// The rulesets in the files, `None` where no file was named.
    pub(super) fn read(&self) -> anyhow::Result<Option<Vec<Ruleset>>> {
        let files = [(Family::V4, &self.ruleset), (Family::V6, &self.ruleset6)];
        let named = files
            .into_iter()
            .filter_map(|(family, file)| Some((family, file.as_ref()?)));
        let rulesets: Vec<Ruleset> = named
            .map(|(family, file)| read(family, file))
            .collect::<anyhow::Result<_>>()?;
        Ok(if rulesets.is_empty() {
            None
        } else {
            Some(rulesets)
        })
    }
}

fn read(family: Family, file: &Path) -> anyhow::Result<Ruleset> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    parse_save(family, &text).map_err(|error| {
        anyhow::anyhow!(
            "{}:{error}; is it the output of iptables-save?",
            file.display()
        )
    })
}

/// What a saved ruleset does not tell of its host: `route_localnet` is taken as the guarantees need
/// it, and the interfaces as those named.
pub(super) fn host(interfaces: &[String]) -> HostView {
    let known = Iface {
        addrs: Vec::new(),
        route_localnet: true,
    };
    let interfaces: BTreeMap<String, Iface> = interfaces
        .iter()
        .map(|name| (name.clone(), known.clone()))
        .collect();
    HostView {
        interfaces,
        route_localnet: true,
        ..HostView::default()
    }
}

/// Why nothing is known of a family of which no file was given.
pub(super) const fn not_given(family: Family) -> &'static str {
    match family {
        Family::V4 => {
            "IPv4 was not judged, since no --ruleset FILE was given: it takes the output of iptables-save"
        }
        Family::V6 => {
            "IPv6 was not judged, since no --ruleset6 FILE was given: it takes the output of \
             ip6tables-save. Set [imds] ipv6 = \"never\" where the host has no IPv6"
        }
    }
}

/// Rules for a cgroup are of the one that was there when they were made.
pub(super) fn tasks(settings: &Settings) -> TaskCgroup {
    TaskCgroup::Useless {
        path: settings.imds.host_tasks_cgroup.clone(),
        why: "saved rules do not tell whether the cgroup they were made for is still there"
            .to_owned(),
    }
}
