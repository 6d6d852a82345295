//! The status socket: HTTP/1.1 over a Unix socket, for reading only.
//!
//! It runs on the daemon's own single-threaded runtime, beside the guard's loop; turns run on a
//! thread of their own. So a client can cost the daemon time here and nothing there, and here every
//! cost is bounded: connections ([`MAX_CONNECTIONS`]), one request each, its size, the time to send
//! it, the time to read the answer, followers ([`MAX_FOLLOWERS`]).

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::unistd::Group;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::answer;
use super::body::{Answer, Events};
pub use super::connections::MAX_CONNECTIONS;
use super::connections::{Connections, Phase, Place};
use super::hub::Hub;
use super::request::{EventsQuery, PATHS, Refusal, Route};
use super::stream::Stream;
use crate::config::sanitize;

/// How many clients may follow events at once.
pub const MAX_FOLLOWERS: usize = 16;
/// The most that a request's line and headers may be, in bytes; also what hyper buffers of an answer.
/// The least that hyper takes.
const MAX_REQUEST: usize = 8192;
/// How many headers a request may have.
const MAX_HEADERS: usize = 32;
/// How long a client may take until its request is there.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a connection may take in all, unless it follows events.
const TOTAL_TIME: Duration = Duration::from_secs(15);
/// How long a follower may leave what is written to it unread.
const UNREAD_TIME: Duration = Duration::from_secs(10);
/// The group whose members may ask, where it exists.
const GROUP: &str = "ecs-netguard";
/// The socket's name in the runtime directory.
pub const SOCKET: &str = "status.sock";

/// The status socket, listening.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    board: Arc<Hub>,
    /// What to remove at the end; nothing where systemd owns the socket.
    path: Option<PathBuf>,
}

impl Server {
    /// Listens on `inherited`, a listening socket from systemd, or else on `status.sock` in
    /// `runtime_dir`, which only root and the group `ecs-netguard` may use. Within the runtime.
    pub fn new(
        runtime_dir: &Path,
        inherited: Option<OwnedFd>,
        board: Arc<Hub>,
    ) -> io::Result<Self> {
        let (listener, path) = match inherited {
            Some(fd) => (StdListener::from(fd), None),
            None => {
                let path = runtime_dir.join(SOCKET);
                (bind(&path)?, Some(path))
            }
        };
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            board,
            path,
        })
    }

    /// Serves whoever comes, until it is dropped.
    pub async fn run(self) {
        let connections = Connections::default();
        let followers = Arc::new(Semaphore::new(MAX_FOLLOWERS));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or of memory: not for ever.
                    tracing::warn!("the status socket: accept: {error}; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let place = loop {
                match connections.place(Instant::now()) {
                    Ok(place) => break place,
                    Err(wait) => tokio::time::sleep(wait).await,
                }
            };
            let id = place.id();
            let service = Service {
                board: Arc::clone(&self.board),
                socket: Arc::new(stream),
                followers: Arc::clone(&followers),
                place,
            };
            let task = tokio::spawn(serve(service));
            connections.serves(id, task.abort_handle());
            // The new connection is looked at before the next one can take its place.
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Whoever asks then is told that there is no daemon, which is so.
            let _gone_already = std::fs::remove_file(path);
        }
    }
}

