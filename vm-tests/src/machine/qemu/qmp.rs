//! QEMU's own control socket: what is done to a machine from outside.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::channel::Channel;

/// Saving two gigabytes of memory takes a while on a busy disk.
const ANSWER: Duration = Duration::from_secs(300);

/// A connection that may give commands.
#[derive(Debug)]
pub(super) struct Qmp(Channel);

impl Qmp {
    /// Connects and shakes hands.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let mut channel = Channel::connect(socket)?;
        channel
            .receive(ANSWER)?
            .context("QEMU does not greet on its control socket")?;
        let mut qmp = Self(channel);
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Saves memory and devices beside the disk's content, under a name.
    pub(super) fn save(&mut self, name: &str) -> Result<()> {
        let said = self.execute(
            "human-monitor-command",
            &json!({"command-line": format!("savevm {name}")}),
        )?;
        match said.as_str() {
            Some("") => Ok(()),
            _ => bail!("savevm {name}: {said}"),
        }
    }

    /// Ends QEMU; the disk's file is whole.
    pub(super) fn quit(mut self) -> Result<()> {
        self.execute("quit", &json!({})).map(drop)
    }

    /// One command and its answer; events in between are passed by.
    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.0
            .send(&json!({"execute": command, "arguments": arguments}))?;
        loop {
            let Some(mut answer) = self.0.receive(ANSWER)? else {
                bail!("{command}: no answer of QEMU within {} s", ANSWER.as_secs());
            };
            if !answer["error"].is_null() {
                bail!("{command}: {}", answer["error"]);
            }
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }
}
