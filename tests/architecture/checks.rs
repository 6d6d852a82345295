//! What is checked of the sources. Each check returns what it found.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{File, Sources, says_unsafe};

/// What each file takes from others.
pub(crate) type Files = BTreeMap<String, File>;

/// Whether a file is a room or stands in it.
pub(crate) fn is_in(file: &str, room: &str) -> bool {
    match room.ends_with('/') {
        true => file.starts_with(room),
        false => file == room,
    }
}

/// Files that import each other, each with those that it imports and the names it takes from them.
pub(crate) type Circle = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Every file to which the imports of `start` lead.
fn beyond<'f>(files: &'f Files, start: &'f String) -> BTreeSet<&'f String> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![start];
    while let Some(file) = todo.pop() {
        let imports = files[file].imports.keys();
        todo.extend(imports.filter(|next| seen.insert(*next)));
    }
    seen
}

/// The largest sets of files in which every file leads to every other.
pub(crate) fn circles(files: &Files) -> Vec<Circle> {
    let beyond: BTreeMap<&String, BTreeSet<&String>> = files
        .keys()
        .map(|file| (file, beyond(files, file)))
        .collect();
    let mut found = BTreeSet::new();
    let mut circles = Vec::new();
    for file in files.keys().filter(|file| beyond[file].contains(file)) {
        if !found.insert(file) {
            continue;
        }
        let members: BTreeSet<&String> = beyond[file]
            .iter()
            .copied()
            .filter(|to| beyond[to].contains(file))
            .collect();
        found.extend(&members);
        circles.push(
            members
                .iter()
                .map(|member| {
                    let imports = files[*member].imports.iter();
                    let within = imports.filter(|(to, _)| members.contains(to));
                    (
                        (*member).clone(),
                        within
                            .map(|(to, names)| (to.clone(), names.clone()))
                            .collect(),
                    )
                })
                .collect(),
        );
    }
    circles
}

/// A circle for a person: which file imports what from which.
pub(crate) fn describe(circle: &Circle) -> String {
    let mut lines = vec![format!(
        "{} files import each other in a circle:",
        circle.len()
    )];
    for (file, imports) in circle {
        for (to, names) in imports {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {file} -> {to}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}

/// What the pure rooms do that is not: the file, and what it names.
pub(crate) fn impurities(files: &Files, rooms: &[&str], readers: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (file, does) in files {
        if readers.contains(&file.as_str()) || !rooms.iter().any(|room| is_in(file, room)) {
            continue;
        }
        let inside = does
            .imports
            .keys()
            .filter(|to| to.starts_with("src/os/") || readers.contains(&to.as_str()));
        let outside = does.outside.iter().filter(|path| touches(path));
        let called = does
            .called
            .iter()
            .filter(|name| METHODS.contains(&name.as_str()));
        found.extend(
            inside
                .chain(outside)
                .chain(called)
                .map(|what| (file.clone(), what.clone())),
        );
    }
    found
}

/// Methods that read a file or a clock.
const METHODS: [&str; 11] = [
    "canonicalize",
    "elapsed",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Whether a path of the standard library or of another crate leads to a clock, a file or the system.
fn touches(path: &str) -> bool {
    const CLOCKS: [&str; 2] = ["std::time::Instant::now", "std::time::SystemTime::now"];
    const VALUES: [&str; 3] = ["std::io::Error", "std::io::ErrorKind", "std::io::Result"];
    const SYSTEM: [&str; 15] = [
        "libc",
        "nix",
        "rustix",
        "std::env",
        "std::fs",
        "std::io",
        "std::net::TcpListener",
        "std::net::TcpStream",
        "std::net::ToSocketAddrs",
        "std::net::UdpSocket",
        "std::os",
        "std::process",
        "std::thread",
        "sysinfo",
        "tokio",
    ];
    let below = |of: &&str| {
        path.strip_prefix(of)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    if path == "std::io" {
        // `use std::io::{self}` names nothing yet.
        return false;
    }
    CLOCKS.contains(&path) || SYSTEM.iter().any(below) && !VALUES.iter().any(below)
}

/// The files that say `unsafe` in their code.
pub(crate) fn with_unsafe(sources: &Sources) -> impl Iterator<Item = &String> {
    sources
        .iter()
        .filter(|(_, source)| says_unsafe(source))
        .map(|(file, _)| file)
}

/// The files that are too large, with their lines.
pub(crate) fn large(sources: &Sources, most: usize) -> Vec<(&str, usize)> {
    let lines = sources
        .iter()
        .map(|(file, source)| (file.as_str(), source.lines().count()));
    lines.filter(|(_, lines)| *lines > most).collect()
}

/// The tests that a page names, each behind its file: `` `tests/a.rs`: `one`, `two` ``.
pub(crate) fn named(page: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = page.split('`').collect();
    let mut found = Vec::new();
    let mut file = None;
    // Every other part is code; what follows it says whether more belongs to it.
    for pair in parts.get(1..).unwrap_or_default().chunks(2) {
        let [code, then] = pair else { break };
        if code.ends_with(".rs") {
            file = then.starts_with(": ").then_some(*code);
        } else if let Some(of) = file {
            found.push((of, *code));
            file = file.filter(|_| *then == ", ");
        }
    }
    found
}

/// Those of them that stand neither in their file nor below it.
pub(crate) fn lost(sources: &Sources, named: &[(&str, &str)]) -> Vec<String> {
    let is_there = |(file, test): &&(&str, &str)| {
        let folder = file.replace(".rs", "/");
        let within = sources
            .iter()
            .filter(|(name, _)| name == file || name.starts_with(&folder));
        within
            .into_iter()
            .any(|(_, text)| text.contains(&format!("fn {test}(")))
    };
    let lost = named.iter().filter(|one| !is_there(one));
    lost.map(|(file, test)| format!("{file}: {test}")).collect()
}
