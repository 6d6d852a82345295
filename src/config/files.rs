//! The files that the ECS software reads: which there are, and what they say.

use std::path::{Component, Path, PathBuf};

use super::envfile;
use super::file::FileText;
use super::variables::JSON_PATH_VARIABLE;

/// Where ecs-init reads the operator's variables (ecs-init/config/common.go, `AgentConfigFile`).
pub const DEFAULT_CONFIG: &str = "/etc/ecs/ecs.config";
/// Where ecs-init reads variables that Amazon sets on an instance (`InstanceConfigFile`).
pub(super) const DEFAULT_VAR_CONFIG: &str = "/var/lib/ecs/ecs.config";
/// ecs-init's program, of Amazon's packages and of SUSE's (packaging/suse/amazon-ecs-init.spec); its presence
/// decides whose defaults apply.
const ECS_INIT: [&str; 2] = ["/usr/libexec/amazon-ecs-init", "/usr/sbin/amazon-ecs-init"];
/// The unit of Amazon's packages, and of SUSE's.
const UNITS: [&str; 2] = ["ecs.service", "amazon-ecs.service"];
/// Where systemd looks for units, the first first (systemd.unit(5)).
const UNIT_DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The name of the agent's JSON file, beside ecs.config (`AgentJSONConfigFile`).
const JSON_NAME: &str = "ecs.config.json";
/// What the agent reads where nothing names a file, and where the empty value does (agent/config/config.go,
/// `defaultConfigFileName`).
const AGENT_JSON: &str = "/etc/ecs_container_agent/config.json";
/// The directories of the host that the agent's container has at the same path, and that hold configuration
/// (ecs-init/docker/docker.go, `getHostConfig`).
const SHARED: [&str; 3] = ["/etc/ecs", "/var/lib/ecs", "/var/cache/ecs"];

/// The files to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsPaths {
    /// ecs.config.
    pub config: PathBuf,
    /// The lesser ecs.config under /var/lib; none beside a config that is not the system's.
    pub var_config: Option<PathBuf>,
    /// The agent's JSON file, as long as nothing names another.
    pub json: PathBuf,
    /// The directory in which the system's files are, `/`; none where the config is not the system's, since
    /// ecs-init reads only that one.
    pub root: Option<PathBuf>,
}

impl Default for EcsPaths {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl EcsPaths {
    /// The system's own below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let config = within(root, DEFAULT_CONFIG);
        Self {
            var_config: Some(within(root, DEFAULT_VAR_CONFIG)),
            json: config.with_file_name(JSON_NAME),
            config,
            root: Some(root.to_owned()),
        }
    }

    /// The files that belong to `config`: the system's own where it is the system's, else only the JSON file in
    /// the same directory, so that a config on trial is not mixed with the host's.
    #[must_use]
    pub fn beside(config: &Path) -> Self {
        if config == Path::new(DEFAULT_CONFIG) {
            return Self::default();
        }
        Self {
            config: config.to_owned(),
            var_config: None,
            json: config.with_file_name(JSON_NAME),
            root: None,
        }
    }

    /// Where ecs-init's program may be.
    pub(super) fn ecs_init(&self) -> impl Iterator<Item = PathBuf> {
        let root = self.root.iter();
        root.flat_map(|root| ECS_INIT.iter().map(|path| within(root, path)))
    }

    /// Where the unit of ecs-init may be; the first that is there counts.
    pub(super) fn units(&self) -> impl Iterator<Item = PathBuf> {
        let directories = self.root.iter().flat_map(|root| {
            UNIT_DIRECTORIES
                .iter()
                .map(|directory| within(root, directory))
        });
        directories.flat_map(|directory| UNITS.map(|unit| directory.join(unit)))
    }

    /// The files from which systemd makes ecs-init's environment, the later one first to count: as the unit says
    /// (`EnvironmentFile=`; systemd.exec(5)), or as Amazon Linux's says where there is none. Drop-ins are out of
    /// sight.
    pub(super) fn environment(&self, unit: Option<&str>) -> Vec<PathBuf> {
        let Some(unit) = unit else {
            return vec![self.config.clone()];
        };
        let mut files = Vec::new();
        for line in unit.lines() {
            match line.trim().strip_prefix("EnvironmentFile=").map(str::trim) {
                None => {}
                Some("") => files.clear(),
                Some(file) => files.push(file.strip_prefix('-').unwrap_or(file)),
            }
        }
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        files.into_iter().map(|file| within(root, file)).collect()
    }

