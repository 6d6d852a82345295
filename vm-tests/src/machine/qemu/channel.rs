//! JSON values, one a line, over a Unix socket that QEMU holds.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// What the guest agent puts before the answer to `guest-sync-delimited`; no JSON holds it.
const DELIMITER: u8 = 0xFF;

/// One end of such a socket.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Channel {
    /// Connects to QEMU's socket at `path`.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("connecting to {}", path.display()))?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Sends one value.
    pub(super) fn send(&mut self, value: &Value) -> Result<()> {
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        self.stream.write_all(&line).context("writing to QEMU")
    }

    /// Sends the byte after which a guest agent forgets half a command that it may have read.
    pub(super) fn send_delimiter(&mut self) -> Result<()> {
        self.stream
            .write_all(&[DELIMITER])
            .context("writing to QEMU")
    }

    /// The next value; `None` where none comes within `limit`.
    pub(super) fn receive(&mut self, limit: Duration) -> Result<Option<Value>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                line.retain(|byte| *byte != DELIMITER);
                // What is left of an answer that was cut off by a reboot.
                let Ok(value) = serde_json::from_slice(&line) else {
                    continue;
                };
                return Ok(Some(value));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut part = vec![0; 64 * 1024];
            match self.stream.read(&mut part) {
                Ok(0) => bail!("QEMU is gone"),
                Ok(read) => self.unread.extend_from_slice(&part[..read]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("reading from QEMU"),
            }
        }
    }
}
