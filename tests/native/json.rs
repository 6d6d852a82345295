//! What is read of `nft -j list ruleset` is what the kernel's own expressions say, or less certain.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ecs_netguard::os::nft::Inventory;
use ecs_netguard::ruleset::native::{
    Condition, NativeRule, NativeTable, Presence, Statement, json,
};
use ecs_netguard::ruleset::{Family, Reach};
use lab::namespace::{Kind, Namespace};

/// A ruleset in a namespace of its own: as netlink tells it, and as nft lists it.
fn both(file: &Path) -> [[Vec<NativeTable>; 2]; 2] {
    let namespace = Namespace::new("json", Kind::Network).unwrap();
    namespace.sh("ip link add docker0 type bridge; ip link add br-0123456789ab type bridge");
    namespace.sh(&format!("nft -f {}", file.display()));
    let kernel = namespace.run(Inventory::take).unwrap().native;
    let listed = namespace.sh("nft -j list ruleset");
    let listed = json::parse(listed.as_bytes()).unwrap();
    [Family::V4, Family::V6].map(|family| [kernel.decode(family), listed.decode(family, false)])
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// What a rule means, whatever it is made of: as much as packets meet.
fn meaning(rule: &NativeRule) -> Vec<Statement> {
    let mut found = Vec::new();
    for statement in &rule.statements {
        match statement {
            Statement::Test(Condition::All(all)) => {
                found.extend(all.iter().cloned().map(Statement::Test));
            }
            // A header that is there does not go.
            Statement::Test(Condition::Has(_)) if found.contains(statement) => {}
            other => found.push(other.clone()),
        }
        if *statement == Statement::Test(Condition::Always(false)) {
            break;
        }
    }
    // Where a protocol has its header, the protocol is readable.
    let has = |what| Statement::Test(Condition::Has(what));
    if found.contains(&has(Presence::Header)) {
        found.retain(|statement| *statement != has(Presence::Protocol));
    }
    found
}

/// What it does, but for how that is called.
fn deeds(rule: &NativeRule) -> Vec<Statement> {
    let mut deeds = rule.statements.clone();
    deeds.retain(|statement| !matches!(statement, Statement::Test(_)));
    for deed in &mut deeds {
        if let Statement::Effect(text, _) = deed {
            text.clear();
        }
    }
    deeds
}

/// What in a rule is not understood.
fn open(rule: &NativeRule) -> Option<String> {
    rule.statements
        .iter()
        .find_map(|statement| match statement {
            Statement::Test(condition) => match condition.open()? {
                Condition::Unknown(text) => Some(text.clone()),
                _ => None,
            },
            Statement::Effect(text, reach) => (*reach != Reach::Copies).then(|| text.clone()),
            Statement::Mark(marking) => Some(format!("{marking:?}")),
            _ => None,
        })
}

/// Of a rule that says something else than the kernel, and leaves nothing open.
const CERTAIN: &str = "certain, and not what the kernel holds";

/// Compares rule by rule. Answers the listed ones that are less certain, or say otherwise what they mean.
fn compare(file: &Path) -> String {
    let mut uncertain = String::new();
    for [kernel, listed] in both(file) {
        let names = |tables: &[NativeTable]| -> Vec<String> {
            tables.iter().map(|table| table.name.clone()).collect()
        };
        assert_eq!(names(&kernel), names(&listed), "{}", file.display());
        for (kernel, listed) in kernel.iter().zip(&listed) {
            assert_eq!(kernel.bridge, listed.bridge);
            assert_eq!(
                kernel.chains.keys().collect::<Vec<_>>(),
                listed.chains.keys().collect::<Vec<_>>()
            );
            for (kernel, listed) in kernel.chains.values().zip(listed.chains.values()) {
                let mut base = kernel.base.clone();
                if let (Some(base), Some(listed)) = (&mut base, &listed.base)
                    && listed.devices.is_empty()
                {
                    // nft 1.0.6 does not print them.
                    base.devices.clear();
                }
                assert_eq!(base, listed.base);
                assert_eq!(kernel.rules.len(), listed.rules.len());
                for (kernel, listed) in kernel.rules.iter().zip(&listed.rules) {
                    assert_eq!(kernel.handle, listed.handle);
                    assert_eq!(kernel.comment, listed.comment);
                    if kernel.statements == listed.statements {
                        assert_eq!(kernel.text, listed.text);
                    }
                    assert!(!kernel.tracks || listed.tracks, "{}", kernel.text);
                    if meaning(kernel) == meaning(listed) {
                        assert_eq!(kernel.tracks, listed.tracks, "{}", kernel.text);
                        continue;
                    }
                    // What is not understood may do what the kernel's rule does.
                    let listed_deeds = deeds(listed);
                    let any = |deed: &Statement| matches!(deed, Statement::Effect(..));
                    if !listed_deeds.iter().any(any) {
                        let which = format!("{} {}", kernel.text, listed.text);
                        assert_eq!(deeds(kernel), listed_deeds, "{which}");
                    }
                    let open = open(listed).unwrap_or_else(|| CERTAIN.to_owned());
                    let _infallible =
                        writeln!(uncertain, "{}: `{}` is {open}", kernel.text, listed.text);
                }
            }
        }
    }
    assert!(!uncertain.contains(CERTAIN), "{uncertain}");
    uncertain
}

#[test]
fn what_nft_lists_is_read_as_what_the_kernel_holds() {
    let mut uncertain = String::new();
    for file in files("tests/fixtures/native") {
        uncertain.push_str(&compare(&file));
    }
    insta::assert_snapshot!(uncertain);
}

#[test]
fn what_is_not_understood_of_a_list_is_unknown() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native/everything.nft");
    insta::assert_snapshot!(compare(&file));
}
