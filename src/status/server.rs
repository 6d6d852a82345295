//! The status socket: HTTP/1.1 over a Unix socket, for reading only.
//!
//! It runs on the daemon's own single-threaded runtime, beside the guard's loop; passes run on a
//! thread of their own. So a client can cost the daemon time here and nothing there, and here every
//! cost is bounded ([`super::serving`]), the number of followers too ([`MAX_FOLLOWERS`]).

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use hyper::header::{ACCEPT, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use nix::unistd::Group;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::answer;
use super::body::{self, Answer};
pub use super::connections::MAX_CONNECTIONS;
use super::connections::Phase;
use super::exposition::Format;
use super::hub::Hub;
use super::request::EventsQuery;
use super::serving::{self, error, json_line, respond};
use crate::config::sanitize;

/// Every path there is.
const PATHS: [&str; 7] = [
    "/v1/status",
    "/v1/guarantees",
    "/v1/posture",
    "/v1/rules",
    "/v1/events",
    "/metrics",
    "/healthz",
];
/// Those whose answer counts packets.
const COUNTED: [&str; 3] = ["/v1/status", "/v1/guarantees", "/metrics"];
/// How long counting packets may keep an answer back.
const COUNT_TIME: Duration = Duration::from_secs(1);
/// How many clients may follow events at once.
pub const MAX_FOLLOWERS: usize = 16;
/// The group whose members may ask, where it exists.
const GROUP: &str = "ecs-netguard";
/// The socket's name in the runtime directory.
pub const SOCKET: &str = "status.sock";

/// The status socket, listening.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    hub: Arc<Hub>,
    /// What to remove at the end; nothing where systemd owns the socket.
    path: Option<PathBuf>,
}

impl Server {
    /// Listens on `inherited`, a listening socket from systemd, or else on `status.sock` in
    /// `runtime_dir`, which only root and the group `ecs-netguard` may use. Within the runtime.
    pub fn new(runtime_dir: &Path, inherited: Option<OwnedFd>, hub: Arc<Hub>) -> io::Result<Self> {
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
            hub,
            path,
        })
    }

    /// Serves every client, until it is dropped.
    pub async fn run(self) -> Infallible {
        let followers = Arc::new(Semaphore::new(MAX_FOLLOWERS));
        let counting = Arc::new(Semaphore::new(1));
        let accept = |context: &mut Context<'_>| {
            let accepted = self.listener.poll_accept(context);
            accepted.map_ok(|(stream, _)| stream)
        };
        let serve = |stream, phase| {
            let service = Service {
                hub: Arc::clone(&self.hub),
                followers: Arc::clone(&followers),
                counting: Arc::clone(&counting),
                phase,
            };
            serve(stream, service)
        };
        serving::clients("the status socket", accept, serve).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A client then finds no daemon, which is true.
            let _gone_already = std::fs::remove_file(path);
        }
    }
}

/// Binds beside the final place and renames: so the socket of a daemon that crashed is replaced,
/// and no client connects before the mode is right. The lock in the same directory keeps two daemons
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
    hub: Arc<Hub>,
    followers: Arc<Semaphore>,
    /// Packets are counted for one client at a time.
    counting: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
}

/// Serves one connection.
async fn serve(stream: UnixStream, service: Service) {
    let peer = stream.peer_cred().ok();
    let socket = match stream.as_fd().try_clone_to_owned() {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!("the status socket: {error}"),
    };
    let answer = |request: Request<_>| {
        let service = &service;
        async move {
            if COUNTED.contains(&request.uri().path()) {
                service.recount().await;
            }
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
            response
        }
    };
    serving::converse(stream, service.phase.clone(), answer, gone(socket)).await;
}

/// Returns when a client that follows events has gone. hyper does not look at what comes while it sends
/// an answer, where clients may close their half of the connection.
async fn gone(socket: OwnedFd) {
    if let Ok(socket) = UnixStream::from_std(socket.into()) {
        // Its end, or more than a request: there is nothing more that it could say.
        let _gone = socket.readable().await;
    }
}

