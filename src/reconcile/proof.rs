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
        let claims = claims.iter().filter(|(_, c)| c.packets.family == family);
        let groups = groups(claims);
        if groups.is_empty() {
            continue;
        }
        let (visible, sealed) = rulesets(family);
        let alone = Prover::new(&visible, host);
        let both = (sealed.len() > visible.len()).then(|| Prover::new(&sealed, host));
        for (joint, claims) in groups {
            let held =
                |prover: &Prover<'_>| claims.len() > 1 && prover.prove(&joint) == Verdict::Held;
            let all_visible = held(&alone);
            let all_held = !all_visible && both.as_ref().is_some_and(held);
            proofs.extend(claims.into_iter().map(|(guarantee, claim)| {
                let prove = |all_held: bool, prover: &Prover<'_>| match all_held {
                    true => Verdict::Held,
                    false => prover.prove(claim),
                };
                let verdict = prove(all_visible, &alone);
                let visible = verdict == Verdict::Held;
                let verdict = match &both {
                    Some(both) if !visible => prove(all_held, both),
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
    }
    proofs
}

/// Claims that follow each other and differ in nothing but the interfaces, with the claim of all their packets: one
/// walk instead of many, where it is held.
fn groups<'c>(
    claims: impl Iterator<Item = &'c (Guarantee, Claim)>,
) -> Vec<(Claim, Vec<&'c (Guarantee, Claim)>)> {
    let mut groups: Vec<(Claim, Vec<_>)> = Vec::new();
    for one in claims {
        let last = groups.last_mut();
        match last.and_then(|group| Some((group.0.with(&one.1)?, group))) {
            Some((both, group)) => {
                group.0 = both;
                group.1.push(one);
            }
            None => groups.push((one.1.clone(), vec![one])),
        }
    }
    groups
}

/// What is opened for what goes to the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// The chain INPUT of iptables.
    pub(super) iptables: bool,
    /// Native chains of others.
    pub(super) native: BTreeSet<ChainPlace>,
}

impl Opened {
    /// Leaves open what is open there, too.
    pub(super) fn extend(&mut self, other: &Self) {
        self.iptables |= other.iptables;
        self.native.extend(other.native.iter().cloned());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::parse_save;

    fn claims() -> Vec<(Guarantee, Claim)> {
        let settings = crate::config::settings::Settings::default();
        let posture = crate::posture::Posture::everything("a test");
        let desired = Desired::here(&settings, &posture, &crate::facts::Facts::default());
        desired.claims
    }

    #[test]
    fn what_is_open_is_left_open_with_the_rest() {
        let place = |chain: &str| ChainPlace {
            table: "t".to_owned(),
            chain: chain.to_owned(),
        };
        let opened = |iptables, chains: &[&str]| Opened {
            iptables,
            native: chains.iter().map(|chain| place(chain)).collect(),
        };
        for (one, other, both) in [
            (
                opened(false, &["a"]),
                opened(true, &["b"]),
                opened(true, &["a", "b"]),
            ),
            (
                opened(true, &[]),
                opened(false, &["b"]),
                opened(true, &["b"]),
            ),
            (
                opened(false, &["a"]),
                opened(false, &["a"]),
                opened(false, &["a"]),
            ),
        ] {
            let mut all = one;
            all.extend(&other);
            assert_eq!(all, both);
        }
    }

    /// The verdicts of the block of IPv4, by interface.
    fn verdicts(visible: &str, sealed: &str) -> Vec<(String, bool, bool)> {
        let read = |rules: &str| {
            let text = format!("*filter\n:FORWARD ACCEPT [0:0]\n{rules}COMMIT\n");
            parse_save(Family::V4, &text).unwrap()
        };
        let (visible, sealed) = (read(visible), read(sealed));
        let rulesets = |_| (vec![&visible], vec![&sealed, &visible]);
        let proofs = prove(&claims(), rulesets, &HostView::default());
        let block = proofs.into_iter().filter(|proof| {
            proof.guarantee == Guarantee::ImdsBlock && proof.claim.contains("169.254.169.254")
        });
        let words = block.map(|proof| {
            let interface = proof.claim.split(' ').nth(3).unwrap_or_default().to_owned();
            (interface, proof.visible, proof.verdict == Verdict::Held)
        });
        words.collect()
    }

    fn drop(interface: &str) -> String {
        format!("-A FORWARD -i {interface} -d 169.254.169.254/32 -j DROP\n")
    }

    #[test]
    fn each_claim_has_its_own_verdict_whether_all_are_held_together_or_not() {
        let of = |visible: &[&str], sealed: &[&str]| {
            let rules = |of: &[&str]| of.iter().map(|name| drop(name)).collect::<String>();
            verdicts(&rules(visible), &rules(sealed))
        };
        let all = ["docker+", "br-+", "ecs-bridge", "fargate-bridge"];
        let want = |visible: &[&str], held: &[&str]| {
            let word = |name: &&str| {
                (
                    (*name).to_owned(),
                    visible.contains(name),
                    held.contains(name),
                )
            };
            all.iter().map(word).collect::<Vec<_>>()
        };
        for (visible, sealed) in [
            (&all[..], &[][..]),
            (&[], &all),
            (&all[..2], &all[..3]),
            (&all[1..2], &[]),
            (&[], &[]),
        ] {
            let held = [visible, sealed].concat();
            assert_eq!(
                of(visible, sealed),
                want(visible, &held),
                "{visible:?} {sealed:?}"
            );
        }
    }
}
