//! The exporter: `/metrics` and `/healthz` of the status socket, on TCP. Prometheus cannot scrape a
//! socket, and the daemon, which runs as root, does not listen on a network.
//!
//! It holds no state: each request is one request to the daemon, and where the daemon does not answer,
//! 503 and the reason are the answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::body::{self, Answer};
use super::client::Client;
use super::serving::{self, error, respond};

/// Every path there is.
const PATHS: [&str; 2] = ["/metrics", "/healthz"];
/// How many requests the daemon is asked to answer at the same time: however many clients there are, most
/// of its own places stay free for others.
const TURNS: usize = 4;
/// The most that an answer may be, in bytes. A daemon with all guarantees and some drift answered 23 KB.
const MAX_ANSWER: usize = 1024 * 1024;

/// The exporter, listening.
#[derive(Debug)]
pub struct Exporter {
    listener: TcpListener,
    relay: Arc<Relay>,
}

impl Exporter {
    /// Listens on `address`, for what `client` is answered. Within the runtime.
    pub async fn bind(address: SocketAddr, client: Client) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            relay: Arc::new(Relay {
                client,
                turns: Semaphore::new(TURNS),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves every client, until it is dropped.
    pub async fn run(self) -> Infallible {
        let accept = |context: &mut Context<'_>| {
            let accepted = self.listener.poll_accept(context);
            accepted.map_ok(|(stream, _)| stream)
        };
        let serve = |stream, phase| {
            let relay = Arc::clone(&self.relay);
            async move {
                let answer = |request| relay.answer(request);
                // Nothing that is followed is relayed.
                serving::converse(stream, phase, answer, std::future::ready(())).await;
            }
        };
        serving::clients("the exporter", accept, serve).await
    }
}

/// What asks the daemon.
#[derive(Debug)]
struct Relay {
    client: Client,
    turns: Semaphore,
}

impl Relay {
    async fn answer<B>(&self, request: Request<B>) -> Response<Answer> {
        if let Some(refusal) = serving::refusal(request.method()) {
            return refusal;
        }
        let target = request.uri().path_and_query();
        let target = target.filter(|target| PATHS.contains(&target.path()));
        let Some(target) = target else {
            return serving::not_found(&PATHS);
        };
        let accept = request.headers().get(ACCEPT).cloned();
        let relayed = self
            .client
            .relay(target.as_str(), accept, &self.turns, MAX_ANSWER);
        match relayed.await {
            Ok(answer) => {
                let kind = answer.headers().get(CONTENT_TYPE).cloned();
                let kind = kind.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
                respond(answer.status(), kind, body::whole(answer.into_body()))
            }
            Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
        }
    }
}
