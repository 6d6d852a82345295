//! The inputs, parsed: each file through every reader that it has.

use std::path::{Path, PathBuf};

use super::envfile::{self, Assignment};
use super::file::FileText;
use super::files::EcsInputs;
use super::json::{self, Entry, Reading};
use super::source::Source;
use super::variables::{Reader, Variable};

/// One ecs.config through both readers.
pub(crate) struct EnvFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
    pub(crate) agent: Vec<Assignment>,
    pub(crate) systemd: Vec<Assignment>,
}

impl<'a> EnvFile<'a> {
    fn new(path: &'a Path, text: &'a FileText) -> Self {
        let text = text.text().unwrap_or_default();
        let mut systemd = envfile::systemd(text);
        // systemd gives up on the whole file at an assignment that is no UTF-8 (comments may hold anything). The
        // unit says `EnvironmentFile=-`, so that this is no error: ecs-init just sees none of it.
        if systemd
            .iter()
            .any(|a| is_broken(&a.key) || is_broken(&a.value))
        {
            systemd.clear();
        }
        Self {
            path,
            text,
            agent: envfile::agent(text),
            systemd,
        }
    }

    pub(crate) fn source(&self, at: &Assignment) -> Source {
        Source::File {
            path: self.path.to_owned(),
            line: at.line,
        }
    }
}

/// Whether text holds what systemd does not take for characters: bytes that are no UTF-8, and Unicode's
/// noncharacters.
pub(crate) fn is_broken(text: &str) -> bool {
    text.contains(|c| matches!(c, '\u{fdd0}'..='\u{fdef}') || (c as u32) & 0xfffe == 0xfffe)
}

/// All inputs, parsed.
pub(crate) struct Parsed<'a> {
    pub(crate) config: EnvFile<'a>,
    pub(crate) var_config: Option<EnvFile<'a>>,
    pub(crate) json_path: &'a Path,
    pub(crate) json: Result<Vec<Entry>, json::Invalid>,
    pub(crate) ecs_init: bool,
    /// The files from which systemd makes ecs-init's environment; a later one counts more.
    pub(crate) environment: &'a [PathBuf],
}

impl<'a> Parsed<'a> {
    pub(crate) fn new(inputs: &'a EcsInputs) -> Self {
        Self {
            config: EnvFile::new(&inputs.config.0, &inputs.config.1),
            var_config: inputs
                .var_config
                .as_ref()
                .map(|(path, text)| EnvFile::new(path, text)),
            json_path: &inputs.json.0,
            json: json::entries(inputs.json.1.text().unwrap_or_default()),
            ecs_init: inputs.ecs_init_present,
            environment: &inputs.environment,
        }
    }

    /// What reaches the agent's environment from the files. An empty value counts: it hides a lesser file's, and
    /// ecs-init's default.
    pub(crate) fn env(&self, name: &str) -> Option<(&EnvFile<'a>, &Assignment)> {
        self.files()
            .find_map(|file| Some((file, envfile::last(&file.agent, name)?)))
    }

    /// The files of variables, those that count more first.
    pub(crate) fn files(&self) -> impl Iterator<Item = &EnvFile<'a>> {
        [Some(&self.config), self.var_config.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Whether ecs-init's own environment comes from a file.
    pub(crate) fn is_environment(&self, file: &EnvFile<'_>) -> bool {
        self.environment.iter().any(|path| path == file.path)
    }

    /// What reaches ecs-init's own environment from the files.
    pub(crate) fn init_env(&self, name: &str) -> Option<(&EnvFile<'a>, &Assignment)> {
        self.environment.iter().rev().find_map(|path| {
            let file = self.files().find(|file| file.path == path)?;
            Some((file, envfile::last(&file.systemd, name)?))
        })
    }

    /// The entry of the JSON file that counts. One of a type that the agent refuses is an error wherever it
    /// stands; after a plain `bool` Go's decoder ignores `null`.
    pub(crate) fn json_entry(&self, variable: &Variable) -> Option<(&Entry, Reading)> {
        let read = |entry: &'_ Entry| match variable.reader {
            Reader::AgentPlain => json::read_bool(&entry.raw),
            Reader::Agent | Reader::EcsInit => json::read_conditional(&entry.raw),
        };
        let all = json::named(self.json.as_ref().ok()?, variable.json?);
        let mut counts = None;
        for (entry, reading) in all.map(|entry| (entry, read(entry))) {
            match (reading, &counts) {
                (Reading::Refused, _) => return Some((entry, reading)),
                (Reading::Null, Some(_)) if variable.reader == Reader::AgentPlain => {}
                _ => counts = Some((entry, reading)),
            }
        }
        counts
    }

    pub(crate) fn json_source(&self, entry: &Entry) -> Source {
        Source::File {
            path: self.json_path.to_owned(),
            line: entry.line,
        }
    }
}
