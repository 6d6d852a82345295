//! Rulesets from files instead of the kernel: without root, also from another machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use flate2::bufread::MultiGzDecoder;

use crate::config::settings::Settings;
use crate::guarantee::TaskCgroup;
use crate::prove::{HostView, Iface};
use crate::ruleset::{Family, Ruleset, parse_file};

/// Which files.
#[derive(Debug, Args)]
#[group(id = "saved", multiple = true)]
pub(super) struct Files {
    /// Judge this output of iptables-save, or file for iptables-restore, instead of the kernel; gzip is
    /// unpacked, `-` is standard input
    #[arg(long, value_name = "FILE")]
    ruleset: Option<PathBuf>,
    /// Judge this output of ip6tables-save, or file for ip6tables-restore, likewise
    #[arg(long, value_name = "FILE")]
    ruleset6: Option<PathBuf>,
}

impl Files {
    /// The rulesets in the files, `None` where no file was named.
    pub(super) fn read(&self) -> anyhow::Result<Option<Vec<Ruleset>>> {
        let files = [(Family::V4, &self.ruleset), (Family::V6, &self.ruleset6)];
        let named = files
            .into_iter()
            .filter_map(|(family, file)| Some((family, file.as_deref()?)));
        anyhow::ensure!(
            named.clone().filter(|(_, file)| is_stdin(file)).count() < 2,
            "--ruleset and --ruleset6 cannot both be standard input"
        );
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

/// The largest text that is read: about 150,000 rules, for which the reader needs a few hundred MiB.
const MOST_BYTES: u64 = 16 << 20;

/// The first bytes of what gzip makes.
const GZIP: &[u8] = &[0x1f, 0x8b];

fn read(family: Family, file: &Path) -> anyhow::Result<Ruleset> {
    let (name, text) = if is_stdin(file) {
        ("standard input".to_owned(), text(io::stdin().lock()))
    } else {
        let opened = File::open(file);
        (file.display().to_string(), opened.and_then(text))
    };
    let text = text.with_context(|| format!("read {name}"))?;
    parse_file(family, &text).with_context(|| name)
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// What there is to read, unpacked.
fn text(from: impl Read) -> io::Result<Vec<u8>> {
    let mut from = BufReader::new(from);
    if from.fill_buf()?.starts_with(GZIP) {
        bounded(MultiGzDecoder::new(from))
    } else {
        bounded(from)
    }
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = from.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    if read as u64 > MOST_BYTES {
        return Err(io::Error::other(format!(
            "it holds more than {} MiB of text, which is more than is read; run `ecs-netguard check` on that \
             host instead",
            MOST_BYTES >> 20
        )));
    }
    Ok(text)
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