/// Binds beside the final place and renames: so the socket of a daemon that crashed is replaced,
/// and nobody connects before the mode is right. The lock in the same directory keeps two daemons
/// from doing this.
fn bind(path: &Path) -> io::Result<StdListener> {
    let new = path.with_extension("sock.new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&new)?;
    let group = Group::from_name(GROUP).ok().flatten();
    match chown(&new, None, group.map(|group| group.gid.as_raw())) {
        // The unit's sandbox gives nothing away; there systemd does it (`ExecStartPost=`).
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        given => given?,
    }
    std::fs::set_permissions(&new, Permissions::from_mode(0o660))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// What one connection is served with.
struct Service {
    board: Arc<Hub>,
    socket: Arc<UnixStream>,
    followers: Arc<Semaphore>,
    place: Place,
}

async fn serve(service: Service) {
    let started = tokio::time::Instant::now();
    let peer = service.socket.peer_cred().ok();
    let place = &service.place;
    let answer = service_fn(|request| {
        let response = service.respond(&request);
        let (pid, uid) = peer.map_or((None, None), |p| (p.pid(), Some(p.uid())));
        tracing::debug!(
            netguard_peer_pid = pid,
            netguard_peer_uid = uid,
            "status socket: {} {} from process {} of user {}: {}",
            request.method(),
            sanitize(&request.uri().to_string()),
            pid.map_or("?".to_owned(), |pid| pid.to_string()),
            uid.map_or("?".to_owned(), |uid| uid.to_string()),
            response.status().as_u16(),
        );
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let stream = TokioIo::new(Stream::new(Arc::clone(&service.socket), UNREAD_TIME));
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .half_close(true)
        .max_buf_size(MAX_REQUEST)
        .max_headers(MAX_HEADERS);
    let mut connection = std::pin::pin!(http.serve_connection(stream, answer));
    loop {
        let limit = match place.phase() {
            Phase::Asking => REQUEST_TIME,
            Phase::Reading => TOTAL_TIME,
            Phase::Following => {
                // How it ends is the client's affair.
                let _ended = connection.await;
                return;
            }
        };
        let deadline = started + limit;
        if deadline <= tokio::time::Instant::now()
            || tokio::time::timeout_at(deadline, &mut connection)
                .await
                .is_ok()
        {
            return;
        }
    }
}

impl Service {
    fn respond<B>(&self, request: &Request<B>) -> Response<Answer> {
        self.place.reached(Phase::Reading);
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = error(
                StatusCode::METHOD_NOT_ALLOWED,
                "this socket is for reading: GET and HEAD",
            );
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allow);
            return response;
        }
        let uri = request.uri();
        let route = match Route::parse(uri.path(), uri.query()) {
            Ok(route) => route,
            Err(Refusal::NotFound) => {
                let paths = PATHS.join(", ");
                return error(StatusCode::NOT_FOUND, &format!("there is {paths}"));
            }
            Err(Refusal::BadQuery(why)) => return error(StatusCode::BAD_REQUEST, &why),
        };
        let board = &self.board;
        if matches!(route, Route::Status | Route::Guarantees | Route::Metrics) {
            board.recount();
        }
        match route {
            Route::Status => json(&answer::status(board)),
            Route::Guarantees => json(&answer::guarantees(board)),
            Route::Posture => json(&answer::posture(board)),
            Route::Rules => json(&answer::rules(board)),
            Route::Events(query) => self.events(&query, request.method()),
            Route::Metrics => text(
                StatusCode::OK,
                super::metrics::CONTENT_TYPE,
                board.metrics_text().into_bytes(),
            ),
            Route::Health => {
                let (well, line) = answer::health(board);
                let status = if well {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                text(status, "text/plain; charset=utf-8", line.into_bytes())
            }
        }
    }

    fn events(&self, query: &EventsQuery, method: &Method) -> Response<Answer> {
        let mut follow = None;
        if query.follow && method == Method::GET {
            let Ok(permit) = Arc::clone(&self.followers).try_acquire_owned() else {
                return error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &format!("{MAX_FOLLOWERS} clients follow already; try again later"),
                );
            };
            self.place.reached(Phase::Following);
            follow = Some((permit, Arc::clone(&self.socket)));
        }
        let events = Events::new(Arc::clone(&self.board), query, follow);
        respond(
            StatusCode::OK,
            "application/x-ndjson",
            Answer::Events(Box::new(events)),
        )
    }
}

fn json(value: &impl serde::Serialize) -> Response<Answer> {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            text(StatusCode::OK, "application/json", body)
        }
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn error(status: StatusCode, why: &str) -> Response<Answer> {
    let mut body = serde_json::json!({ "error": why }).to_string().into_bytes();
    body.push(b'\n');
    text(status, "application/json", body)
}

fn text(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Answer> {
    respond(status, kind, body.into())
}

fn respond(status: StatusCode, kind: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::client::Client;
    use crate::status::model::Status;

    #[tokio::test]
    async fn a_socket_of_systemds_is_served_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        let listener = StdListener::bind(&path).unwrap();
        let server = Server::new(dir.path(), Some(listener.into()), Hub::new()).unwrap();
        let served = tokio::spawn(server.run());
        let status: Status = Client::new(dir.path()).json("/v1/status").await.unwrap();
        assert!(status.stale.is_some(), "{status:?}");
        served.abort();
        assert!(served.await.unwrap_err().is_cancelled());
        assert!(path.exists(), "it is not ours to remove");
    }
}