impl Service {
    /// Brings the count of packets up to date, off the loop: the kernel answers when other programs' commits
    /// to nf_tables are done. Where that takes long, the answer has the last count.
    async fn recount(&self) {
        if self.hub.is_counted() {
            return;
        }
        let Ok(counting) = Arc::clone(&self.counting).try_acquire_owned() else {
            return;
        };
        let hub = Arc::clone(&self.hub);
        let counted = tokio::task::spawn_blocking(move || {
            hub.recount();
            drop(counting);
        });
        let _late = timeout(COUNT_TIME, counted).await;
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Answer> {
        if let Some(refusal) = serving::refusal(request.method()) {
            return refusal;
        }
        let hub = &self.hub;
        let (path, query) = (request.uri().path(), request.uri().query());
        match (path, query.unwrap_or_default()) {
            ("/v1/status", "") => json(&answer::status(hub)),
            ("/v1/guarantees", "") => json(&answer::guarantees(hub)),
            ("/v1/posture", "") => json(&answer::posture(hub)),
            ("/v1/rules", "") => json(&answer::rules(hub)),
            ("/v1/events", query) => match EventsQuery::parse(query) {
                Ok(query) => self.events(&query, request.method()),
                Err(why) => error(StatusCode::BAD_REQUEST, &why),
            },
            ("/metrics", "") => {
                let format = Format::accepted(request.headers().get_all(ACCEPT));
                let text = format.write(hub.metrics_text());
                let kind = HeaderValue::from_static(format.content_type());
                respond(StatusCode::OK, kind, body::whole(text))
            }
            ("/healthz", "") => {
                let (well, line) = answer::health(hub);
                let status = if well {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let kind = HeaderValue::from_static("text/plain; charset=utf-8");
                respond(status, kind, body::whole(line))
            }
            _ if PATHS.contains(&path) => {
                let why = format!("{path} takes no parameters");
                error(StatusCode::BAD_REQUEST, &why)
            }
            _ => serving::not_found(&PATHS),
        }
    }

    fn events(&self, query: &EventsQuery, method: &Method) -> Response<Answer> {
        let mut follower = None;
        if query.follow && method == Method::GET {
            let Ok(permit) = Arc::clone(&self.followers).try_acquire_owned() else {
                return error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &format!("{MAX_FOLLOWERS} clients follow already; try again later"),
                );
            };
            self.phase.send_replace(Phase::Following);
            follower = Some(permit);
        }
        let events = body::events(Arc::clone(&self.hub), query, follower);
        let kind = HeaderValue::from_static("application/x-ndjson");
        respond(StatusCode::OK, kind, events)
    }
}

fn json(value: &impl serde::Serialize) -> Response<Answer> {
    match serde_json::to_vec(value) {
        Ok(text) => json_line(StatusCode::OK, &text),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::report::Report;
    use crate::status::client::Client;

    #[test]
    fn every_path_is_answered_and_nothing_else_is() {
        let service = Service {
            hub: Hub::new(),
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            counting: Arc::new(Semaphore::new(1)),
            phase: watch::Sender::new(Phase::Asking),
        };
        let status = |target: &str| {
            let request = Request::get(target).body(()).unwrap();
            service.respond(&request).status().as_u16()
        };
        for path in PATHS {
            // Nothing is verified yet.
            let answered = if path == "/healthz" { 503 } else { 200 };
            assert_eq!(status(path), answered, "{path}");
            assert_eq!(status(&format!("{path}?")), answered, "{path}");
            assert_eq!(status(&format!("{path}?x=1")), 400, "{path}");
        }
        for path in [
            "/",
            "/v1",
            "/v1/status/",
            "//v1/status",
            "/v1/./status",
            "/v1/../v1/status",
            "/v1/../../etc/passwd",
            "/V1/status",
            "/v1/stat%75s",
            "/v1/statu?s",
        ] {
            assert_eq!(status(path), 404, "{path}");
        }
    }

    #[tokio::test]
    #[allow(
        clippy::await_holding_lock,
        reason = "it is what the count waits for, on another thread"
    )]
    async fn counting_that_hangs_holds_up_no_answer() {
        let service = Service {
            hub: Hub::new(),
            followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
            counting: Arc::new(Semaphore::new(1)),
            phase: watch::Sender::new(Phase::Asking),
        };
        let hub = Arc::clone(&service.hub);
        let hangs = hub.hold_counters();
        let began = Instant::now();
        service.recount().await;
        assert!(began.elapsed() < COUNT_TIME * 2);
        // The next client does not wait at all.
        let began = Instant::now();
        service.recount().await;
        assert!(began.elapsed() < COUNT_TIME / 2);
        drop(hangs);
    }

    #[tokio::test]
    async fn a_socket_of_systemds_is_served_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        let listener = StdListener::bind(&path).unwrap();
        let server = Server::new(dir.path(), Some(listener.into()), Hub::new()).unwrap();
        let served = tokio::spawn(server.run());
        let status: Report = Client::new(dir.path(), Duration::from_secs(20))
            .json("/v1/status")
            .await
            .unwrap();
        assert!(status.stale.is_some(), "{status:?}");
        served.abort();
        assert!(served.await.unwrap_err().is_cancelled());
        assert!(path.exists(), "it is not ours to remove");
    }
}
