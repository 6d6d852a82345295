//! Containers that ask for IMDS all the time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Lab;
use super::imds::{IMDS, IMDS6};
use super::namespace::Namespace;

/// Between two packets of a container: short against every window, and leaves the machine to others.
const PACE: Duration = Duration::from_micros(300);

/// Every container on a thread of its own, by IPv4 and IPv6 in turns, until dropped.
///
/// Single packets, since a request whose first packet is dropped would be silent for a second. A
/// packet leaves from a port of its own: to connection tracking each is the first of its kind.
#[derive(Debug)]
pub struct Asking {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Asking {
    /// Begins.
    pub fn start(lab: &Lab) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let ask = |container: &Namespace| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            container.thread(move || {
                while !stop.load(Ordering::Relaxed) {
                    for imds in [IMDS, IMDS6] {
                        asked.fetch_add(u64::from(packet(imds)), Ordering::Relaxed);
                        thread::sleep(PACE);
                    }
                }
            })
        };
        let threads = lab.containers().map(ask).into();
        Self {
            stop,
            asked,
            threads,
        }
    }

    /// How many packets were sent.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends one packet. Whether the network would take it is not the container's business.
fn packet(imds: IpAddr) -> bool {
    let any: IpAddr = match imds {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sent = UdpSocket::bind((any, 0)).and_then(|s| s.send_to(b"lab", SocketAddr::new(imds, 80)));
    sent.is_ok()
}
