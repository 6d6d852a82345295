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
use crate::ruleset::native::json::Saved;
use crate::ruleset::{self, Family, Ruleset, parse_file};

/// Which files.
#[derive(Debug, Args)]
#[group(id = "saved", multiple = true)]
pub(super) struct Files {
    /// Judge this output of iptables-save or `nft -j list ruleset`, or file for iptables-restore, instead
    /// of the kernel; gzip is unpacked, `-` is standard input (repeatable: one of each)
    #[arg(long, value_name = "FILE")]
    ruleset: Vec<PathBuf>,
    /// Judge this output of ip6tables-save, or file for ip6tables-restore, likewise; what nft prints holds
    /// both families
    #[arg(long, value_name = "FILE")]
    ruleset6: Option<PathBuf>,
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Given {
    rulesets: Vec<Ruleset>,
    native: Option<Saved>,
}

impl Files {
    /// What the files hold, `None` where no file was named.
    pub(super) fn read(&self) -> anyhow::Result<Option<Given>> {
        let v4 = self.ruleset.iter().map(|file| (Family::V4, file));
        let v6 = self.ruleset6.iter().map(|file| (Family::V6, file));
        let files: Vec<(Family, &PathBuf)> = v4.chain(v6).collect();
        if files.is_empty() {
            return Ok(None);
        }
        anyhow::ensure!(
            files.iter().filter(|(_, file)| is_stdin(file)).count() < 2,
            "only one of --ruleset and --ruleset6 can be standard input"
        );
        let mut given = Given::default();
        for (family, file) in files {
            match read(family, file)? {
                ruleset::File::Native(saved) => {
                    anyhow::ensure!(
                        given.native.is_none(),
                        "two outputs of `nft -j list ruleset` were given: give that of one host"
                    );
                    given.native = Some(saved);
                }
                ruleset::File::Iptables(ruleset) => {
                    anyhow::ensure!(
                        given.of_iptables(family).next().is_none(),
                        "two files with {family} rules of iptables were given: give that of one host"
                    );
                    given.rulesets.push(ruleset);
                }
            }
        }
        Ok(Some(given))
    }
}

impl Given {
    /// The rules of iptables.
    pub(super) fn of_iptables(&self, family: Family) -> impl Iterator<Item = &Ruleset> {
        let of_family = move |ruleset: &&Ruleset| ruleset.family == family;
        self.rulesets.iter().filter(of_family)
    }

    /// Whether rules of a family are there.
    pub(super) fn has(&self, family: Family) -> bool {
        self.native.is_some() || self.of_iptables(family).next().is_some()
    }

    /// What the files do not tell of their host: `route_localnet` is taken as the guarantees need it, and
    /// the interfaces as those named.
    pub(super) fn host(&self, interfaces: &[String]) -> HostView {
        let known = Iface {
            addrs: Vec::new(),
            route_localnet: true,
        };
        let interfaces: BTreeMap<String, Iface> = interfaces
            .iter()
            .map(|name| (name.clone(), known.clone()))
            .collect();
        let native = self.native.iter().flat_map(|saved| {
            let listed = |family| self.of_iptables(family).next().is_some();
            [Family::V4, Family::V6]
                .into_iter()
                .flat_map(move |family| saved.decode(family, listed(family)))
        });
        HostView {
            interfaces,
            route_localnet: true,
            native: native.collect(),
            ..HostView::default()
        }
    }
}

/// The largest text that is read: about 150,000 rules, for which the reader needs a few hundred MiB.
const MOST_BYTES: u64 = 16 << 20;

/// The first bytes of what gzip makes.
const GZIP: &[u8] = &[0x1f, 0x8b];

fn read(family: Family, file: &Path) -> anyhow::Result<ruleset::File> {
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

/// Why nothing is known of a family of which no file was given.
pub(super) const fn not_given(family: Family) -> &'static str {
    match family {
        Family::V4 => {
            "IPv4 was not judged, since no --ruleset FILE was given: it takes the output of iptables-save or \
             `nft -j list ruleset`"
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
