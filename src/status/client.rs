//! The other end of the status socket: what `status` and `events` ask with.

use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::server::SOCKET;
use crate::config::shown_message;

/// How long an answer may take. The daemon answers in milliseconds; on a busy machine it may queue.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that an answer may be, unless it is followed.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers on the socket.
    #[error(
        "no daemon answers on {}: {why}; see `systemctl status ecs-netguard`, and \
         `ecs-netguard check`, which proves the rules without a daemon", .path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// The user may not use the socket.
    #[error(
        "{} may be asked by root and the group ecs-netguard only: use sudo, or join the group",
        .path.display()
    )]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// What answers is not this program's daemon, or breaks off.
    #[error("{}: {problem}", .path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl Error {
    /// The daemon ended while it was listened to.
    #[must_use]
    pub fn gone(client: &Client) -> Self {
        Self::Unreachable {
            path: client.path.clone(),
            why: io::ErrorKind::UnexpectedEof.into(),
        }
    }
}

/// Asks one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

/// A line-wise answer that goes on.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    body: Incoming,
    /// What has come and was not taken: at most one line and one piece of the answer.
    buffer: Vec<u8>,
}

impl Client {
    /// Asks the daemon whose runtime directory this is.
    #[must_use]
    pub fn new(runtime_dir: &Path) -> Self {
        Self {
            path: runtime_dir.join(SOCKET),
        }
    }

    /// The whole answer to `GET target`.
    pub async fn get(&self, target: &str) -> Result<Bytes, Error> {
        let whole = async {
            let mut body = self.open(target).await?;
            let mut whole = Vec::new();
            while let Some(piece) = piece(&mut body).await.transpose() {
                whole.extend(piece.map_err(|error| self.broken(&error))?);
                if whole.len() > MAX_ANSWER {
                    return Err(self.broken(&"the answer is too long"));
                }
            }
            Ok(whole.into())
        };
        self.in_time(whole).await
    }

    /// The answer to `GET target`, which is JSON.
    pub async fn json<T: DeserializeOwned>(&self, target: &str) -> Result<T, Error> {
        let text = self.get(target).await?;
        self.read(target, &text)
    }

    /// What a text that came from `target` says.
    pub fn read<T: DeserializeOwned>(&self, target: &str, text: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(text).map_err(|error| {
            self.broken(&format!(
                "the answer to {target} is not what this version expects: {error}"
            ))
        })
    }

    /// The lines of the answer to `GET target`, as they come.
    pub async fn lines(&self, target: &str) -> Result<Lines, Error> {
        Ok(Lines {
            path: self.path.clone(),
            body: self.in_time(self.open(target)).await?,
            buffer: Vec::new(),
        })
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unreachable {
                path: self.path.clone(),
                why: io::ErrorKind::TimedOut.into(),
            }),
        }
    }

    async fn open(&self, target: &str) -> Result<Incoming, Error> {
        let stream = UnixStream::connect(&self.path).await.map_err(|why| {
            let path = self.path.clone();
            match why.kind() {
                io::ErrorKind::PermissionDenied => Error::Forbidden { path },
                _ => Error::Unreachable { path, why },
            }
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // Ends with the body that it feeds.
        tokio::spawn(connection);
        let request = Request::get(target)
            .header(HOST, "localhost")
            .body(String::new())
            .map_err(|error| self.broken(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => {
                let mut body = response.into_body();
                let why = piece(&mut body).await.ok().flatten().unwrap_or_default();
                let why = shown_message(&String::from_utf8_lossy(&why));
                Err(self.broken(&format!("{status} for {target}: {why}")))
            }
        }
    }

    fn broken(&self, problem: &dyn std::fmt::Display) -> Error {
        Error::Answer {
            path: self.path.clone(),
            problem: problem.to_string(),
        }
    }
}

impl Lines {
    /// The next line, without its end; `None` when the answer is over.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            let piece = piece(&mut self.body).await;
            // Cut off in the middle: the daemon ended.
            let piece = piece.map_err(|error| Error::Unreachable {
                path: self.path.clone(),
                why: io::Error::new(io::ErrorKind::UnexpectedEof, error),
            })?;
            match piece {
                Some(piece) if self.buffer.len() < MAX_ANSWER => self.buffer.extend(piece),
                _ => return Ok(None),
            }
        }
    }
}

/// The next piece of a body; `None` at its end.
async fn piece(body: &mut Incoming) -> hyper::Result<Option<Bytes>> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame.transpose()? {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
