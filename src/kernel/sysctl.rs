//! `net.ipv4.conf.*.route_localnet`.

use std::io;
use std::path::PathBuf;

/// What went wrong with a sysctl.
#[derive(Debug, thiserror::Error)]
#[error("net.ipv4.conf.{interface}.route_localnet: {operation}: {source}")]
pub struct Error {
    interface: String,
    operation: &'static str,
    source: io::Error,
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

/// Writes `route_localnet`.
pub fn set_route_localnet(interface: &str, value: &str) -> Result<(), Error> {
    std::fs::write(path(interface), value).map_err(|source| Error {
        interface: interface.to_owned(),
        operation: "write",
        source,
    })
}

/// An interface's name has no slash in it (dev_valid_name(), net/core/dev.c), so it is a file name.
fn path(interface: &str) -> PathBuf {
    PathBuf::from(format!(
        "/proc/sys/net/ipv4/conf/{interface}/route_localnet"
    ))
}
