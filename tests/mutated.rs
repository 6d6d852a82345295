//! Real rulesets with something broken in them: they parse or they do not, and what parses can be
//! proved about, in a moment and without a panic.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ecs_netguard::prove::{
    Addrs, Claim, Destination, Expect, HostView, Moment, Origin, PacketClass, Prover,
};
use ecs_netguard::ruleset::{Family, IfacePattern, Net, parse_save};
use proptest::prelude::*;
use proptest::sample::Index;

/// Far more than a proof takes on a busy machine, unoptimized.
const LIMIT: Duration = Duration::from_secs(10);

/// One thing that goes wrong with a text.
#[derive(Clone, Debug)]
enum Mutation {
    DropLine(Index),
    DoubleLine(Index),
    SwapLines(Index, Index),
    /// A word of one line in the place of a word of another.
    MoveWord(Index, Index),
    DropWord(Index),
    Byte(Index, u8),
    Cut(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        3 => at().prop_map(Mutation::DropLine),
        2 => at().prop_map(Mutation::DoubleLine),
        3 => (at(), at()).prop_map(|(a, b)| Mutation::SwapLines(a, b)),
        4 => (at(), at()).prop_map(|(a, b)| Mutation::MoveWord(a, b)),
        4 => at().prop_map(Mutation::DropWord),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        1 => at().prop_map(Mutation::Cut),
    ]
}

impl Mutation {
    fn apply(&self, text: Vec<u8>) -> Vec<u8> {
        if text.is_empty() {
            return text;
        }
        let separator = match self {
            Self::DropLine(_) | Self::DoubleLine(_) | Self::SwapLines(..) => b'\n',
            _ => b' ',
        };
        let mut text = text;
        let mut parts: Vec<Vec<u8>> = text
            .split(|byte| *byte == separator)
            .map(<[u8]>::to_vec)
            .collect();
        let count = parts.len();
        match self {
            Self::DropLine(at) | Self::DropWord(at) => drop(parts.remove(at.index(count))),
            Self::DoubleLine(at) => parts.insert(at.index(count), parts[at.index(count)].clone()),
            Self::SwapLines(a, b) => parts.swap(a.index(count), b.index(count)),
            Self::MoveWord(a, b) => parts[a.index(count)] = parts[b.index(count)].clone(),
            Self::Byte(at, byte) => {
                let length = text.len();
                text[at.index(length)] = *byte;
                return text;
            }
            Self::Cut(at) => {
                text.truncate(at.index(text.len()));
                return text;
            }
        }
        parts.join(&separator)
    }
}

/// The rulesets kept below tests/.
fn kept() -> Vec<(Family, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in ["fixtures", "oracle/regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(folder);
        for file in fs::read_dir(folder).into_iter().flatten() {
            let file = file.unwrap().path();
            let extension = file
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            if !extension.starts_with("rules") {
                continue;
            }
            let text = fs::read(&file).unwrap();
            // A walk through thousands of rules takes its time, and finds nothing that hundreds do not.
            if text.len() < 60_000 {
                let v6 = extension == "rules6" || text.starts_with(b"# IPv6");
                found.push((if v6 { Family::V6 } else { Family::V4 }, text));
            }
        }
    }
    found.sort_by(|(_, a), (_, b)| a.cmp(b));
    assert!(!found.is_empty(), "no rulesets are kept");
    found
}

fn block(family: Family, turned: bool) -> Claim {
    let imds = match family {
        Family::V4 => "169.254.169.254",
        Family::V6 => "fd00:ec2::254",
    };
    Claim {
        guarantee: "imds-block".to_owned(),
        packets: PacketClass {
            family,
            from: Origin::Interface(IfacePattern::parse("docker+").unwrap().into()),
            out: None,
            src: Addrs::default(),
            dst: Destination::Net(Net::parse(family, imds).unwrap()),
            protocol: None,
            sport: None,
            dport: None,
            moment: Moment::Any,
            turned,
        },
        expect: Expect::Dropped,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn a_broken_ruleset_is_an_error_or_can_be_proved_about(
        which in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let kept = kept();
        let (family, text) = which.get(&kept).clone();
        let text = mutations.iter().fold(text, |text, mutation| mutation.apply(text));
        if let Ok(ruleset) = parse_save(family, &text) {
            let host = HostView::default();
            let prover = Prover::new(&[&ruleset], &host);
            let start = Instant::now();
            for turned in [false, true] {
                let claim = block(family, turned);
                let _ = prover.prove(&claim);
                let _ = prover.explain(&claim.packets);
            }
            prop_assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
        }
    }
}
