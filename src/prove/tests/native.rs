//! Claims on hosts with rules of native nftables. What nft makes of a text, and packets of it, is in
//! tests/native.rs.

use super::*;
use crate::ruleset::native::{
    At, Base, Condition, Key, Kind, Marking, NativeChain, NativeRule, NativeTable, Statement,
    Verdict as To,
};
use crate::ruleset::{CtStates, Masked, Policy, Reach, Side};

/// A table with one base chain.
fn table(name: &str, base: Base, rules: Vec<Vec<Statement>>) -> NativeTable {
    let rules = rules.into_iter().map(|statements| NativeRule {
        text: format!("{statements:?}"),
        tracks: statements.iter().any(|s| {
            matches!(
                s,
                Statement::Dnat(_) | Statement::DnatByMap(_) | Statement::Masquerade(_)
            )
        }),
        statements,
        ..NativeRule::default()
    });
    let chain = NativeChain {
        base: Some(base),
        rules: rules.collect(),
    };
    NativeTable {
        family: Family::V4,
        name: name.to_owned(),
        bridge: name.starts_with("bridge"),
        chains: [("c".to_owned(), chain)].into(),
    }
}

fn at(at: At, priority: i32) -> Base {
    Base {
        at,
        priority,
        kind: Kind::Filter,
        policy: Policy::Accept,
        devices: Vec::new(),
    }
}

fn to_imds() -> Statement {
    let value = crate::ruleset::bits("169.254.169.254".parse().unwrap());
    Statement::Test(Condition::Bits {
        key: Key::Addr(Side::Dst),
        mask: u128::from(u32::MAX),
        value,
    })
}

fn from(name: &str) -> Statement {
    Statement::Test(Condition::In(IfacePattern::parse(name).unwrap()))
}

const DROP: Statement = Statement::Verdict(To::Drop);
const ACCEPT: Statement = Statement::Verdict(To::Accept);

fn effect(text: &str, reach: Reach) -> Statement {
    Statement::Effect(text.to_owned(), reach)
}

fn proved(ruleset: &Ruleset, native: Vec<NativeTable>, claim: &Claim) -> &'static str {
    let host = HostView { native, ..host() };
    match prove(ruleset, claim, &host) {
        Verdict::Held => "held",
        Verdict::Violated { .. } => "violated",
        Verdict::Undecided { .. } => "undecided",
    }
}

/// What a native chain makes of a block that iptables' FORWARD holds.
fn beside_the_block(native: NativeTable) -> &'static str {
    proved(&forward(BLOCK), vec![native], &imds("docker0"))
}

#[test]
fn a_native_drop_is_final_wherever_it_stands() {
    let claim = imds("docker0");
    let accept = forward("-A FORWARD -j ACCEPT");
    let drop = || vec![vec![from("docker+"), to_imds(), DROP]];
    for hook in [At::Prerouting, At::Forward, At::Postrouting] {
        for priority in [-400, -10, 0, 400] {
            let native = table("ip mine", at(hook, priority), drop());
            assert_eq!(
                proved(&accept, vec![native], &claim),
                "held",
                "{hook:?} {priority}"
            );
        }
    }
    for hook in [At::Input, At::Output] {
        let native = table("ip mine", at(hook, 0), drop());
        assert_eq!(
            proved(&accept, vec![native], &claim),
            "violated",
            "{hook:?}"
        );
    }
    // A chain's accept ends that chain alone.
    let accepts = table("inet fw", at(At::Forward, -10), vec![vec![ACCEPT]]);
    assert_eq!(proved(&forward(BLOCK), vec![accepts], &claim), "held");
    let nothing = table(
        "inet fw",
        at(At::Forward, 10),
        vec![vec![to_imds(), ACCEPT], vec![DROP]],
    );
    assert_eq!(proved(&forward(""), vec![nothing], &claim), "violated");
    let strict = Base {
        policy: Policy::Drop,
        ..at(At::Forward, 10)
    };
    assert_eq!(
        proved(&forward(""), vec![table("inet fw", strict, vec![])], &claim),
        "held"
    );
}

#[test]
fn of_a_chain_of_nat_only_first_packets_are_asked() {
    let base = Base {
        kind: Kind::Nat,
        ..at(At::Prerouting, -300)
    };
    let native = || table("ip early", base.clone(), vec![vec![to_imds(), DROP]]);
    assert_ne!(
        proved(&forward(""), vec![native()], &first("docker0")),
        "held"
    );
    // Whatever its priority is, it comes after connection tracking and what raw exempts from it.
    let raw = tables(&[(
        "raw",
        ":PREROUTING ACCEPT [0:0]",
        "-A PREROUTING -p udp -j NOTRACK",
    )]);
    assert_ne!(proved(&raw, vec![native()], &first("docker0")), "held");
}

