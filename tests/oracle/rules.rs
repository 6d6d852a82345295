//! Random rulesets, as text for `iptables-restore`.

use ecs_netguard::ruleset::Family;

use super::claims::BRIDGES;
use super::matches::{Place, matches, target};
use super::random::Random;

const TABLES: [(&str, &[&str]); 4] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    (
        "mangle",
        &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
    ),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
];

/// A ruleset. `dark`: with matches and targets that are not understood.
pub(crate) fn ruleset(random: &mut Random, family: Family, dark: bool) -> String {
    let mut out = String::new();
    // Some tables are left empty, so that a verdict does not hang on raw's DROPs alone.
    for (table, hooks) in TABLES {
        let quiet = random.percent(match table {
            "filter" => 5,
            "nat" => 30,
            _ => 50,
        });
        let rules = if quiet { 0 } else { 1 + random.below(5) };
        out += &format!("*{table}\n");
        for hook in hooks {
            let drops = table == "filter" && random.percent(25);
            out += &format!(":{hook} {} [0:0]\n", if drops { "DROP" } else { "ACCEPT" });
        }
        let users = if quiet { 0 } else { random.below(5) };
        for user in 0..users {
            out += &format!(":U{user} - [0:0]\n");
        }
        let mut chains: Vec<(String, Vec<String>)> = Vec::new();
        for user in 0..users {
            // In nat the first half of the chains is for destinations, the other for sources.
            let place = Place {
                family,
                table,
                hook: "",
                before: user < 2,
                dark,
            };
            let rules = (0..random.below(5))
                .map(|_| rule(random, place, user + 1, users))
                .collect();
            chains.push((format!("U{user}"), rules));
        }
        for hook in hooks {
            let before = *hook == "PREROUTING" || *hook == "OUTPUT";
            let place = Place {
                family,
                table,
                hook,
                before,
                dark,
            };
            let rules = (0..random.below(rules + 1)).map(|_| rule(random, place, 0, users));
            chains.push(((*hook).to_owned(), rules.collect()));
        }
        guard(random, family, table, &mut chains);
        for (chain, rules) in chains {
            for rule in rules {
                out += &format!("-A {chain} {rule}\n");
            }
        }
        out += "COMMIT\n";
    }
    out
}

/// A rule of a chain that may jump to the user chains from `first` on.
fn rule(random: &mut Random, place: Place, first: usize, users: usize) -> String {
    let (matches, ports) = matches(random, place);
    let reachable: Vec<usize> = (first..users)
        .filter(|user| place.table != "nat" || (*user < 2) == place.before)
        .filter(|_| place.hook != "INPUT" || place.table != "nat")
        .collect();
    if !reachable.is_empty() && random.percent(30) {
        let how = random.pick(&["-j", "-j", "-g"]);
        return format!("{matches}{how} U{}", random.pick(&reachable));
    }
    if place.table == "nat" && place.hook == "INPUT" {
        return format!("{matches}-j ACCEPT");
    }
    if random.percent(4) {
        return matches.trim_end().to_owned(); // A rule without a target counts, and nothing else.
    }
    format!("{matches}-j {}", target(random, place, ports))
}

/// The guard's own rules, often, and often on top.
fn guard(random: &mut Random, family: Family, table: &str, chains: &mut [(String, Vec<String>)]) {
    let v4 = family == Family::V4;
    let mut put = |random: &mut Random, chain: &str, rule: String| {
        for (name, rules) in chains.iter_mut() {
            if name == chain {
                let at = if random.percent(40) {
                    0
                } else {
                    random.below(rules.len() + 1)
                };
                rules.insert(at, rule.clone());
            }
        }
    };
    match table {
        "filter" if random.percent(35) => {
            let imds = if v4 {
                "169.254.169.254/32"
            } else {
                "fd00:ec2::254/128"
            };
            for bridge in BRIDGES {
                put(random, "FORWARD", format!("-d {imds} -i {bridge} -j DROP"));
            }
            if v4 && random.percent(40) {
                let open = "-d 127.0.0.1/32 -p tcp -m tcp --dport 51679 -j ACCEPT";
                put(random, "INPUT", open.to_owned());
            }
        }
        "nat" if v4 && random.percent(60) => {
            let endpoint = "-d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j";
            let to = "--to-destination 127.0.0.1:51679";
            put(random, "PREROUTING", format!("{endpoint} DNAT {to}"));
            put(
                random,
                "OUTPUT",
                format!("{endpoint} REDIRECT --to-ports 51679"),
            );
        }
        _ => {}
    }
}
