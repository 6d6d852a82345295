//! What Docker's files say of namespaces that nothing else tells apart: which sandbox is that of an ECS
//! task's pause container, by the labels that the ECS agent gives it (aws/amazon-ecs-agent,
//! agent/engine/docker_task_engine.go).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use super::evidence::task_of_arn;
use crate::os::docker::{self, Container};

const NAME: &str = "com.amazonaws.ecs.container-name";
const PAUSE: &str = "~internal~ecs~pause";
const TASK: &str = "com.amazonaws.ecs.task-arn";

/// What the labels say, and what was read for it.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// Of each container's file as it last changed, the sandbox and the task, where it is a pause container's.
    files: BTreeMap<PathBuf, (SystemTime, Option<(String, String)>)>,
    trouble: Option<String>,
}

impl Labels {
    /// The task that a sandbox is of. A sandbox is the name of Docker's handle on a container's network
    /// namespace: it is random, and not given again.
    pub(super) fn task(&self, sandbox: &str) -> Option<&String> {
        let found = self.files.values().filter_map(|(_, found)| found.as_ref());
        let mut of = found.filter(|(name, _)| name == sandbox);
        of.next().map(|(_, task)| task)
    }

    /// Reads what has changed. Returns what is wrong with it where that is new, in words for an operator.
    pub(super) fn read(&mut self) -> Option<String> {
        let mut trouble = None;
        let mut last = std::mem::take(&mut self.files);
        for (path, changed) in docker::container_files() {
            let known = last.remove(&path).filter(|(at, _)| *at == changed);
            let known = known.or_else(|| match Container::read(&path) {
                Ok(container) => Some((changed, pause(&container))),
                Err(problem) => {
                    trouble = Some(format!(
                        "{} {problem}; should it be a task's that nothing else tells from other containers, \
                         it is not kept from the metadata service",
                        path.display()
                    ));
                    None
                }
            });
            self.files.extend(known.map(|known| (path, known)));
        }
        let new = trouble.clone().filter(|_| trouble != self.trouble);
        self.trouble = trouble;
        new
    }
}

/// The sandbox and the task of a task's pause container.
fn pause(container: &Container) -> Option<(String, String)> {
    let label = |name| container.labels.get(name).map(String::as_str);
    let task = label(TASK).and_then(task_of_arn)?;
    let key = &container.sandbox_key;
    let name = key.strip_prefix("/var/run/docker/netns/");
    let name = name.or_else(|| key.strip_prefix("/run/docker/netns/"))?;
    let is_one = label(NAME) == Some(PAUSE) && is_sandbox(name);
    is_one.then(|| (name.to_owned(), task))
}

/// Whether a handle has the name of a container's sandbox: twelve hexadecimal digits of its id
/// (moby/moby, libnetwork/osl: `GenerateKey`).
pub(super) fn is_sandbox(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";
    const KEY: &str = "/var/run/docker/netns/0123456789ab";

    fn container(name: &str, arn: &str, key: &str) -> Container {
        let labels = [(NAME, name), (TASK, arn)];
        Container {
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            sandbox_key: key.to_owned(),
            ..Container::default()
        }
    }

    #[test]
    fn a_pause_container_tells_its_sandboxs_task() {
        let arn = format!("arn:aws:ecs:eu-central-1:123456789012:task/main/{ID}");
        let found = Some(("0123456789ab".to_owned(), ID.to_owned()));
        assert_eq!(pause(&container(PAUSE, &arn, KEY)), found);
        let key = KEY.strip_prefix("/var").unwrap();
        assert_eq!(pause(&container(PAUSE, &arn, key)), found);
        assert_eq!(pause(&container("app", &arn, KEY)), None);
        assert_eq!(pause(&container(PAUSE, "a task", KEY)), None);
        assert_eq!(pause(&container(PAUSE, &format!("{arn}\n"), KEY)), None);
        assert_eq!(pause(&Container::default()), None);
        for other in [
            "",
            "/var/run/docker/netns/default",
            "/var/run/docker/netns/0123456789a",
            "/var/run/docker/netns/../0123456789ab",
            "/var/run/docker/netns/0123456789ag",
            "/proc/1/ns/net",
        ] {
            assert_eq!(pause(&container(PAUSE, &arn, other)), None, "{other}");
        }
    }
}
