//! What stands in the tables, what that comes to, and what has to be done about it.

use std::net::{IpAddr, Ipv4Addr};

use super::abilities::Ability;
use super::tables::{Change, TABLE, TWIN, chains, change, drops};
use super::{Found, SealState};
use crate::guarantee::{Cgroup, Guarantee, NativeHook, NativeRule, NativeVerdict};
use crate::os::nft::{DORMANT, OWNER, PERSIST, Table};
use crate::ruleset::{Family, IfacePattern};

/// The port of the daemon's socket, and of another process's.
const MINE: u32 = 17;
const THEIRS: u32 = 4711;

pub(super) fn drop() -> NativeRule {
    NativeRule {
        guarantee: Guarantee::ImdsBlock,
        hook: NativeHook::Forward,
        family: Family::V4,
        iif: IfacePattern::parse("docker+"),
        cgroup: None,
        dst: IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
        tcp_port: None,
        verdict: NativeVerdict::Drop,
    }
}

pub(super) fn cgroup(id: u64) -> NativeRule {
    NativeRule {
        guarantee: Guarantee::HostImdsBlock,
        hook: NativeHook::Output,
        iif: None,
        cgroup: Some(Cgroup {
            path: "ecstasks.slice".to_owned(),
            id,
        }),
        ..drop()
    }
}

pub(super) fn nat() -> NativeRule {
    NativeRule {
        guarantee: Guarantee::TaskCredentials,
        hook: NativeHook::NatOutput,
        iif: None,
        tcp_port: Some(80),
        verdict: NativeVerdict::Redirect(51679),
        ..drop()
    }
}

fn rules() -> Vec<NativeRule> {
    vec![drop(), cgroup(7), nat()]
}

/// A table that holds these rules, each of which has counted `packets`.
fn table(name: &str, rules: &[NativeRule], flags: u32, owner: u32, packets: u64) -> Table {
    let mut chains = chains(name, rules);
    for rule in chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        *rule = rule.counting(packets);
    }
    Table {
        flags,
        owner,
        chains,
        others: 0,
    }
}

fn own(flags: u32, owner: u32) -> Option<Table> {
    Some(table(TABLE, &rules(), flags, owner, 5))
}

fn twin() -> Option<Table> {
    Some(table(TWIN, &drops(&rules()), 0, 0, 2))
}

fn state(own: Option<Table>, twin: Option<Table>) -> (SealState, usize, bool) {
    let reading = Found { own, twin }.judge(&rules());
    (reading.state, reading.rules.len(), reading.twinless)
}

#[test]
fn the_state_follows_from_the_tables() {
    use SealState::{Missing, Owned, OwnedPersistent, Twin, Unowned};
    let both = OWNER | PERSIST;
    for (what, own, twin, expected) in [
        ("nothing", None, None, (Missing, 0, false)),
        ("owned", own(both, MINE), None, (OwnedPersistent, 3, false)),
        ("an orphan", own(both, 0), None, (Unowned, 3, false)),
        ("with its twin", own(OWNER, MINE), twin(), (Owned, 3, false)),
        ("twinless", own(OWNER, MINE), None, (Owned, 3, true)),
        ("without an owner", own(0, 0), None, (Unowned, 3, false)),
        ("the twin alone", None, twin(), (Twin, 2, false)),
        ("asleep", own(DORMANT, 0), None, (Missing, 0, false)),
        (
            "asleep, the twin not",
            own(DORMANT, 0),
            twin(),
            (Twin, 2, false),
        ),
    ] {
        assert_eq!(state(own, twin), expected, "{what}");
    }
}

