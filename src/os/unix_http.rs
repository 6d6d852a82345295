//! One HTTP `GET` over a Unix socket, for the daemon's status socket.
//!
//! [`ask`], [`open`] and [`get`] have no time limit: the caller sets one over everything that it asks.

use std::error::Error as _;
use std::io;
use std::path::Path;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::config::sanitize_message;

/// The most bytes of an answer that is not 200: they become a part of a message.
const MAX_REFUSAL: usize = 8192;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The socket does not exist, no process listens on it, or the user may not use it.
    #[error("{0}")]
    Connect(io::Error),
    /// The other side ended the connection before its answer was whole.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The answer is not 200; with its text.
    #[error("{0}: {1}")]
    Status(StatusCode, String),
    /// The answer is not HTTP, breaks off, or is too long.
    #[error("{0}")]
    Broken(String),
}

/// Sends `GET target`, for one of the media types in `accept` where that is given. Returns the answer,
/// whatever its status is, with its body as it comes.
pub async fn ask(
    socket: &Path,
    target: &str,
    accept: Option<HeaderValue>,
) -> Result<Response<Incoming>, Failure> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(Failure::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    // Ends with the body that it feeds.
    tokio::spawn(connection);
    let mut request = Request::get(target)
        .header(HOST, "localhost")
        .body(String::new())
        .map_err(broken)?;
    request
        .headers_mut()
        .extend(accept.map(|accept| (ACCEPT, accept)));
    sender.send_request(request).await.map_err(lost)
}

/// Sends `GET target` and returns the body of the answer as it comes.
pub async fn open(socket: &Path, target: &str) -> Result<Incoming, Failure> {
    let response = ask(socket, target, None).await?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.into_body());
    }
    let why = collect(response.into_body(), MAX_REFUSAL).await;
    let why = String::from_utf8_lossy(&why.unwrap_or_default()).into_owned();
    Err(Failure::Status(status, sanitize_message(&why)))
}

/// The whole answer to `GET target`, of at most `limit` bytes.
pub async fn get(socket: &Path, target: &str, limit: usize) -> Result<Bytes, Failure> {
    collect(open(socket, target).await?, limit).await
}

/// A whole body, of at most `limit` bytes.
pub async fn collect(body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    let whole = Limited::new(body, limit).collect().await;
    let whole = whole.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => lost(*error),
        Err(error) => broken(error),
    })?;
    Ok(whole.to_bytes())
}

/// What an error of the connection means: a process that is killed closes it at any moment.
fn lost(error: hyper::Error) -> Failure {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    let reset = io.is_some_and(|error| {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
    });
    if reset || error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Failure::Closed
    } else {
        broken(error)
    }
}

fn broken(error: impl ToString) -> Failure {
    Failure::Broken(error.to_string())
}
