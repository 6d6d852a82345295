//! Many clients of the status socket at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Lab;

const REQUEST: &[u8] = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";

/// What came of their requests.
#[derive(Debug)]
pub struct Crowd {
    /// How long each answer took, from the connection on.
    pub times: Vec<Duration>,
    /// How long all took together.
    pub wall: Duration,
    /// How many requests had no whole answer.
    pub failed: u64,
}

impl Lab {
    /// So many requests for the status, by so many clients.
    #[track_caller]
    pub fn crowd(&self, clients: u64, requests: u64) -> Crowd {
        let (left, failed) = (AtomicU64::new(requests), AtomicU64::new(0));
        let started = Instant::now();
        let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let client = || {
            let mut times = Vec::new();
            while take().is_ok() {
                let started = Instant::now();
                match self.send(REQUEST) {
                    Some(reply) if reply.status == 200 && reply.body.ends_with("}\n") => {
                        times.push(started.elapsed());
                    }
                    _ => drop(failed.fetch_add(1, Ordering::Relaxed)),
                }
            }
            times
        };
        let times = thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
            let done = clients.into_iter().map(|client| client.join());
            done.flat_map(|times| times.expect("a client goes on"))
                .collect()
        });
        Crowd {
            times,
            wall: started.elapsed(),
            failed: failed.into_inner(),
        }
    }
}
