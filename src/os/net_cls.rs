//! Classes of sockets by cgroup, where cgroups are of version 1: the controller net_cls.
//!
//! A cgroup has a class, a new one that of the cgroup it is made in (`cgrp_css_online()` in
//! net/core/netclassid_cgroup.c), and a socket the class of the process that makes it. Writing a class
//! also gives it to the sockets that the cgroup's processes have. Unlike the number of a cgroup of
//! version 2 a class is given by whoever asks for it, so that a rule for it never dies.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The controller's name in the mounts.
pub(super) const CONTROLLER: &str = "net_cls";
const FILE: &str = "net_cls.classid";

/// The classes of a cgroup and of all below it, by their directories; 0 is none.
pub fn classes(directory: &Path) -> io::Result<BTreeMap<PathBuf, u32>> {
    let mut found = BTreeMap::new();
    collect(directory, &mut found)?;
    Ok(found)
}

fn collect(directory: &Path, found: &mut BTreeMap<PathBuf, u32>) -> io::Result<()> {
    let read = std::fs::read_to_string(directory.join(FILE));
    let (text, entries) = match read.and_then(|text| Ok((text, std::fs::read_dir(directory)?))) {
        Err(error) if is_gone(&error) => return Ok(()),
        read => read?,
    };
    let class = text.trim_end().parse().map_err(io::Error::other)?;
    found.insert(directory.to_owned(), class);
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// Gives a cgroup a class; one that is gone needs none.
pub fn give(directory: &Path, class: u32) -> Result<(), String> {
    let file = directory.join(FILE);
    match std::fs::write(&file, class.to_string()) {
        Err(error) if is_gone(&error) => Ok(()),
        written => written.map_err(|error| format!("write {}: {error}", file.display())),
    }
}

/// Whether a cgroup has ended meanwhile: ENODEV where its file was open by then.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

/// Takes a class from every cgroup below `root` that bears it. Returns their directories.
pub fn take_back(root: &Path, class: u32) -> Result<Vec<PathBuf>, String> {
    let all = classes(root).map_err(|error| format!("read {}: {error}", root.display()))?;
    let bear = all.into_iter().filter(|(_, found)| *found == class);
    let bear: Vec<PathBuf> = bear.map(|(directory, _)| directory).collect();
    for directory in &bear {
        give(directory, 0)?;
    }
    Ok(bear)
}
