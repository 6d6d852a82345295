//! One ruleset, what is proved of it, and what packets say to that.

use std::fmt::Write as _;
use std::time::Duration;

use ecs_netguard::prove::{Claim, HostView, Prover};
use ecs_netguard::ruleset::{Family, Ruleset, parse_save};
use ecs_netguard::verdict::Verdict;

use super::claims::{Localnet, host_view};
use super::judge::{Judged, Patience, family_name, judge};
use super::native::native;
use super::random::Random;
use super::reduce::reduce;
use super::rules::ruleset;
use super::tally::{Tally, name, said};
use super::wire::Wire;

const PATIENCE: Patience = Patience(Duration::from_secs(3));
/// While a ruleset is reduced: it is known already to be wrong.
const SHORT: Patience = Patience(Duration::from_millis(100));

/// A ruleset to try.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: Family,
    pub(crate) localnet: Localnet,
    /// With matches that are not understood.
    pub(crate) dark: bool,
    pub(crate) text: String,
    origin: String,
}

impl Case {
    pub(crate) fn random(random: &mut Random, seed: u64, number: u64) -> Self {
        let family = if random.percent(65) {
            Family::V4
        } else {
            Family::V6
        };
        let dark = random.percent(50);
        let localnet = match random.below(10) {
            0..=6 => Localnet::All,
            7 | 8 => Localnet::Docker0,
            _ => Localnet::Off,
        };
        Self {
            family,
            localnet,
            dark,
            text: {
                let text = ruleset(random, family, dark);
                let native = random.percent(50).then(|| native(random, family));
                text + &native.unwrap_or_default()
            },
            origin: format!("seed {seed}, ruleset {number}"),
        }
    }

    /// A kept ruleset: its first line says the family and `route_localnet`.
    pub(crate) fn read(text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        Self {
            family: if first.contains("IPv6") {
                Family::V6
            } else {
                Family::V4
            },
            localnet: match () {
                () if first.contains("Docker0") => Localnet::Docker0,
                () if first.contains("Off") => Localnet::Off,
                () => Localnet::All,
            },
            dark: false,
            text: text.to_owned(),
            origin: "kept".to_owned(),
        }
    }

    /// Loads it and proves one claim: the verdict, and what packets say to that.
    pub(crate) fn ask(&self, wire: &mut Wire, claim: &Claim) -> String {
        let saved = self.loaded(wire);
        let parsed = self.parse(&saved);
        let verdict = Prover::new(&[&parsed], &self.host(wire)).prove(claim);
        let judged = judge(wire, &mut Random::new(1), claim, &verdict, &saved, PATIENCE);
        format!("{}, {}", name(&verdict), said(&judged))
    }

    /// Loads it, proves the claims and sends the packets.
    pub(crate) fn examine(
        &self,
        wire: &mut Wire,
        random: &mut Random,
        claims: &[Claim],
        tally: &mut Tally,
    ) {
        let saved = self.loaded(wire);
        let parsed = self.parse(&saved);
        let host = self.host(wire);
        tally.rulesets += 1;
        let mut loaded = true;
        for claim in claims {
            if !loaded {
                wire.load(self.family, &self.text)
                    .expect("it was loaded before");
                loaded = true;
            }
            let verdict = Prover::new(&[&parsed], &host).prove(claim);
            let judged = judge(wire, random, claim, &verdict, &saved, PATIENCE);
            tally.count(self.dark, claim, &verdict, &judged);
            if let Judged::Contradicted(how) = judged {
                let small = reduce(&self.text, |text| self.still_wrong(wire, claim, text));
                tally
                    .contradictions
                    .push(self.report(wire, claim, &how, &small));
                loaded = false;
            }
        }
    }

    /// Loads it, and reads back what there is then.
    fn loaded(&self, wire: &mut Wire) -> String {
        let (all, docker0) = match self.localnet {
            Localnet::All => ("1", "0"),
            Localnet::Docker0 => ("0", "1"),
            Localnet::Off => ("0", "0"),
        };
        wire.lab
            .host
            .set_sysctl("net/ipv4/conf/all/route_localnet", all);
        wire.lab
            .host
            .set_sysctl("net/ipv4/conf/docker0/route_localnet", docker0);
        wire.load(self.family, &self.text).unwrap_or_else(|e| {
            panic!(
                "{}: the generator is wrong: {e}\n{}",
                self.origin, self.text
            )
        })
    }

    fn host(&self, wire: &Wire) -> HostView {
        HostView {
            native: wire.native(self.family),
            ipsets: wire.ipsets.clone(),
            ..host_view(self.localnet)
        }
    }

    fn parse(&self, saved: &str) -> Ruleset {
        parse_save(self.family, saved)
            .unwrap_or_else(|e| panic!("{}: not parsed: {e}\n{saved}", self.origin))
    }

    fn still_wrong(&self, wire: &mut Wire, claim: &Claim, text: &str) -> bool {
        let Ok(saved) = wire.load(self.family, text) else {
            return false;
        };
        let parsed = self.parse(&saved);
        let verdict = Prover::new(&[&parsed], &self.host(wire)).prove(claim);
        let judged = judge(wire, &mut Random::new(1), claim, &verdict, &saved, SHORT);
        matches!(judged, Judged::Contradicted(_))
    }

    fn report(&self, wire: &mut Wire, claim: &Claim, how: &str, small: &str) -> String {
        let backend = wire.backend;
        let mut out = format!("CONTRADICTED: {}, {backend:?}\n", self.origin);
        let _ = writeln!(out, "claim: {claim} (turned: {})", claim.packets.turned);
        if let Ok(saved) = wire.load(self.family, small) {
            let parsed = self.parse(&saved);
            let verdict = Prover::new(&[&parsed], &self.host(wire)).prove(claim);
            let judged = judge(wire, &mut Random::new(1), claim, &verdict, &saved, SHORT);
            let _ = match &verdict {
                Verdict::Held => writeln!(out, "verdict: held"),
                Verdict::Violated { walk } => {
                    let flags = walk.example.as_ref().and_then(|p| p.flags);
                    writeln!(out, "verdict: violated, flags {flags:?}\n{walk}")
                }
                Verdict::Undecided { why, .. } => writeln!(out, "verdict: undecided: {why}"),
            };
            let _ = writeln!(out, "packets: {judged:?}");
        }
        let _ = writeln!(out, "packets, before reduction: {how}");
        let family = family_name(self.family);
        let _ = writeln!(
            out,
            "--- to be kept:\n# {family}, route_localnet {:?}",
            self.localnet
        );
        out + small
    }
}
