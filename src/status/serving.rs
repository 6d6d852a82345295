//! What the status socket and the exporter do with their clients: one request a connection, for reading
//! only, and every cost bounded: connections ([`super::connections`]), the request's size, the time to
//! send it, the time to read the answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::body::{self, Answer};
use super::connections::{Connections, Phase};
use crate::out;

/// The most that a request's line and headers may be, in bytes; also what hyper buffers of an answer.
/// The least that hyper takes.
const MAX_REQUEST: usize = 8192;
/// How many headers a request may have.
const MAX_HEADERS: usize = 32;
/// How long a client may take until its request is there.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a connection may take in all, unless it follows events.
const TOTAL_TIME: Duration = Duration::from_secs(15);
/// How long a client may leave what is written to it unread.
const UNREAD_TIME: Duration = Duration::from_secs(10);

/// Serves every client that `accept` gives by `serve`, until it is dropped. `place` is for the log.
pub(super) async fn clients<S, F>(
    place: &str,
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    serve: impl Fn(S, watch::Sender<Phase>) -> F,
) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = Connections::default();
    loop {
        let stream = match poll_fn(&accept).await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, or of memory: not for ever.
                tracing::warn!("{place}: accept: {error}; trying again");
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        while let Err(wait) = connections.make_room(Instant::now()) {
            sleep(wait).await;
        }
        let phase = watch::Sender::new(Phase::Asking);
        let phases = phase.subscribe();
        let task = tokio::spawn(serve(stream, phase));
        connections.add(Instant::now(), phases, task.abort_handle());
        // The new connection is looked at before the next one can take its place.
        tokio::task::yield_now().await;
    }
}

/// Has the one request of a connection answered, for as long as its client has time. One that follows
/// events has all the time until it has `gone`.
pub(super) async fn converse<S, R>(
    stream: S,
    phase: watch::Sender<Phase>,
    answer: impl Fn(Request<Incoming>) -> R,
    gone: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite,
    R: Future<Output = Response<Answer>>,
{
    let phases = phase.subscribe();
    let answer = service_fn(|request| {
        phase.send_replace(Phase::Reading);
        let response = answer(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD_TIME));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(MAX_REQUEST)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer);
    tokio::select! {
        biased;
        // How it ends is the client's affair.
        _ended = connection => {}
        () = over(phases, gone) => {}
    }
}

/// Returns when a client has had its time, or when one that follows events has gone.
async fn over(mut phase: watch::Receiver<Phase>, gone: impl Future<Output = ()>) {
    let started = Instant::now();
    let asked = timeout(REQUEST_TIME, phase.changed()).await.is_ok();
    if !asked {
        return;
    }
    if *phase.borrow() == Phase::Following {
        gone.await;
    } else {
        sleep(TOTAL_TIME.saturating_sub(started.elapsed())).await;
    }
}

/// The answer to a request that is not for reading.
pub(super) fn refusal(method: &Method) -> Option<Response<Answer>> {
    let refused = ![Method::GET, Method::HEAD].contains(method);
    refused.then(|| {
        let mut response = error(
            StatusCode::METHOD_NOT_ALLOWED,
            "this is for reading: GET and HEAD",
        );
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
        response
    })
}

/// The answer to a request for something else than `paths`.
pub(super) fn not_found(paths: &[&str]) -> Response<Answer> {
    let why = format!("there is {}", paths.join(", "));
    error(StatusCode::NOT_FOUND, &why)
}

/// An answer that says why there is no other.
pub(super) fn error(status: StatusCode, why: &str) -> Response<Answer> {
    let text = serde_json::json!({ "error": why }).to_string();
    json_line(status, text.as_bytes())
}

/// An answer that is JSON.
pub(super) fn json_line(status: StatusCode, text: &[u8]) -> Response<Answer> {
    let text = out::safe_json(text) + "\n";
    let kind = HeaderValue::from_static("application/json");
    respond(status, kind, body::whole(text))
}

/// An answer of this content type.
pub(super) fn respond(status: StatusCode, kind: HeaderValue, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