#[test]
fn native_rules_do_more_than_drop() {
    let turns = || {
        vec![vec![effect(
            "ip daddr set 169.254.169.254",
            Reach::Anywhere,
        )]]
    };
    for base in [
        at(At::Forward, 10),
        at(At::Postrouting, 0),
        Base {
            devices: vec!["eth0".to_owned()],
            ..at(At::Egress, 0)
        },
        at(At::Prerouting, -350),
    ] {
        assert_eq!(
            beside_the_block(table("ip odd", base.clone(), turns())),
            "undecided",
            "{base:?}"
        );
    }
    for text in ["dup", "fwd"] {
        let copies = || vec![vec![effect(text, Reach::Copies)]];
        let early = table("ip odd", at(At::Prerouting, -350), copies());
        assert_eq!(beside_the_block(early), "undecided", "{text}");
        let device = Base {
            devices: vec!["docker0".to_owned()],
            ..at(At::Ingress, 0)
        };
        assert_eq!(
            beside_the_block(table("netdev odd", device, copies())),
            "undecided",
            "{text}"
        );
        // Of what does not come there no copy is made.
        let late = table("ip odd", at(At::Forward, 10), copies());
        assert_eq!(beside_the_block(late), "held", "{text}");
    }
}

#[test]
fn marks_and_exemptions_of_native_rules_are_computed() {
    let claim = imds("docker0");
    let mark = |value| {
        vec![vec![Statement::Mark(Marking::Set(Masked {
            value,
            mask: u32::MAX,
        }))]]
    };
    let dropped = forward("-A FORWARD -d 169.254.169.254/32 -m mark --mark 0x1 -j DROP");
    let unmarked = forward("-A FORWARD -d 169.254.169.254/32 -m mark ! --mark 0x1 -j DROP");
    let early = |value| table("inet marks", at(At::Prerouting, -150), mark(value));
    assert_eq!(proved(&dropped, vec![early(1)], &claim), "held");
    assert_eq!(proved(&dropped, vec![early(2)], &claim), "violated");
    assert_eq!(proved(&unmarked, vec![early(1)], &claim), "violated");
    // At the same place either may come first.
    let beside = || table("inet marks", at(At::Forward, 0), mark(1));
    assert_eq!(proved(&dropped, vec![beside()], &claim), "undecided");
    assert_eq!(proved(&unmarked, vec![beside()], &claim), "undecided");
    // A bridge's own rules see what comes by one of its ports.
    let bridge = || table("bridge marks", at(At::Prerouting, 0), mark(1));
    assert_eq!(proved(&unmarked, vec![bridge()], &claim), "undecided");
    assert_eq!(proved(&forward(BLOCK), vec![bridge()], &claim), "held");
    // What NAT turned to the service has the marks that were set by then.
    let turned = tables(&[
        (
            "nat",
            ":PREROUTING ACCEPT [0:0]",
            "-A PREROUTING -j DNAT --to-destination 169.254.169.254",
        ),
        (
            "raw",
            ":PREROUTING ACCEPT [0:0]",
            "-A PREROUTING -d 169.254.169.254/32 -j DROP",
        ),
        (
            "filter",
            ":FORWARD ACCEPT [0:0]",
            "-A FORWARD -m mark ! --mark 0x1 -j DROP",
        ),
    ]);
    assert_eq!(proved(&turned, vec![], &claim), "held");
    assert_eq!(proved(&turned, vec![early(1)], &claim), "violated");
    assert_eq!(proved(&turned, vec![bridge()], &claim), "undecided");
    let late = table("inet marks", at(At::Forward, 10), mark(1));
    assert_eq!(proved(&turned, vec![late], &claim), "held");

    let tracked =
        forward("-A FORWARD -d 169.254.169.254/32 -m conntrack ! --ctstate UNTRACKED -j DROP");
    let exempt = table(
        "ip raw2",
        at(At::Prerouting, -310),
        vec![vec![from("docker0"), Statement::Notrack]],
    );
    assert_eq!(proved(&tracked, vec![], &claim), "held");
    assert_eq!(proved(&tracked, vec![exempt], &claim), "violated");
}

