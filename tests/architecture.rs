//! The architecture as a test: no circle of imports, pure rooms that are pure, `unsafe` in one place, small files.
//!
//! What a file imports is read from the sources (`architecture/reader.rs`). Every check is tried on a small sample
//! that breaks it, so that it is known to fail.

mod checks;
mod reader;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use checks::{Files, circles, describe, impurities, is_in, large, lost, named, with_unsafe};
use reader::Sources;

/// The crates whose files may form no circle, by their root files.
const ROOTS: [&str; 3] = ["src/lib.rs", "benches/guard/main.rs", "tests/main.rs"];

/// Where the sources are.
const FOLDERS: [&str; 6] = [
    "benches",
    "examples",
    "fuzz/fuzz_targets",
    "src",
    "tests",
    "vm-tests/src",
];

/// The rooms that import nothing from `os`, read no clock and no file. A name that ends in `/` is a folder.
const PURE: [&str; 27] = [
    "src/config/",
    "src/desired.rs",
    "src/events/displacement.rs",
    "src/events/event.rs",
    "src/events/limit.rs",
    "src/events/reporter.rs",
    "src/facts.rs",
    "src/guarantee/",
    "src/plan.rs",
    "src/posture.rs",
    "src/probe/address.rs",
    "src/probe/model.rs",
    "src/probe/packet.rs",
    "src/probe/verdict.rs",
    "src/prove/",
    "src/report.rs",
    "src/ruleset/",
    "src/schedule.rs",
    "src/sentinel/backoff.rs",
    "src/tasks/starts.rs",
    "src/tasks/evidence.rs",
    "src/tasks/model.rs",
    "src/tasks/power.rs",
    "src/tasks/protocol.rs",
    "src/tasks/task_events.rs",
    "src/timestamp.rs",
    "src/verdict.rs",
];

/// The files within pure rooms that read: what they return is a value.
const READERS: [&str; 1] = ["src/config/read.rs"];

