//! From the text of the files to the value of each variable.

use super::ecs::{EcsConfig, Setting, UnreadableInput, Wish};
use super::file::FileText;
use super::files::EcsInputs;
use super::gobool::{likely, parse_bool};
use super::inspect;
use super::json::Reading;
use super::parsed::Parsed;
use super::source::Source;
use super::variables::{self, Reader, Variable};

impl Parsed<'_> {
    fn setting(&self, variable: &'static Variable) -> Setting {
        match variable.reader {
            Reader::Agent | Reader::AgentPlain => self.agent_setting(variable),
            Reader::EcsInit => self.ecs_init_setting(variable),
        }
    }

    fn agent_setting(&self, variable: &'static Variable) -> Setting {
        let env = self.env(variable.name);
        let env_wish = env.map_or(Wish::Unset, |(_, a)| wish(a.value.trim()));
        let from_env = match (env, env_wish) {
            (Some((file, a)), Wish::On) => Some((true, file.source(a))),
            (Some((file, a)), Wish::Off) => Some((false, file.source(a))),
            (Some(_), _) => None,
            (None, _) => variable
                .init_default
                .filter(|_| self.ecs_init)
                .map(|on| (on, Source::EcsInitDefault)),
        };
        let entry = self.json_entry(variable);
        let from_json = match entry {
            Some((entry, Reading::Value(on))) => Some((on, self.json_source(entry))),
            _ => None,
        };
        let json_wins = variable.reader == Reader::AgentPlain
            && matches!((&from_env, &from_json), (Some((false, _)), Some((true, _))));
        let (effective, source) = if json_wins {
            from_json.or(from_env)
        } else {
            from_env.or(from_json)
        }
        .unwrap_or((variable.default, Source::AgentDefault));

        let (raw, written, wish) = match (env, entry) {
            (Some((file, a)), _) if env_wish != Wish::Unset && !json_wins => {
                (Some(a.value.clone()), Some(file.source(a)), env_wish)
            }
            (_, Some((entry, reading))) if reading != Reading::Null => {
                let wish = match reading {
                    Reading::Value(true) => Wish::On,
                    Reading::Value(false) => Wish::Off,
                    Reading::Null | Reading::Refused => Wish::Unreadable {
                        likely: likely(&entry.raw),
                    },
                };
                (Some(entry.raw.clone()), Some(self.json_source(entry)), wish)
            }
            (Some((file, a)), _) => (Some(a.value.clone()), Some(file.source(a)), Wish::Unset),
            (None, _) => (None, None, Wish::Unset),
        };
        Setting {
            variable: variable.name,
            raw,
            line: None,
            written,
            effective,
            source,
            wish,
        }
    }

    /// From the files that the unit names, whatever else reads them.
    fn ecs_init_setting(&self, variable: &'static Variable) -> Setting {
        let found = self.init_env(variable.name);
        let wish = found.map_or(Wish::Unset, |(_, a)| wish(&a.value));
        let written = found.map(|(file, a)| file.source(a));
        let (effective, source) = match (wish, &written) {
            (Wish::On, Some(source)) => (true, source.clone()),
            (Wish::Off, Some(source)) => (false, source.clone()),
            _ => (variable.default, Source::EcsInitDefault),
        };
        Setting {
            variable: variable.name,
            raw: found.map(|(_, a)| a.value.clone()),
            line: None,
            written,
            effective,
            source,
            wish,
        }
    }

    /// ecs-init switches task ENIs off outside EC2 (ecs-init/docker/docker.go). It compares its own variable,
    /// as systemd gave it, with exactly `true` (ecs-init/config/common.go, `RunningInExternal`), while the agent
    /// takes any of Go's spellings.
    fn task_eni(&self) -> Setting {
        let setting = self.setting(&variables::TASK_ENI);
        match self.init_env(variables::EXTERNAL.name) {
            Some((file, a)) if a.value == "true" && self.ecs_init => Setting {
                effective: false,
                source: Source::Forced {
                    by: format!("{}=true", a.key),
                    path: file.path.to_owned(),
                    line: a.line,
                },
                ..setting
            },
            _ => setting,
        }
    }

    /// A wish that cannot be read is a block, and that holds for its name too: what was meant to be this variable
    /// counts, unless it is set properly below that line or in a file that counts more.
    fn block_imds(&self) -> Setting {
        let setting = self.setting(&variables::BLOCK_IMDS);
        let rank = |source: &Source| match source {
            Source::File { path, line } => {
                let above = self.files().take_while(|file| file.path != path).count();
                Some((std::cmp::Reverse(above), *line))
            }
            _ => None,
        };
        let meant = inspect::near_miss(self, &variables::BLOCK_IMDS).filter(|miss| {
            let beaten = matches!(setting.wish, Wish::On | Wish::Off | Wish::Unreadable { .. })
                && setting.written.as_ref().and_then(rank) > rank(&miss.source);
            !setting.effective && !beaten
        });
        match meant {
            None => setting,
            Some(miss) => Setting {
                wish: Wish::Unreadable {
                    likely: likely(&miss.value),
                },
                raw: Some(miss.value),
                line: Some(miss.line),
                written: Some(miss.source),
                ..setting
            },
        }
    }
}

fn wish(value: &str) -> Wish {
    match parse_bool(value) {
        _ if value.is_empty() => Wish::Unset,
        Some(true) => Wish::On,
        Some(false) => Wish::Off,
        None => Wish::Unreadable {
            likely: likely(value),
        },
    }
}

/// What the ECS software makes of the inputs. A function of its argument alone; takes any text.
pub fn resolve(inputs: &EcsInputs) -> EcsConfig {
    let parsed = Parsed::new(inputs);
    EcsConfig {
        block_imds: parsed.block_imds(),
        task_iam_role: parsed.setting(&variables::TASK_IAM_ROLE),
        task_iam_role_network_host: parsed.setting(&variables::TASK_IAM_ROLE_NETWORK_HOST),
        skip_localhost_traffic_filter: parsed.setting(&variables::SKIP_LOCALHOST_TRAFFIC_FILTER),
        allow_offhost_introspection: parsed.setting(&variables::ALLOW_OFFHOST_INTROSPECTION),
        task_eni: parsed.task_eni(),
        task_cpu_mem_limit: parsed.setting(&variables::TASK_CPU_MEM_LIMIT),
        external: parsed.setting(&variables::EXTERNAL),
        traps: inspect::traps(&parsed),
        ecs_init_present: inputs.ecs_init_present,
        unreadable: unreadable(inputs, &parsed),
    }
}

fn unreadable(inputs: &EcsInputs, parsed: &Parsed<'_>) -> Vec<UnreadableInput> {
    let files = [
        Some(&inputs.config),
        inputs.var_config.as_ref(),
        Some(&inputs.json),
    ];
    let mut out: Vec<_> = files
        .into_iter()
        .flatten()
        .filter_map(|(path, text)| match text {
            FileText::Unreadable(reason) => Some(UnreadableInput {
                path: path.clone(),
                reason: reason.clone(),
            }),
            FileText::Absent | FileText::Text(_) => None,
        })
        .collect();
    // A wish may be hidden in a broken JSON file as well as in one that cannot be opened.
    if let Err(invalid) = &parsed.json {
        out.push(UnreadableInput {
            path: inputs.json.0.clone(),
            reason: format!("is not valid JSON: {}", invalid.reason),
        });
    }
    out
}

#[cfg(test)]
#[path = "tests/ecs.rs"]
mod tests;
