//! Chains as words: `a`, `b` and `c` are rules of the guard, `x` and `y` are those of others.

use super::*;
use crate::guarantee::{Rules, Scope, TAG_PREFIX, interface};
use crate::ruleset::{Family, parse_listing};

fn wanted(names: &str) -> Vec<WantedRule> {
    let scope = Scope {
        interfaces: names.split_whitespace().map(interface).collect(),
        families: vec![Family::V4],
        ..Scope::default()
    };
    Rules::of(&[Guarantee::ImdsBlock], &scope).iptables
}

fn chain(names: &str) -> Chain {
    let line = |name: &str| match name {
        "x" | "y" => format!("-A FORWARD -i {name} -j ACCEPT\n"),
        // Written in another order than the guard writes it.
        _ => format!(
            "-A FORWARD -i {name} -d 169.254.169.254 -m comment --comment \"{TAG_PREFIX}imds-block\" \
             -j DROP\n"
        ),
    };
    let rules: String = names.split_whitespace().map(line).collect();
    let text = format!("-P FORWARD ACCEPT\n{rules}");
    let mut table = parse_listing(Family::V4, "filter", text).unwrap();
    table.chains.remove("FORWARD").unwrap()
}

/// The interface that a rule is about.
fn name(listed: &Listed) -> String {
    let words: Vec<&str> = listed.text.split(' ').collect();
    let at = words.iter().position(|word| *word == "-i").unwrap();
    words[at + 1].to_owned()
}

#[test]
fn each_way_in_which_a_chain_can_differ() {
    for (held, want, expected) in [
        ("", "", ""),
        ("x y", "", ""),
        ("a", "a", ""),
        ("a b x", "a b", ""),
        ("", "a", "missing a"),
        ("x", "a b", "missing a, missing b"),
        ("b", "a b", "missing a, displaced b"),
        ("x a", "a", "displaced a"),
        ("a x b", "a b", "displaced b"),
        ("b a", "a b", "displaced a, displaced b"),
        ("a a", "a", "doubled a"),
        ("a x a", "a", "doubled a"),
        ("a", "", "no longer wanted a"),
        ("a b", "a", "no longer wanted b"),
        ("x a b y", "b", "displaced b, no longer wanted a"),
        (
            "b b x c",
            "a",
            "missing a, no longer wanted b, no longer wanted b, no longer wanted c",
        ),
    ] {
        let (chain, want) = (chain(held), wanted(want));
        let want: Vec<&WantedRule> = want.iter().collect();
        let found = diff(&chain, &want);
        assert!(found.iter().all(|d| d.guarantee == Guarantee::ImdsBlock));
        let found = found
            .iter()
            .map(|d| format!("{} {}", d.kind, name(d.listed)));
        let found: Vec<String> = found.collect();
        assert_eq!(found.join(", "), expected, "{held:?} for {want:?}");
    }
}

#[test]
fn a_stray_rule_is_shown_as_the_chain_holds_it_and_any_other_as_it_is_wanted() {
    let (chain, want) = (chain("x b a"), wanted("a"));
    let found = diff(&chain, &[&want[0]]);
    let listed: Vec<&Listed> = found.iter().map(|d| d.listed).collect();
    assert_eq!(listed, [&want[0].listed, &chain.rules[1]]);
}

#[test]
fn a_stray_rule_is_the_guarantees_whose_tag_it_bears() {
    let text =
        format!("-P INPUT ACCEPT\n-A INPUT -m comment --comment \"{TAG_PREFIX}loopback-shield\"\n");
    let table = parse_listing(Family::V4, "filter", text).unwrap();
    let found = diff(&table.chains["INPUT"], &[]);
    assert_eq!(found[0].guarantee, Guarantee::LoopbackShield);
}