/// The most lines that a file may have.
const MOST_LINES: usize = 450;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let crates = ROOTS.iter().map(|root| reader::read(&sources, root));
    let found = crates.flat_map(|files| circles(&files));
    let found: Vec<String> = found.map(|circle| describe(&circle)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_pure_rooms_are_pure() {
    let files = reader::read(&sources(), "src/lib.rs");
    for room in PURE {
        let there = files.keys().any(|file| is_in(file, room));
        assert!(there, "{room} is no room");
    }
    let found = impurities(&files, &PURE, &READERS);
    assert_eq!(found, [], "pure rooms that are not");
}

#[test]
fn unsafe_code_stands_in_os_alone() {
    let sources = sources();
    let found = with_unsafe(&sources).filter(|file| !file.starts_with("src/os/"));
    assert_eq!(found.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_file_is_small() {
    assert_eq!(large(&sources(), MOST_LINES), []);
}

/// A promise is worth what shows it.
#[test]
fn every_test_that_the_promises_name_is_there() {
    let named = named(include_str!("../docs/security.md"));
    assert!(named.len() > 50, "{}", named.len());
    assert_eq!(lost(&sources(), &named), [] as [String; 0]);
}

#[test]
fn a_test_that_is_not_there_is_found() {
    let page = "— `tests/a.rs`: `one`, `two`; see `tests/b.rs` and `make x`; `src/c.rs`: `three`";
    let named = named(page);
    assert_eq!(
        named,
        [
            ("tests/a.rs", "one"),
            ("tests/a.rs", "two"),
            ("src/c.rs", "three")
        ]
    );
    let sources = [
        ("tests/a.rs", "fn one() {}"),
        ("src/c.rs", "fn three_more() {}"),
    ];
    let sources = sources.map(|(file, text)| (file.to_owned(), text.to_owned()));
    assert_eq!(
        lost(&sources.into(), &named),
        ["tests/a.rs: two", "src/c.rs: three"]
    );
}

/// Every source of the repository, by its path from the root.
fn sources() -> Sources {
    fn gather(root: &Path, folder: &Path, sources: &mut Sources) {
        for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(root, &path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Sources::new();
    for folder in FOLDERS {
        gather(root, &root.join(folder), &mut sources);
    }
    sources
}

/// A house of a few files.
fn house(files: &[(&str, &str)]) -> Files {
    let sources = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
    reader::read(&sources.collect(), "src/lib.rs")
}

/// The names by which one file of a house takes something from another.
fn taken(files: &Files, from: &str, to: &str) -> Vec<String> {
    let names = files[from].imports.get(to);
    names.into_iter().flatten().cloned().collect()
}

#[test]
fn a_circle_is_found_and_named() {
    let files = house(&[
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::B; pub struct A(B);"),
        ("src/b.rs", "pub struct B; fn f() { crate::c::c() }"),
        ("src/c.rs", "pub fn c(_: super::a::A) {}"),
        ("src/d.rs", "use crate::a::A; pub struct D(A);"),
    ]);
    let found: Vec<String> = circles(&files).iter().map(describe).collect();
    assert_eq!(
        found,
        [
            "3 files import each other in a circle:\n  src/a.rs -> src/b.rs: B\n  src/b.rs -> src/c.rs: c\n  \
          src/c.rs -> src/a.rs: A"
        ]
    );
}

#[test]
fn an_import_is_of_the_file_that_defines_the_name() {
    let files = house(&[
        ("src/lib.rs", "mod config; mod user; mod os;"),
        (
            "src/config/mod.rs",
            "mod file; mod all; pub use self::file::{Text as FileText, size}; pub use all::*; pub struct Own;",
        ),
        ("src/config/file.rs", "pub struct Text; pub fn size() {}"),
        ("src/config/all.rs", "pub enum Kind { One }"),
        ("src/os/mod.rs", "pub mod nft { pub fn generation() {} }"),
        (
            "src/user.rs",
            "use crate::config::{self, FileText, Own};
             fn f(_: FileText, _: Own) { config::size(); println!(\"{:?}\", config::Kind::One); \
             let _ = vec![crate::os::nft::generation()]; }
             #[cfg(test)] mod tests { use crate::config::nowhere::Nothing; }
             #[cfg(test)] use crate::config::file::Hidden;",
        ),
    ]);
    assert_eq!(
        taken(&files, "src/user.rs", "src/config/file.rs"),
        ["Text", "size"]
    );
    assert_eq!(taken(&files, "src/user.rs", "src/config/all.rs"), ["Kind"]);
    assert_eq!(taken(&files, "src/user.rs", "src/config/mod.rs"), ["Own"]);
    assert_eq!(
        taken(&files, "src/user.rs", "src/os/mod.rs"),
        ["generation"]
    );
    // Declarations are no imports.
    assert_eq!(files["src/config/mod.rs"].imports, BTreeMap::new());
    assert_eq!(files["src/lib.rs"].imports, BTreeMap::new());
}

#[test]
fn a_pure_room_that_touches_something_is_found() {
    let rooms = ["src/pure.rs"];
    let what = |text: &str| {
        let files = house(&[
            ("src/lib.rs", "mod os; mod pure; mod read;"),
            ("src/os/mod.rs", "pub mod lock;"),
            ("src/os/lock.rs", "pub struct Lock;"),
            ("src/read.rs", "pub fn file() {}"),
            ("src/pure.rs", text),
        ]);
        let found = impurities(&files, &rooms, &["src/read.rs"]).into_iter();
        found.map(|(_, what)| what).collect::<Vec<_>>()
    };
    for (text, found) in [
        ("use crate::os::lock::Lock;", "src/os/lock.rs"),
        ("fn f() { crate::read::file() }", "src/read.rs"),
        (
            "use std::time::Instant; fn f() { Instant::now(); }",
            "std::time::Instant::now",
        ),
        (
            "use std::time; fn f() { time::SystemTime::now(); }",
            "std::time::SystemTime::now",
        ),
        ("use std::{fs, fmt};", "std::fs"),
        ("use std::io::{self, Read};", "std::io::Read"),
        ("use std::io; fn f() { io::stdin(); }", "std::io::stdin"),
        ("fn f() { std::env::var(\"A\"); }", "std::env::var"),
        ("use nix::unistd::Pid;", "nix::unistd::Pid"),
        ("fn f() { tokio::time::sleep(x) }", "tokio::time::sleep"),
        ("fn f(p: &Path) { p.exists() }", "exists"),
    ] {
        assert_eq!(what(text), [found], "{text}");
    }
    for text in [
        "use std::time::{Duration, Instant}; fn f(now: Instant) -> Instant { now + Duration::ZERO }",
        "use std::io; fn f() -> io::Result<()> { Err(io::ErrorKind::Other.into()) }",
        "use std::path::PathBuf; use std::net::IpAddr; fn f(exists: bool) {}",
        "#[cfg(test)] mod tests { use std::fs; }",
    ] {
        assert_eq!(what(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn unsafe_code_is_found() {
    let sample = |text: &str| {
        let sources = Sources::from([("src/a.rs".to_owned(), text.to_owned())]);
        with_unsafe(&sources).count()
    };
    assert_eq!(sample("fn f() { g(unsafe { 1 }) }"), 1);
    assert_eq!(sample("#[cfg(test)] mod tests { unsafe fn f() {} }"), 1);
    assert_eq!(sample("/// unsafe\nconst A: &str = \"unsafe\";"), 0);
}

#[test]
fn a_large_file_is_found() {
    let lines = |count| Sources::from([("src/a.rs".to_owned(), "//\n".repeat(count))]);
    assert_eq!(
        large(&lines(MOST_LINES + 1), MOST_LINES),
        [("src/a.rs", 451)]
    );
    assert_eq!(large(&lines(MOST_LINES), MOST_LINES), []);
}
