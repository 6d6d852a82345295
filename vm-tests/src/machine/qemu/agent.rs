//! The guest agent: the only way into a virtual machine that has no network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::channel::Channel;
use crate::machine::Output;

/// How long the agent may take for one answer on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

/// How much of a file goes over in one command; the agent takes at most some tens of megabytes.
const PIECE: usize = 1 << 20;

/// Runs `$1` for at most `$2` seconds. Into files, because what the script leaves running may keep a
/// pipe open; and in the environment that tier 1 gives.
const WRAPPER: &str = "said=$(mktemp -d /run/vm-tests.XXXXXX)\n\
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    timeout -s KILL \"$2\" sh -c \"$1\" </dev/null >\"$said/out\" 2>\"$said/err\"\n\
    code=$?\n\
    cat \"$said/out\"; cat \"$said/err\" >&2; rm -r \"$said\"; exit $code";

/// A connection to one machine's agent.
#[derive(Debug)]
pub(super) struct Agent {
    channel: Channel,
    /// Whether the next answer belongs to the next question. It does not where one stayed out.
    in_step: bool,
    /// The number of the last synchronisation.
    turn: u64,
}

impl Agent {
    /// Connects; whether the agent is there is not known yet.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        Ok(Self {
            channel: Channel::connect(socket)?,
            in_step: false,
            turn: 0,
        })
    }

    /// Waits until the agent answers, and whatever was said before is done with.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            self.turn += 1;
            self.channel.send_delimiter()?;
            self.channel.send(
                &json!({"execute": "guest-sync-delimited", "arguments": {"id": self.turn}}),
            )?;
            while let Some(answer) = self.channel.receive(Duration::from_secs(1))? {
                if answer["return"] == self.turn {
                    self.in_step = true;
                    return Ok(());
                }
            }
        }
        bail!(
            "the guest agent does not answer within {} s",
            limit.as_secs()
        )
    }

    /// Runs a script as [`crate::machine::Machine::run`] does.
    pub(super) fn run(&mut self, script: &str, limit: Duration) -> Result<Output> {
        let since = Instant::now();
        let seconds = limit.as_secs().max(1);
        let started = self.ask(
            "guest-exec",
            &json!({
                "path": "/bin/sh",
                "arg": ["-c", WRAPPER, "sh", script, seconds.to_string()],
                "capture-output": true,
            }),
        )?;
        let pid = started["pid"].clone();
        let mut pause = Duration::from_millis(5);
        let status = loop {
            let status = self.ask("guest-exec-status", &json!({"pid": pid}))?;
            if status["exited"] == true {
                break status;
            }
            if since.elapsed() > limit + ANSWER {
                bail!("no end within {seconds} s");
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        };
        let output = Output {
            code: exit_code(&status),
            stdout: decoded(&status["out-data"])?,
            stderr: decoded(&status["err-data"])?,
        };
        if since.elapsed() >= limit && output.code == 137 {
            bail!(
                "no end within {seconds} s\n{}{}",
                output.stdout,
                output.stderr
            );
        }
        Ok(output)
    }

    /// Copies a file into the machine, with its mode.
    pub(super) fn put(&mut self, local: &Path, remote: &str) -> Result<()> {
        let content = fs::read(local).with_context(|| format!("reading {}", local.display()))?;
        let mode = fs::metadata(local)?.permissions().mode() & 0o7777;
        let handle = self.ask("guest-file-open", &json!({"path": remote, "mode": "w"}))?;
        for piece in content.chunks(PIECE) {
            let data = BASE64.encode(piece);
            self.ask(
                "guest-file-write",
                &json!({"handle": handle, "buf-b64": data}),
            )?;
        }
        self.ask("guest-file-close", &json!({"handle": handle}))?;
        let chmod = self.run(&format!("chmod {mode:o} '{remote}'"), ANSWER)?;
        if chmod.code != 0 {
            bail!("chmod {mode:o} {remote}: {}", chmod.stderr);
        }
        Ok(())
    }

    /// One command and its answer.
    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        if !self.in_step {
            self.wait(ANSWER)?;
        }
        self.in_step = false;
        self.channel
            .send(&json!({"execute": command, "arguments": arguments}))?;
        let Some(mut answer) = self.channel.receive(ANSWER)? else {
            bail!(
                "{command}: no answer of the guest agent within {} s",
                ANSWER.as_secs()
            );
        };
        self.in_step = true;
        if !answer["error"].is_null() {
            bail!("{command}: {}", answer["error"]);
        }
        Ok(answer["return"].take())
    }
}

/// The exit code as a shell gives it.
fn exit_code(status: &Value) -> i32 {
    let number = |key: &str| status[key].as_i64().and_then(|n| i32::try_from(n).ok());
    number("exitcode")
        .or_else(|| number("signal").map(|signal| 128 + signal))
        .unwrap_or(255)
}

fn decoded(data: &Value) -> Result<String> {
    let bytes = BASE64
        .decode(data.as_str().unwrap_or_default().as_bytes())
        .context("decoding what a command printed")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
