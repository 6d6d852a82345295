//! The matches whose answer depends on the moment, a rate or chance, and what is certain of each.

use super::matches::Chance;
use super::option::Opt;
use super::target::number;

/// What is certain of a match that depends on more than the packet.
pub(super) fn chance(module: &str, options: &[Opt<'_>]) -> Option<Chance> {
    let find = |name: &str| options.iter().find(|option| option.name == name);
    let operand = |name: &str| find(name).and_then(Opt::operand);
    let negated: Vec<&str> = options
        .iter()
        .filter(|o| o.negated)
        .map(|o| o.name)
        .collect();
    match module {
        "limit" => (negated.is_empty() && find("--limit").is_some()).then_some(Chance::Both),
        "hashlimit" => {
            let upto = find("--hashlimit-upto").is_some();
            let above = find("--hashlimit-above").is_some();
            (negated.is_empty() && upto != above).then_some(Chance::Both)
        }
        "statistic" => {
            let some = match operand("--mode")? {
                "random" => operand("--probability")
                    .and_then(|text| text.parse::<f64>().ok())
                    .is_some_and(|p| p > 0.0 && p < 1.0),
                "nth" => operand("--every")
                    .and_then(number)
                    .is_some_and(|every| every > 1),
                _ => false,
            };
            (some
                && negated
                    .iter()
                    .all(|n| matches!(*n, "--probability" | "--every")))
            .then_some(Chance::Both)
        }
        "recent" => {
            let modes = ["--set", "--rcheck", "--update", "--remove"];
            let mut named = options.iter().filter(|option| modes.contains(&option.name));
            let mode = named.next()?;
            if named.next().is_some() || negated.iter().any(|n| *n != mode.name) {
                return None;
            }
            match (mode.name, mode.negated) {
                ("--set", false) => Some(Chance::Always),
                ("--set", true) => None,
                (_, false) => Some(Chance::SurelyMisses),
                (_, true) => Some(Chance::SurelyApplies),
            }
        }
        // An ordinary packet has no IPv6 routing header, whatever type is asked for.
        "rt" => (negated.is_empty() && find("--rt-type").is_some()).then_some(Chance::SurelyMisses),
        // An ordinary packet came by no IPsec; which policies there are is not known.
        "policy" => {
            let inwards = negated.is_empty() && operand("--dir") == Some("in");
            match operand("--pol").filter(|_| inwards)? {
                "none" => Some(Chance::SurelyApplies),
                "ipsec" => Some(Chance::SurelyMisses),
                _ => None,
            }
        }
        "time" => {
            let parts = ["--timestart", "--timestop", "--weekdays"];
            let endless = operand("--datestop").is_none_or(|date| date == LAST_DATE);
            let negated_ok = negated.iter().all(|n| *n == "--weekdays");
            (endless && negated_ok && parts.iter().any(|part| find(part).is_some()))
                .then_some(Chance::Both)
        }
        _ => None,
    }
}

/// The end of time that libxt_time prints where no `--datestop` was given (1.8.9, also on 64 bits).
const LAST_DATE: &str = "2038-01-19T03:14:07";
