//! The kernel is the oracle: random rulesets, what is proved of them, and what real packets do.
//!
//! A proof must never be contradicted: of what is held to be dropped nothing arrives, the example
//! of a violation does arrive, what is held to be delivered is delivered.
//!
//! `ECS_NETGUARD_ORACLE_SEED` and `ECS_NETGUARD_ORACLE_N` choose other rulesets, and how many.

mod case;
mod claims;
mod headers;
mod judge;
mod matches;
mod native;
mod packets;
pub(crate) mod random;
mod reduce;
mod rules;
mod sets;
mod spread;
mod tally;
mod wire;

use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use case::Case;
use claims::standard;
use ecs_netguard::ruleset::Family;
use lab::tamper::Backend;
use random::Random;
use tally::Tally;
use wire::Wire;

const SEED: u64 = 20_261_122;
const RULESETS: u64 = 300;
/// After so many contradictions a thread has said enough.
const ENOUGH: usize = 5;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}

#[test]
fn what_once_was_wrong_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/regressions");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "rules"));
    files.sort();
    for backend in Backend::ALL {
        let mut wire = Wire::new(backend);
        for file in &files {
            let mut tally = Tally::default();
            let case = Case::read(&fs::read_to_string(file).unwrap());
            let claims = standard(case.family);
            case.examine(&mut wire, &mut Random::new(SEED), &claims, &mut tally);
            assert!(
                tally.contradictions.is_empty(),
                "{}:\n{}",
                file.display(),
                tally.contradictions[0]
            );
        }
    }
}

/// Such a drop sees the address before.
#[test]
fn what_answers_a_connection_with_another_source_gets_around_an_early_drop() {
    for backend in Backend::ALL {
        let mut wire = Wire::new(backend);
        for (family, own, net) in [
            (Family::V4, "10.0.0.10", "10.7.0.0/16"),
            (Family::V6, "fd00:10::10", "fd00:7::/64"),
        ] {
            let name = judge::family_name(family);
            let imds = claims::imds(family);
            for (source, expected) in [
                ("-j MASQUERADE".to_owned(), "violated, agrees"),
                (
                    format!("-p udp -j SNAT --to-source {own}"),
                    "violated, agrees",
                ),
                (
                    format!("-o docker0 -j NETMAP --to {net}"),
                    "violated, agrees",
                ),
                (format!("! -s {imds} -j MASQUERADE"), "held, agrees"),
            ] {
                let text = format!(
                    "# {name}, route_localnet All\n\
                     *raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                     -A PREROUTING -d {imds} -i docker0 -j DROP\nCOMMIT\n\
                     *nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                     :POSTROUTING ACCEPT [0:0]\n-A POSTROUTING {source}\nCOMMIT\n\
                     *filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"
                );
                let claim = claims::block(family, 0, None);
                let said = Case::read(&text).ask(&mut wire, &claim);
                assert_eq!(said, expected, "{backend:?} {name} {source}");
            }
        }
    }
}

#[test]
fn packets_do_what_proofs_say() {
    let seed = number("ECS_NETGUARD_ORACLE_SEED", SEED);
    let rulesets = number("ECS_NETGUARD_ORACLE_N", RULESETS);
    println!("ECS_NETGUARD_ORACLE_SEED={seed} ECS_NETGUARD_ORACLE_N={rulesets}");
    let start = Instant::now();
    // Two at a time, one for each backend: even numbers are nft's, odd ones legacy's.
    let threads = Backend::ALL.map(|backend| {
        thread::spawn(move || {
            let first = if backend == Backend::Nft { 0 } else { 1 };
            let mut tally = Tally::default();
            let mut wire = Wire::new(backend);
            wire.bridged(true);
            for (count, number) in (first..rulesets).step_by(2).enumerate() {
                if count % 100 == 99 {
                    wire = Wire::new(backend);
                    wire.bridged(count % 200 == 199);
                }
                let mut random = Random::of_ruleset(seed, number);
                let case = Case::random(&mut random, seed, number);
                let claims = claims::claims(&mut random, case.family);
                case.examine(&mut wire, &mut random, &claims, &mut tally);
                if tally.contradictions.len() >= ENOUGH {
                    break;
                }
            }
            tally
        })
    });
    let mut tally = Tally::default();
    for thread in threads {
        match thread.join() {
            Ok(part) => tally.add(part),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    println!("{tally}");
    println!("{:.1} s", start.elapsed().as_secs_f64());
    for contradiction in &tally.contradictions {
        println!("{contradiction}\n");
    }
    assert!(
        tally.contradictions.is_empty(),
        "{} contradictions",
        tally.contradictions.len()
    );
}
