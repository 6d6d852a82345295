//! Claims about processes in a cgroup.

use super::*;

const SLICE: &str = "ecstasks.slice";

fn from_cgroup(path: &str) -> Claim {
    let mut claim = imds("docker0");
    claim.packets.from = Origin::Cgroup(path.to_owned());
    claim
}

/// A host on which the slice has number 7, or is not there.
fn answer(rules: &str, claim: &Claim, now: Option<u64>) -> Verdict {
    let ruleset = tables(&[("filter", ":OUTPUT ACCEPT [0:0]", rules)]);
    let mut host = host();
    host.cgroups.insert(SLICE.to_owned(), now);
    prove(&ruleset, claim, &host)
}

fn word(rules: &str, claim: &Claim) -> &'static str {
    match answer(rules, claim, Some(7)) {
        Verdict::Held => "held",
        Verdict::Violated { .. } => "violated",
        Verdict::Undecided { .. } => "undecided",
    }
}

const NOTED: &str = "-m comment --comment \"ecs-netguard: host-imds-block (cgroup 7)\"";
const DROP: &str = "-A OUTPUT -d 169.254.169.254/32 -m cgroup --path \"ecstasks.slice\"";

#[test]
fn a_rule_for_the_slice_holds_for_all_in_it() {
    let rule = format!("{DROP} {NOTED} -j DROP");
    for inside in [SLICE, "ecstasks.slice/ecstasks-0f.slice/docker-0f.scope"] {
        assert_eq!(word(&rule, &from_cgroup(inside)), "held", "{inside}");
    }
    for outside in [
        "system.slice",
        "ecstasks.slice2",
        "system.slice/ecstasks.slice",
    ] {
        assert_eq!(word(&rule, &from_cgroup(outside)), "violated", "{outside}");
    }
    assert_eq!(word("", &from_cgroup(SLICE)), "violated");
    let mut anybody = from_cgroup(SLICE);
    anybody.packets.from = Origin::Host;
    assert_eq!(
        word(&rule, &anybody),
        "undecided",
        "others are not distinguished"
    );
    assert_eq!(
        word(&rule, &imds("docker0")),
        "violated",
        "and do not come by OUTPUT"
    );
}

#[test]
fn a_rule_that_was_made_for_an_earlier_one_is_dead() {
    let claim = from_cgroup(SLICE);
    let rule = format!("{DROP} {NOTED} -j DROP");
    for now in [Some(8), None] {
        match answer(&rule, &claim, now) {
            Verdict::Violated { walk } => {
                assert!(walk.to_string().contains("accepted"), "{walk}");
                assert!(walk.to_string().contains("cgroup ecstasks.slice"), "{walk}");
            }
            other => panic!("{}", sanitize(&other)),
        }
        let ruleset = tables(&[("filter", ":OUTPUT ACCEPT [0:0]", &rule)]);
        let mut host = host();
        host.cgroups.insert(SLICE.to_owned(), now);
        let prover = Prover::new(&[&ruleset], &host);
        let walk = prover.explain(&claim.packets);
        let step = walk.steps.iter().find(|step| step.rule == Some(1)).unwrap();
        assert!(step.note.starts_with("dead: "), "{walk}");
    }
}

#[test]
fn whether_a_rule_of_others_is_dead_is_unknown() {
    let claim = from_cgroup(SLICE);
    let foreign = format!("{DROP} -j DROP");
    assert_eq!(word(&foreign, &claim), "undecided");
    // Where it does not matter it does not.
    let below = format!("{DROP} {NOTED} -j DROP\n{DROP} -j ACCEPT");
    assert_eq!(word(&below, &claim), "held");
    let above = format!("{DROP} -j ACCEPT\n{DROP} {NOTED} -j DROP");
    assert_eq!(word(&above, &claim), "undecided");
    let beside =
        format!("-A OUTPUT -m cgroup --path system.slice -j ACCEPT\n{DROP} {NOTED} -j DROP");
    assert_eq!(word(&beside, &claim), "held");
    let not_beside = "-A OUTPUT -m cgroup ! --path system.slice -j DROP";
    assert_eq!(word(not_beside, &claim), "held", "dead or alive");
    let not_within = format!("{} {NOTED} -j ACCEPT", DROP.replace("--path", "! --path"));
    assert_eq!(word(&not_within, &claim), "violated");
    let some_of_them = "-A OUTPUT -m cgroup --path ecstasks.slice/ecstasks-0f.slice -j DROP";
    assert_eq!(word(some_of_them, &claim), "undecided");
    assert_eq!(word("-A OUTPUT -m cgroup --path / -j DROP", &claim), "held");
    assert_eq!(
        word("-A OUTPUT -m cgroup --cgroup 5 -j DROP", &claim),
        "undecided"
    );
    // A socket may be of another cgroup, or of another user: but there is one.
    let users = "-A OUTPUT -m owner --uid-owner 0-4294967294 -j DROP";
    assert_eq!(word(users, &claim), "violated", "one user is left");
}

#[test]
fn what_dnat_turns_to_it_is_meant_too() {
    let claim = from_cgroup(SLICE);
    let rules = |filter: &str, raw: &str| {
        tables(&[
            ("raw", ":OUTPUT ACCEPT [0:0]", raw),
            (
                "nat",
                ":OUTPUT ACCEPT [0:0]",
                "-A OUTPUT -d 192.0.2.1/32 -p tcp -j DNAT --to-destination 169.254.169.254",
            ),
            ("filter", ":OUTPUT ACCEPT [0:0]", filter),
        ])
    };
    let mut host = host();
    host.cgroups.insert(SLICE.to_owned(), Some(7));
    let drop = format!("{DROP} {NOTED} -j DROP");
    assert_eq!(prove(&rules(&drop, ""), &claim, &host), Verdict::Held);
    let early = prove(&rules("", &drop), &claim, &host);
    assert!(
        matches!(early, Verdict::Violated { .. }),
        "{}",
        sanitize(&early)
    );
}
