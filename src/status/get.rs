//! One `GET` over a Unix socket: what the program's own commands and its look at Docker's labels ask
//! with.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;

use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::config::sanitize_message;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answers on the socket, or the user may not use it.
    #[error("{0}")]
    Connect(io::Error),
    /// An answer that is not 200, and what it says.
    #[error("{0}: {1}")]
    Status(StatusCode, String),
    /// What answers does not speak HTTP, breaks off, or does not come to an end.
    #[error("{0}")]
    Broken(String),
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The body of the answer to `GET target`, as it comes. How long that may take the caller says.
pub async fn open(socket: &Path, target: &str) -> Result<Incoming, Failure> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(Failure::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the body that it feeds.
    tokio::spawn(connection);
    let request = Request::get(target)
        .header(HOST, "localhost")
        .body(String::new())
        .map_err(|error| Failure::Broken(error.to_string()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let why = piece(&mut body).await.ok().flatten().unwrap_or_default();
    let why = sanitize_message(&String::from_utf8_lossy(&why));
    Err(Failure::Status(status, why))
}

/// The whole answer to `GET target`, of at most so many bytes.
pub async fn whole(socket: &Path, target: &str, longest: usize) -> Result<Bytes, Failure> {
    let mut body = open(socket, target).await?;
    let mut whole = Vec::new();
    while let Some(piece) = piece(&mut body).await? {
        whole.extend(piece);
        if whole.len() > longest {
            return Err(Failure::Broken("the answer is too long".to_owned()));
        }
    }
    Ok(whole.into())
}

/// The next piece of a body; `None` at its end.
pub async fn piece(body: &mut Incoming) -> hyper::Result<Option<Bytes>> {
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