/// What another program may have done to a table.
type Alteration = (&'static str, fn(&mut Table));

const ALTERATIONS: [Alteration; 12] = [
    ("a rule is gone", |t| t.chains[0].rules.truncate(0)),
    ("a rule is there twice", |t| {
        let again = t.chains[0].rules[0].clone();
        t.chains[0].rules.push(again);
    }),
    ("another rule", |t| {
        t.chains[0].rules[0] = t.chains[2].rules[0].clone()
    }),
    ("a chain is gone", |t| {
        t.chains.remove(0);
    }),
    ("a chain more", |t| {
        let mut more = t.chains[0].clone();
        more.name = "more".to_owned();
        t.chains.push(more);
    }),
    ("another policy", |t| t.chains[0].accepts = false),
    ("another hook", |t| {
        t.chains[0].base.as_mut().unwrap().number = 1
    }),
    ("another priority", |t| {
        t.chains[0].base.as_mut().unwrap().priority += 1
    }),
    ("another type", |t| {
        t.chains[0].base.as_mut().unwrap().kind = "nat".to_owned()
    }),
    ("not hooked in", |t| t.chains[0].base = None),
    ("a chain for a device to decide", |t| t.chains[0].flags = 2),
    ("a set more", |t| t.others = 1),
];

#[test]
fn a_table_that_is_altered_in_anything_is_not_intact() {
    for (what, alter) in ALTERATIONS {
        let mut altered = table(TABLE, &rules(), 0, 0, 0);
        alter(&mut altered);
        assert_eq!(
            state(Some(altered.clone()), None).0,
            SealState::Missing,
            "{what}"
        );
        let wanted = chains(TABLE, &rules());
        assert_eq!(
            change(Some(&altered), &wanted, 0, MINE),
            Ok(Change::Replace),
            "{what}"
        );
    }
}

#[test]
fn what_a_kernel_does_not_support_is_not_missed() {
    for (rules, in_force) in [
        (vec![drop(), cgroup(7)], 2),
        (vec![drop(), nat()], 2),
        (vec![drop()], 1),
        (vec![cgroup(7), nat()], 0),
        (vec![nat()], 0),
        (vec![], 0),
    ] {
        let own = table(TABLE, &rules, OWNER | PERSIST, MINE, 0);
        let expected = match in_force {
            0 => SealState::Missing,
            _ => SealState::OwnedPersistent,
        };
        assert_eq!(
            state(Some(own), None),
            (expected, in_force, false),
            "{rules:?}"
        );
    }
}

#[test]
fn rules_for_a_cgroup_that_is_no_more_are_dead_and_named() {
    let before = [drop(), cgroup(6), nat()];
    let found = Found {
        own: Some(table(TABLE, &before, OWNER | PERSIST, MINE, 5)),
        twin: None,
    };
    let reading = found.judge(&rules());
    assert_eq!(reading.state, SealState::Missing);
    assert_eq!(reading.rules, before);
    assert!(reading.why.unwrap().contains("cgroup that was deleted"));
    assert_eq!(reading.intact, [TABLE]);
}

#[test]
fn both_tables_count() {
    let found = Found {
        own: own(OWNER, MINE),
        twin: twin(),
    };
    let reading = found.judge(&rules());
    assert_eq!(reading.stopped, [(drop(), 7), (cgroup(7), 7)]);
    assert!(reading.accounts_for("inet ecs_netguard forward"));
    assert!(reading.accounts_for("inet ecs_netguard_twin forward"));
    assert!(!reading.accounts_for("ip ecs_netguard forward"));
    assert!(!reading.accounts_for("inet ecs_netguard_twine forward"));
    assert_eq!(reading.holds(&rules(), Guarantee::ImdsBlock), Some(true));
    assert_eq!(reading.holds(&rules(), Guarantee::LoopbackShield), None);
    let twin_alone = Found {
        own: None,
        twin: twin(),
    }
    .judge(&rules());
    assert_eq!(
        twin_alone.holds(&rules(), Guarantee::TaskCredentials),
        Some(false)
    );
    assert!(!twin_alone.accounts_for("inet ecs_netguard forward"));
}

#[test]
fn what_is_done_to_a_table() {
    let both = OWNER | PERSIST;
    let wanted = chains(TABLE, &rules());
    let bare = |flags, owner| {
        Some(Table {
            flags,
            owner,
            ..Table::default()
        })
    };
    for (what, found, flags, expected) in [
        ("none", None, both, Ok(Change::Make)),
        ("mine", own(both, MINE), both, Ok(Change::Nothing)),
        ("theirs", own(both, THEIRS), both, Err(THEIRS)),
        ("an orphan", own(both, 0), both, Ok(Change::Adopt)),
        (
            "mine, made for the probe",
            bare(both, MINE),
            both,
            Ok(Change::Fill),
        ),
        (
            "mine, for an older kernel",
            own(OWNER, MINE),
            both,
            Ok(Change::Replace),
        ),
        (
            "un-owned, but it can be owned",
            own(0, 0),
            both,
            Ok(Change::Replace),
        ),
        ("un-owned, bare", bare(0, 0), both, Ok(Change::Replace)),
        ("un-owned", own(0, 0), 0, Ok(Change::Nothing)),
        (
            "an orphan that another may adopt",
            own(both, 0),
            0,
            Ok(Change::Replace),
        ),
        (
            "theirs, where there is no owner",
            own(OWNER, THEIRS),
            0,
            Err(THEIRS),
        ),
        ("asleep", own(DORMANT, 0), 0, Ok(Change::Replace)),
    ] {
        assert_eq!(
            change(found.as_ref(), &wanted, flags, MINE),
            expected,
            "{what}"
        );
    }
    assert_eq!(change(None, &[], both, MINE), Ok(Change::Nothing));
    assert_eq!(
        change(own(both, MINE).as_ref(), &[], 0, MINE),
        Ok(Change::Remove)
    );
    assert_eq!(
        change(own(both, THEIRS).as_ref(), &[], 0, MINE),
        Err(THEIRS)
    );
}

#[test]
fn the_twin_is_there_only_where_the_owned_table_would_vanish() {
    let messages = |flags| {
        let draft = Found::default().draft(&rules(), flags, MINE).unwrap();
        draft.batch.last()
    };
    // A table, three chains, three rules; the twin has neither the redirection nor its chain.
    assert_eq!(messages(OWNER | PERSIST), 7);
    assert_eq!(messages(OWNER), 7 + 5);
    assert_eq!(messages(0), 7);
}

#[test]
fn a_refused_message_tells_which_ability_is_lacking() {
    let draft = Found::default().draft(&rules(), 0, MINE).unwrap();
    let needed: Vec<_> = (0..=8).map(|message| draft.needed_by(message)).collect();
    let (nat, cgroup) = (Some(Ability::Nat), Some(Ability::Cgroup));
    // The batch as a whole, the table, and a chain and a rule at each hook.
    assert_eq!(
        needed,
        [None, None, None, None, None, cgroup, nat, nat, None]
    );
}
