//! What Docker writes down of its containers, without a Docker.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Lab;

/// A container that runs.
#[derive(Debug, Clone)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its labels.
    pub labels: Value,
    /// Where Docker keeps the handle on its network namespace.
    pub sandbox_key: String,
}

/// Docker's directory of containers in a lab.
#[derive(Debug)]
pub struct DockerFiles(PathBuf);

impl Lab {
    /// The host's daemon.json says this.
    #[track_caller]
    pub fn daemon_json(&self, says: &Value) {
        fs::create_dir_all(self.dir().join("etc-docker")).expect("a directory in the lab");
        self.write("etc-docker/daemon.json", says.to_string());
        self.host
            .sh("mkdir -p /etc/docker && mount --bind /run/lab/etc-docker /etc/docker");
    }

    /// Makes one, where the host's daemon.json says that it is.
    #[track_caller]
    pub fn docker_files(&self) -> DockerFiles {
        self.daemon_json(&json!({"data-root": "/run/lab/docker"}));
        let containers = self.dir().join("docker/containers");
        fs::create_dir_all(&containers).expect("a directory in the lab");
        DockerFiles(containers)
    }
}

impl DockerFiles {
    /// One more container runs.
    #[track_caller]
    pub fn add(&self, container: &Container) {
        let Container {
            id,
            labels,
            sandbox_key,
        } = container;
        let file = json!({
            "ID": id,
            "Name": format!("/{id}"),
            "Config": {"Labels": labels},
            "NetworkSettings": {"SandboxKey": sandbox_key},
        });
        self.write(id, &file.to_string());
    }

    /// The file of a container says this, from one moment to the next.
    #[track_caller]
    pub fn write(&self, id: &str, text: &str) {
        let directory = self.0.join(id);
        fs::create_dir_all(&directory).expect("a directory in the lab");
        let new = directory.join(".tmp-config.v2.json");
        fs::write(&new, text).expect("a file in the lab");
        fs::rename(&new, directory.join("config.v2.json")).expect("the same directory");
    }
}
