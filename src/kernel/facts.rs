//! What the host is: IPv6, bridges, Docker's default bridge.

use std::path::Path;

/// What of the host decides which rules are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether this kernel and namespace have IPv6.
    pub ipv6: bool,
    /// Every bridge interface, sorted.
    pub bridges: Vec<String>,
    /// The default Docker bridge's name, `None` where Docker was told to have none.
    pub default_bridge: Option<String>,
    /// What of this could not be read, ready for a person.
    pub problems: Vec<String>,
}

impl Facts {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let mut problems = Vec::new();
        let default_bridge = default_bridge(Path::new("/etc/docker/daemon.json"), &mut problems);
        Self {
            // Absent with ipv6.disable=1 on the kernel's command line, and without the module.
            ipv6: Path::new("/proc/thread-self/net/if_inet6").exists(),
            bridges: bridges(),
            default_bridge,
            problems,
        }
    }
}

/// The interfaces that are bridges: those with a `bridge` directory in sysfs.
fn bridges() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("bridge").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Docker's `bridge` option; `docker0` unless it says otherwise (dockerd(8), "bridge").
fn default_bridge(path: &Path, problems: &mut Vec<String>) -> Option<String> {
    let usual = Some("docker0".to_owned());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return usual,
        Err(error) => {
            problems.push(format!(
                "read {}: {error}; taking docker0 as the default bridge",
                path.display()
            ));
            return usual;
        }
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => match value.get("bridge").and_then(serde_json::Value::as_str) {
            Some("none") => None,
            None | Some("") => usual,
            Some(name) => Some(name.to_owned()),
        },
        // Docker itself does not start with such a file, except an empty one.
        Err(_) if text.trim().is_empty() => usual,
        Err(error) => {
            problems.push(format!(
                "read {}: {error}; taking docker0 as the default bridge",
                path.display()
            ));
            usual
        }
    }
}
