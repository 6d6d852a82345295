//! The other end of the status socket: what `status`, `events` and the exporter ask with.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::server::SOCKET;
use crate::os::unix_http::{self, Failure};

/// The most that an answer may be, unless it is followed.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process answers on the socket.
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
    timeout: Duration,
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
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the daemon whose runtime directory this is. A whole answer may take `timeout`, and so may
    /// the beginning of one that goes on.
    #[must_use]
    pub fn new(runtime_dir: &Path, timeout: Duration) -> Self {
        Self {
            path: runtime_dir.join(SOCKET),
            timeout,
        }
    }

    /// The whole answer to `GET target`.
    pub async fn get(&self, target: &str) -> Result<Bytes, Error> {
        self.in_time(target, unix_http::get(&self.path, target, MAX_ANSWER))
            .await
    }

    /// The whole answer to `GET target`, whatever its status is, of at most `limit` bytes. The wait for a
    /// place in `turns` is a part of the time that it may take.
    pub(super) async fn relay(
        &self,
        target: &str,
        accept: Option<HeaderValue>,
        turns: &Semaphore,
        limit: usize,
    ) -> Result<Response<Bytes>, Error> {
        let asked = async {
            let _turn = turns.acquire().await;
            let response = unix_http::ask(&self.path, target, accept).await?;
            let (head, body) = response.into_parts();
            let body = unix_http::collect(body, limit).await?;
            Ok(Response::from_parts(head, body))
        };
        self.in_time(target, asked).await
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
            body: self
                .in_time(target, unix_http::open(&self.path, target))
                .await?,
            buffer: Vec::new(),
        })
    }

    async fn in_time<T>(
        &self,
        target: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        let path = self.path.clone();
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Failure::Connect(why))) => Err(match why.kind() {
                io::ErrorKind::PermissionDenied => Error::Forbidden { path },
                _ => Error::Unreachable { path, why },
            }),
            Ok(Err(closed @ Failure::Closed)) => Err(Error::Unreachable {
                path,
                why: io::Error::new(io::ErrorKind::UnexpectedEof, closed),
            }),
            Ok(Err(Failure::Status(status, why))) => {
                Err(self.broken(&format!("{status} for {target}: {why}")))
            }
            Ok(Err(Failure::Broken(problem))) => Err(self.broken(&problem)),
            Err(_) => Err(Error::Unreachable {
                path,
                why: io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "no answer within {}",
                        humantime::format_duration(self.timeout)
                    ),
                ),
            }),
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
            let frame = self.body.frame().await.transpose();
            // Cut off in the middle: the daemon ended.
            let frame = frame.map_err(|error| Error::Unreachable {
                path: self.path.clone(),
                why: io::Error::new(io::ErrorKind::UnexpectedEof, error),
            })?;
            match frame.map(|frame| frame.into_data().unwrap_or_default()) {
                Some(piece) if self.buffer.len() < MAX_ANSWER => self.buffer.extend(piece),
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    type Followed = Result<Option<Vec<u8>>, Error>;

    /// What a client says of a daemon that takes its request and is killed after these bytes.
    fn killed_after(answer: &'static [u8]) -> (Result<Bytes, Error>, Followed) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let daemon = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let _request = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        let client = Client::new(dir.path(), Duration::from_secs(20));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let said = runtime.block_on(async {
            let whole = client.get("/v1/status").await;
            let followed = async { client.lines("/v1/events?follow").await?.next().await };
            (whole, followed.await)
        });
        daemon.join().unwrap();
        said
    }

    #[test]
    fn a_daemon_that_is_killed_while_it_answers_is_unreachable() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
        ] {
            let (whole, followed) = killed_after(answer);
            for error in [whole.unwrap_err(), followed.unwrap_err()] {
                assert!(
                    matches!(error, Error::Unreachable { .. }),
                    "{error}: {answer:?}"
                );
                let text = error.to_string();
                assert!(text.starts_with("no daemon answers on "), "{text}");
            }
        }
        let (whole, _) = killed_after(b"what?\r\n");
        assert!(matches!(whole, Err(Error::Answer { .. })), "{whole:?}");
    }
}
