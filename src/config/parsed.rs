//! The inputs, parsed: each file through every reader that it has.

use std::path::Path;

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

/// Whether text held bytes that were no UTF-8. A real U+FFFD is treated alike: it is what some other program made
/// of such bytes.
pub(crate) fn is_broken(text: &str) -> bool {
    text.contains(char::REPLACEMENT_CHARACTER)
}

/// All inputs, parsed.
pub(crate) struct Parsed<'a> {
    pub(crate) config: EnvFile<'a>,
    pub(crate) var_config: Option<EnvFile<'a>>,
    pub(crate) json_path: &'a Path,
    pub(crate) json: Result<Vec<Entry>, json::Invalid>,
    pub(crate) ecs_init: bool,
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
        }
    }

    /// What reaches the agent's environment from the files. An empty value counts: it hides a lesser file's, and
    /// ecs-init's default.
    pub(crate) fn env(&self, name: &str) -> Option<(&EnvFile<'a>, &Assignment)> {
        [Some(&self.config), self.var_config.as_ref()]
            .into_iter()
            .flatten()
            .find_map(|file| Some((file, envfile::last(&file.agent, name)?)))
    }

    pub(crate) fn json_entry(&self, variable: &Variable) -> Option<(&Entry, Reading)> {
        let entry = json::last(self.json.as_ref().ok()?, variable.json?)?;
        let reading = match variable.reader {
            Reader::AgentPlain => json::read_bool(&entry.raw),
            Reader::Agent | Reader::EcsInit => json::read_conditional(&entry.raw),
        };
        Some((entry, reading))
    }

    pub(crate) fn json_source(&self, entry: &Entry) -> Source {
        Source::File {
            path: self.json_path.to_owned(),
            line: entry.line,
        }
    }
}
