//! `net.ipv4.conf.*.route_localnet`, and sysctls that let packets carry their own route.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::ruleset::Family;

/// What went wrong with a sysctl.
#[derive(Debug, thiserror::Error)]
#[error("net.ipv4.conf.{interface}.route_localnet: {operation}: {source}")]
pub struct Error {
    interface: String,
    operation: &'static str,
    source: io::Error,
}

impl Error {
    /// Whether there is no such interface, or no longer.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        // A file that was opened before the interface went answers so.
        let gone = self.source.raw_os_error() == Some(nix::libc::ENODEV);
        gone || self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Reads `route_localnet` of `all`, `default` or an interface; `None` where there is no such
/// interface.
pub fn route_localnet(interface: &str) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path(interface)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error {
            interface: interface.to_owned(),
            operation: "read",
            source,
        }),
    }
}

/// The interfaces on which `route_localnet` is on; `all` alone where it is on there. One that cannot be read is left
/// out: reading it for a proof says why.
#[must_use]
pub fn routes_localnet() -> Vec<String> {
    let is_on = |interface: &String| {
        let value = route_localnet(interface).ok().flatten();
        value.as_deref() == Some("1")
    };
    let all = "all".to_owned();
    if is_on(&all) {
        return vec![all];
    }
    let entries = std::fs::read_dir("/proc/sys/net/ipv4/conf")
        .into_iter()
        .flatten();
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    // What `default` says is for interfaces yet to come.
    let mut on: Vec<String> = names
        .filter(|name| name != "default")
        .filter(is_on)
        .collect();
    on.sort();
    on
}

/// Which of these interfaces accept packets that carry their own route, with the sysctl that says so.
/// Each counts only where `all` says the same.
pub fn source_routed<'a>(
    interfaces: impl Iterator<Item = &'a String>,
) -> Vec<(Family, String, String)> {
    const SYSCTLS: [(Family, &str, &str); 3] = [
        (Family::V4, "ipv4", "accept_source_route"),
        (Family::V6, "ipv6", "seg6_enabled"),
        (Family::V6, "ipv6", "rpl_seg_enabled"),
    ];
    let is_on = |version: &str, name: &str, interface: &str| {
        let path = format!("/proc/sys/net/{version}/conf/{interface}/{name}");
        // What is not there is not supported.
        let value = std::fs::read_to_string(path).unwrap_or_default();
        value.trim().parse::<i32>().is_ok_and(|value| value > 0)
    };
    let everywhere = |(_, version, name): &&(Family, &str, &str)| is_on(version, name, "all");
    let on: Vec<_> = SYSCTLS.iter().filter(everywhere).collect();
    let mut found = Vec::new();
    for interface in interfaces {
        for (family, version, name) in &on {
            if is_on(version, name, interface) {
                let sysctl = format!("net.{version}.conf.{interface}.{name}");
                found.push((*family, interface.clone(), sysctl));
            }
        }
    }
    found
}

/// Writes `route_localnet`.
pub fn set_route_localnet(interface: &str, value: &str) -> Result<(), Error> {
    std::fs::write(path(interface), value).map_err(|source| Error {
        interface: interface.to_owned(),
        operation: "write",
        source,
    })
}

/// `route_localnet` of one interface, kept open: quick to ask, and of the network namespace in which
/// it was opened, for every caller.
#[derive(Debug)]
pub struct RouteLocalnet {
    /// `all`, or an interface.
    pub interface: String,
    file: File,
}

impl RouteLocalnet {
    /// Opens it for reading and writing.
    pub fn open(interface: &str) -> Result<Self, Error> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path(interface));
        let file = opened.map_err(|source| Error {
            interface: interface.to_owned(),
            operation: "open",
            source,
        })?;
        Ok(Self {
            interface: interface.to_owned(),
            file,
        })
    }

    /// Where it is, to be watched.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path(&self.interface)
    }

    /// Sets it to 1. Returns what it was, or `None` where it was 1 already.
    pub fn keep(&self) -> Result<Option<String>, Error> {
        let error = |operation| {
            move |source| Error {
                interface: self.interface.clone(),
                operation,
                source,
            }
        };
        let mut text = [0; 16];
        let length = self.file.read_at(&mut text, 0).map_err(error("read"))?;
        let value = text.get(..length).unwrap_or_default().trim_ascii();
        if value == b"1" {
            return Ok(None);
        }
        self.file.write_at(b"1\n", 0).map_err(error("write"))?;
        Ok(Some(String::from_utf8_lossy(value).into_owned()))
    }
}

/// An interface's name has no slash in it (dev_valid_name(), net/core/dev.c), so it is a file name.
fn path(interface: &str) -> PathBuf {
    PathBuf::from(format!(
        "/proc/sys/net/ipv4/conf/{interface}/route_localnet"
    ))
}
