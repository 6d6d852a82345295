//! Claims and their verdicts. Pure.

use crate::desired::Desired;
use crate::guarantee::{Guarantee, task_credentials};
use crate::plan::applied;
use crate::prove::{Claim, HostView, Prover};
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

/// Whether INPUT would drop what goes to the agent although every other wanted rule is in place, and
/// the one ACCEPT mends it.
///
/// The question is put to the rulesets as they will be, not as they are: so the answer is the same
/// before the rules are in, with the ACCEPT in place, and after another program removed it.
pub(super) fn open_input_is_needed(desired: &Desired, ipv4: &[&Ruleset], host: &HostView) -> bool {
    let claims: Vec<_> = desired
        .claims_of(Family::V4)
        .filter(|(guarantee, _)| *guarantee == Guarantee::TaskCredentials)
        .cloned()
        .collect();
    let Some((own, other)) = ipv4.split_first() else {
        return false;
    };
    if claims.is_empty() {
        return false;
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
    let held = |rules| {
        let own = applied(rules, own);
        let layers: Vec<&Ruleset> = [&own].into_iter().chain(other.iter().copied()).collect();
        let proofs = prove(&claims, |_| (layers.clone(), Vec::new()), &host);
        proofs
            .iter()
            .filter(|proof| proof.verdict == Verdict::Held)
            .count()
    };
    let without = held(&desired.rules);
    if without == claims.len() {
        return false;
    }
    let mut opened = desired.rules.clone();
    opened
        .iptables
        .extend(task_credentials::open_input().iptables);
    held(&opened) > without
}
