//! Claims and their verdicts. Pure.

use std::collections::BTreeSet;

use crate::desired::Desired;
use crate::guarantee::{Guarantee, task_credentials};
use crate::plan::{applied, openings};
use crate::prove::{Claim, HostView, Prover};
use crate::ruleset::native::{At, ChainPlace, Kind, NativeRule, NativeTable};
use crate::ruleset::{Family, Ruleset};
use crate::verdict::{Proof, Verdict};

/// Proves each claim about the rulesets of its family: the visible ones, and those with the seal in
/// front, which are asked where the visible ones alone do not do.
pub(crate) fn prove<'r>(
    claims: &[(Guarantee, Claim)],
    rulesets: impl Fn(Family) -> (Vec<&'r Ruleset>, Vec<&'r Ruleset>),
    host: &HostView,
) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut claims = claims
            .iter()
            .filter(|(_, c)| c.packets.family == family)
            .peekable();
        if claims.peek().is_none() {
            continue;
        }
        let (visible, sealed) = rulesets(family);
        let alone = Prover::new(&visible, host);
        let both = (sealed.len() > visible.len()).then(|| Prover::new(&sealed, host));
        proofs.extend(claims.map(|(guarantee, claim)| {
            let verdict = alone.prove(claim);
            let visible = verdict == Verdict::Held;
            let verdict = match &both {
                Some(both) if !visible => both.prove(claim),
                _ => verdict,
            };
            Proof {
                guarantee: *guarantee,
                claim: claim.to_string(),
                verdict,
                visible,
            }
        }));
    }
    proofs
}

/// What is opened for what goes to the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// The chain INPUT of iptables.
    pub(super) iptables: bool,
    /// Native chains of others.
    pub(super) native: BTreeSet<ChainPlace>,
}

/// What has to be opened because it would drop what goes to the agent although every other wanted rule is
/// in place: as little as is enough.
///
/// The question is put to the rules as they will be, not as they are: so the answer is the same before
/// the rules are in, with the ACCEPT in place, and after another program removed it.
pub(super) fn to_be_opened(desired: &Desired, ipv4: &[&Ruleset], host: &HostView) -> Opened {
    let claims: Vec<_> = desired
        .claims_of(Family::V4)
        .filter(|(guarantee, _)| *guarantee == Guarantee::TaskCredentials)
        .cloned()
        .collect();
    let Some((own, other)) = ipv4.split_first() else {
        return Opened::default();
    };
    if claims.is_empty() {
        return Opened::default();
    }
    let mut host = host.clone();
    let routes = &desired.rules.routes;
    host.unroutable
        .retain(|to| !routes.iter().any(|wish| *to == wish.to));
    for wish in &desired.rules.sysctls {
        host.route_localnet |= wish.interface == "all";
        for (name, interface) in &mut host.interfaces {
            interface.route_localnet |= wish.interface == "all" || wish.interface == *name;
        }
    }
    close(&mut host.native);
    let mut opened_rules = desired.rules.clone();
    opened_rules
        .iptables
        .extend(task_credentials::open_input().iptables);
    let [closed, open] = [&desired.rules, &opened_rules].map(|rules| applied(rules, own));
    let held = |opened: &Opened| {
        let own = if opened.iptables { &open } else { &closed };
        let layers: Vec<&Ruleset> = [own].into_iter().chain(other.iter().copied()).collect();
        let mut host = host.clone();
        opened
            .native
            .iter()
            .for_each(|place| open_chain(&mut host.native, place));
        let proofs = prove(&claims, |_| (layers.clone(), Vec::new()), &host);
        let held = proofs.iter().filter(|proof| proof.verdict == Verdict::Held);
        held.count()
    };
    let nothing = Opened::default();
    let without = held(&nothing);
    if without == claims.len() {
        return nothing;
    }
    let mut opened = Opened {
        iptables: true,
        native: inputs(&host.native),
    };
    let most = held(&opened);
    if most <= without {
        return nothing;
    }
    if opened.native.is_empty() {
        return opened;
    }
    // What makes no difference stays closed.
    let mut fewer = vec![Opened {
        iptables: false,
        ..opened.clone()
    }];
    for place in opened.native.clone() {
        while let Some(candidate) = fewer.pop() {
            if held(&candidate) == most {
                opened = candidate;
            }
        }
        let mut candidate = opened.clone();
        candidate.native.remove(&place);
        fewer.push(candidate);
    }
    while let Some(candidate) = fewer.pop() {
        if held(&candidate) == most {
            opened = candidate;
        }
    }
    opened
}

/// The native base chains that packets for the host come to.
fn inputs(tables: &[NativeTable]) -> BTreeSet<ChainPlace> {
    let mut places = BTreeSet::new();
    for table in tables
        .iter()
        .filter(|table| table.family == Family::V4 && !table.bridge)
    {
        for (chain, content) in &table.chains {
            let base = content.base.as_ref();
            if base.is_some_and(|base| base.at == At::Input && base.kind == Kind::Filter)
                && !content.is_idle()
            {
                places.insert(ChainPlace {
                    table: table.name.clone(),
                    chain: chain.clone(),
                });
            }
        }
    }
    places
}

/// Takes the guard's own rules out of native tables of others.
fn close(tables: &mut [NativeTable]) {
    let own = openings(tables.iter().filter(|table| table.family == Family::V4));
    for table in tables {
        for (chain, content) in &mut table.chains {
            content.rules.retain(|rule| {
                !own.iter().any(|opening| {
                    opening.handle == rule.handle
                        && opening.place.chain == *chain
                        && opening.place.table == table.name
                })
            });
        }
    }
}

/// Puts the guard's own rule on top of a native chain.
fn open_chain(tables: &mut [NativeTable], place: &ChainPlace) {
    let of_ipv4 =
        |table: &&mut NativeTable| table.family == Family::V4 && table.name == place.table;
    for table in tables.iter_mut().filter(of_ipv4) {
        if let Some(content) = table.chains.get_mut(&place.chain) {
            let rule = NativeRule {
                statements: task_credentials::native_opening(),
                text: task_credentials::native_opening_text(),
                tracks: true,
                ..NativeRule::default()
            };
            content.rules.insert(0, rule);
        }
    }
}