    /// The agent's JSON file, as the texts of ecs.config and of the lesser one name it; the first that is there
    /// counts.
    ///
    /// With ecs-init the agent is in a container: of the files that can be named there only those in [`SHARED`]
    /// are the host's. The others are in the agent's image, which has none; what stands at ecs-init's own place
    /// is read instead, since a block there was meant.
    pub(super) fn json(&self, texts: &[&str], ecs_init: bool) -> Vec<PathBuf> {
        let Some(root) = &self.root else {
            return vec![self.json.clone()];
        };
        let assigned = texts.iter().find_map(|text| {
            let all = envfile::agent(text);
            Some(envfile::last(&all, JSON_PATH_VARIABLE)?.value.clone())
        });
        let agents = within(root, AGENT_JSON);
        match assigned.as_deref() {
            Some("") => vec![agents],
            Some(path) if is_seen(path, ecs_init) => vec![within(root, path)],
            None if !ecs_init => vec![agents, self.json.clone()],
            Some(_) | None => vec![self.json.clone()],
        }
    }
}

/// Whether a path of the agent's is one of the host's.
fn is_seen(path: &str, ecs_init: bool) -> bool {
    let path = Path::new(path);
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.is_absolute()
        && path.components().all(plain)
        && (!ecs_init || SHARED.iter().any(|shared| path.starts_with(shared)))
}

fn within(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// What the files said, as values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsInputs {
    /// ecs.config.
    pub config: (PathBuf, FileText),
    /// The lesser ecs.config, where it is looked at.
    pub var_config: Option<(PathBuf, FileText)>,
    /// The agent's JSON file.
    pub json: (PathBuf, FileText),
    /// Whether ecs-init is installed.
    pub ecs_init_present: bool,
    /// The files from which systemd makes ecs-init's environment; a later one counts more.
    pub environment: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str], ecs_init: bool) -> Vec<String> {
        let paths = EcsPaths::default().json(texts, ecs_init);
        paths.iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn the_agent_reads_the_json_file_that_is_named_where_it_is_the_hosts() {
        let usual = "/etc/ecs/ecs.config.json";
        for (text, read) in [
            ("", usual),
            (
                "ECS_AGENT_CONFIG_FILE_PATH=/etc/ecs/my.json\n",
                "/etc/ecs/my.json",
            ),
            (
                "ECS_AGENT_CONFIG_FILE_PATH=/var/cache/ecs/my.json",
                "/var/cache/ecs/my.json",
            ),
            (
                "ECS_AGENT_CONFIG_FILE_PATH=/var/lib/ecs/data/my.json",
                "/var/lib/ecs/data/my.json",
            ),
            ("ECS_AGENT_CONFIG_FILE_PATH=", AGENT_JSON),
            ("ECS_AGENT_CONFIG_FILE_PATH=/opt/my.json", usual),
            ("ECS_AGENT_CONFIG_FILE_PATH=/etc/ecs/../my.json", usual),
            ("ECS_AGENT_CONFIG_FILE_PATH=/etc/ecsx/my.json", usual),
            ("ECS_AGENT_CONFIG_FILE_PATH=etc/ecs/my.json", usual),
        ] {
            assert_eq!(paths(&[text], true), [read], "{text}");
        }
        // /etc beats /var/lib, also with the empty value.
        let (etc, var) = (
            "ECS_AGENT_CONFIG_FILE_PATH=\n",
            "ECS_AGENT_CONFIG_FILE_PATH=/var/lib/ecs/my.json\n",
        );
        assert_eq!(paths(&[etc, var], true), [AGENT_JSON]);
        assert_eq!(paths(&["", var], true), ["/var/lib/ecs/my.json"]);
    }

    #[test]
    fn without_ecs_init_the_agent_reads_its_own_json_file() {
        assert_eq!(paths(&[], false), [AGENT_JSON, "/etc/ecs/ecs.config.json"]);
        let named = "ECS_AGENT_CONFIG_FILE_PATH=/opt/my.json\n";
        assert_eq!(paths(&[named], false), ["/opt/my.json"]);
    }

    #[test]
    fn the_environment_of_ecs_init_is_what_its_unit_says() {
        let read = |unit| EcsPaths::default().environment(unit);
        assert_eq!(read(None), [Path::new(DEFAULT_CONFIG)]);
        let amazon_linux = "[Service]\nEnvironmentFile=-/etc/ecs/ecs.config\n";
        assert_eq!(read(Some(amazon_linux)), [Path::new(DEFAULT_CONFIG)]);
        let generic =
            "EnvironmentFile=-/var/lib/ecs/ecs.config\nEnvironmentFile=-/etc/ecs/ecs.config";
        assert_eq!(
            read(Some(generic)),
            [Path::new(DEFAULT_VAR_CONFIG), Path::new(DEFAULT_CONFIG)]
        );
        let suse = "[Service]\nExecStart=/usr/sbin/amazon-ecs-init start\n";
        assert_eq!(read(Some(suse)), Vec::<PathBuf>::new());
        let reset = "EnvironmentFile=/a\nEnvironmentFile=\nEnvironmentFile=/b";
        assert_eq!(read(Some(reset)), [Path::new("/b")]);
    }
}
