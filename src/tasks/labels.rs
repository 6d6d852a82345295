//! What Docker says of namespaces that nothing else tells apart: which sandbox is that of an ECS
//! task's pause container, by the labels that the ECS agent gives it (aws/amazon-ecs-agent,
//! agent/engine/docker_task_engine.go). The daemon asks; the process that goes into tasks' namespaces
//! has no way to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::evidence::task_of_arn;
use super::protocol::Said;
use super::sandboxes::{Labels, is_hex, is_sandbox};
use super::task_events::Report;
use crate::config::sanitize_message;
use crate::events::{Event, Kind};
use crate::guarantee::Guarantee;
use crate::os::channel::Channel;
use crate::os::docker::SOCKET;
use crate::os::unix_http::{self, Failure};

/// The containers that run and have the label of a task's pause container:
/// `{"label":["com.amazonaws.ecs.container-name=~internal~ecs~pause"]}`, as a query has it.
const PAUSES: &str = "/containers/json?filters=%7B%22label%22%3A%5B%22com.amazonaws.ecs.container-name\
                      %3D~internal~ecs~pause%22%5D%7D";
const NAME: &str = "com.amazonaws.ecs.container-name";
const PAUSE: &str = "~internal~ecs~pause";
const TASK: &str = "com.amazonaws.ecs.task-arn";

/// How long all of Docker's answers may take together. It answers one in about a millisecond.
const LIMIT: Duration = Duration::from_secs(1);
/// The most bytes that one answer may have. A container takes about two thousand in the list.
const MAX_ANSWER: usize = 1024 * 1024;
/// What Docker answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// Those of the sandboxes asked about that are tasks'.
    pub labels: Labels,
    /// Whether the others are not.
    pub whole: bool,
    /// What is wrong with the answer, in words for an operator.
    pub trouble: Option<String>,
}

/// Asks for whatever is unsure, tells the process that goes into tasks' namespaces, and `tell`s what
/// the daemon's loop has to know. Ends when it is no longer said what is unsure.
pub(super) async fn serve(
    mut unsure: watch::Receiver<BTreeSet<String>>,
    channel: Arc<Channel>,
    tell: impl Fn(Report),
) {
    // Labels never change: a container that was asked about once needs not be again.
    let mut known = BTreeSet::new();
    let mut told = None;
    while unsure.changed().await.is_ok() {
        let sandboxes = unsure.borrow_and_update().clone();
        if sandboxes.is_subset(&known) {
            continue;
        }
        let answer = ask(Path::new(SOCKET), &sandboxes).await;
        if answer.trouble != told {
            told.clone_from(&answer.trouble);
            if let Some(trouble) = answer.trouble {
                let event = Event::new(Kind::Warning, trouble).about(Guarantee::AwsvpcImdsBlock);
                tell(Report::Happened(Box::new(event)));
            }
        }
        known = if answer.whole {
            sandboxes
        } else {
            BTreeSet::new()
        };
        if !answer.labels.is_empty() {
            // Where no receiver is left, the daemon's loop is notified.
            let _ended = channel.send(&Said::Labelled(answer.labels));
        }
    }
}

/// Asks as a program that does nothing else meanwhile.
pub(super) fn ask_now(unsure: &BTreeSet<String>) -> io::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(ask(Path::new(SOCKET), unsure)))
}

async fn ask(socket: &Path, unsure: &BTreeSet<String>) -> Answer {
    let mut labels = Labels::new();
    let asked = tokio::time::timeout(LIMIT, collect(socket, unsure, &mut labels)).await;
    let problem = match asked {
        Ok(Ok(())) => None,
        // No Docker, or not for us: no evidence.
        Ok(Err(Failure::Connect(_))) => {
            return Answer {
                labels,
                ..Answer::default()
            };
        }
        Ok(Err(failure)) => Some(sanitize_message(&failure.to_string())),
        Err(_) => Some(format!("no answer within {LIMIT:?}")),
    };
    let trouble = problem.map(|problem| {
        format!(
            "{SOCKET}: ask Docker for the labels of tasks' pause containers: {problem}; tasks that \
             nothing else tells from other containers are not kept from the metadata service until \
             it answers: see `systemctl status docker`"
        )
    });
    Answer {
        labels,
        whole: trouble.is_none(),
        trouble,
    }
}

async fn collect(
    socket: &Path,
    unsure: &BTreeSet<String>,
    labels: &mut Labels,
) -> Result<(), Failure> {
    for (container, task) in pauses(&unix_http::get(socket, PAUSES, MAX_ANSWER).await?)? {
        let target = format!("/containers/{container}/json");
        let answer = match unix_http::get(socket, &target, MAX_ANSWER).await {
            // It ended meanwhile.
            Err(Failure::Status(status, _)) if status.as_u16() == 404 => continue,
            other => other?,
        };
        if let Some(sandbox) = sandbox(&answer)?.filter(|sandbox| unsure.contains(sandbox)) {
            labels.insert(sandbox, task);
        }
        if labels.len() == unsure.len() {
            break;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    sandbox_key: String,
}

/// The pause containers in Docker's list, each with the id of its task.
fn pauses(answer: &[u8]) -> Result<Vec<(String, String)>, Failure> {
    let listed: Vec<Listed> = read(answer)?;
    let mut pauses = Vec::new();
    for container in listed {
        let label = |name| container.labels.get(name).map(String::as_str);
        let Some(task) = label(TASK).and_then(task_of_arn).filter(|_| {
            // The list is filtered already; what only resembles Docker may not know filters.
            label(NAME) == Some(PAUSE)
        }) else {
            continue;
        };
        // It becomes a part of what is asked for next.
        if container.id.len() != 64 || !is_hex(&container.id) {
            return Err(Failure::Broken(format!(
                "{:?} is not the id of a container",
                container.id
            )));
        }
        pauses.push((container.id, task));
    }
    Ok(pauses)
}

/// The sandbox of an inspected container; `None` where it has none, or Docker keeps it elsewhere.
fn sandbox(answer: &[u8]) -> Result<Option<String>, Failure> {
    let key = read::<Inspected>(answer)?.network_settings.sandbox_key;
    let name = key.strip_prefix("/var/run/docker/netns/");
    let name = name.or_else(|| key.strip_prefix("/run/docker/netns/"));
    Ok(name.filter(|name| is_sandbox(name)).map(str::to_owned))
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer)
        .map_err(|error| Failure::Broken(format!("not what Docker answers: {error}")))
}

#[cfg(test)]
mod tests;