#[test]
fn nat_of_native_chains_is_followed() {
    let early = tables(&[(
        "raw",
        ":PREROUTING ACCEPT [0:0]",
        "-A PREROUTING -d 169.254.169.254/32 -j DROP",
    )]);
    let imds: std::net::IpAddr = "169.254.169.254".parse().unwrap();
    let turn = Statement::Dnat(crate::ruleset::Rewrite {
        addrs: Some((imds, imds)),
        ports: None,
    });
    let nat = |hook| Base {
        kind: Kind::Nat,
        ..at(hook, 5)
    };
    let turned = table("ip turn", nat(At::Prerouting), vec![vec![turn.clone()]]);
    assert_eq!(
        proved(&early, vec![turned.clone()], &super::imds("docker0")),
        "violated"
    );
    assert_eq!(
        proved(&forward(BLOCK), vec![turned], &super::imds("docker0")),
        "held"
    );
    let elsewhere = table(
        "ip turn",
        nat(At::Prerouting),
        vec![vec![from("eth9"), DROP]],
    );
    assert_eq!(
        proved(&early, vec![elsewhere], &super::imds("docker0")),
        "held"
    );
    // Undone on the way back, unless it is never asked for a packet from there.
    let source = |net: u128| {
        Statement::Test(Condition::Bits {
            key: Key::Addr(Side::Src),
            mask: 0xffff_0000,
            value: net,
        })
    };
    for (net, verdict) in [(0xac11_0000, "held"), (0xa9fe_0000, "violated")] {
        let rules = vec![vec![source(net), Statement::Masquerade(None)]];
        let back = table("ip back", nat(At::Postrouting), rules);
        assert_eq!(proved(&early, vec![back], &super::imds("docker0")), verdict);
    }
}

#[test]
fn nat_to_one_of_several_places_by_chance_is_followed() {
    let early = tables(&[(
        "raw",
        ":PREROUTING ACCEPT [0:0]",
        "-A PREROUTING -d 169.254.169.254/32 -j DROP",
    )]);
    let chance = || Condition::Either("numgen mod 2".to_owned());
    let to = |address: &str| {
        let address = address.parse().unwrap();
        crate::ruleset::Rewrite {
            addrs: Some((address, address)),
            ports: None,
        }
    };
    let nat = Base {
        kind: Kind::Nat,
        ..at(At::Prerouting, -100)
    };
    let service = |endpoints: [&str; 2]| {
        let [one, other] = endpoints.map(to);
        let all = vec![(chance(), one), (Condition::Always(true), other)];
        let turn = Statement::DnatByMap(all);
        table("ip services", nat.clone(), vec![vec![turn]])
    };
    let claim = first("docker0");
    for (endpoints, verdict) in [
        (["10.0.0.1", "10.0.0.2"], "held"),
        (["169.254.169.254", "10.0.0.2"], "violated"),
        (["10.0.0.1", "169.254.169.254"], "violated"),
    ] {
        let native = || vec![service(endpoints)];
        assert_eq!(proved(&early, native(), &claim), verdict, "{endpoints:?}");
        assert_eq!(proved(&forward(BLOCK), native(), &claim), "held");
    }
}

#[test]
fn what_is_not_understood_matters_only_where_it_decides() {
    let unknown = || Statement::Test(Condition::Unknown("meta cpu".to_owned()));
    let claim = imds("docker0");
    let dropping = || table("inet fw", at(At::Forward, -10), vec![vec![unknown(), DROP]]);
    assert_eq!(proved(&forward(BLOCK), vec![dropping()], &claim), "held");
    assert_eq!(proved(&forward(""), vec![dropping()], &claim), "undecided");
    let accepting = || {
        let rules = vec![vec![unknown(), ACCEPT], vec![to_imds(), DROP]];
        table("inet fw", at(At::Forward, -10), rules)
    };
    assert_eq!(proved(&forward(""), vec![accepting()], &claim), "undecided");
    assert_eq!(proved(&forward(BLOCK), vec![accepting()], &claim), "held");
    let states = Condition::State(CtStates::NEW).negated();
    let new = table(
        "inet fw",
        at(At::Forward, -10),
        vec![vec![Statement::Test(states), ACCEPT], vec![DROP]],
    );
    assert_eq!(
        proved(&forward(""), vec![new], &first("docker0")),
        "violated",
        "INVALID ones pass"
    );
}

#[test]
fn a_chain_for_nat_that_translates_nothing_is_asked_of_connections_alone() {
    let mut udp = first("docker0");
    udp.packets.protocol = Some(17);
    let mut drop = table("ip mine", at(At::Prerouting, -100), vec![vec![DROP]]);
    assert_eq!(proved(&forward(""), vec![drop.clone()], &udp), "held");
    let base = drop
        .chains
        .get_mut("c")
        .and_then(|chain| chain.base.as_mut());
    base.unwrap().kind = Kind::Nat;
    // A packet that is INVALID has none.
    assert_eq!(proved(&forward(""), vec![drop], &udp), "violated");
}
