//! Packets from a container to the metadata service at full rate, each with the moment it was sent;
//! and what of them arrives.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use crate::machine::Cores;
use lab::Lab;
use lab::imds::IMDS;

const TO: SocketAddr = SocketAddr::new(IMDS, 9);

/// The receiver reads only when asked, so as to take no time from what is measured meanwhile: what
/// arrives between two readings must find room.
const ROOM: usize = 64 << 20;

/// Longer than the slowest defence takes. A defence that is not done then is not counted on.
const LIMIT: Duration = Duration::from_secs(30);

/// What got through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leak {
    pub(crate) packets: u64,
    first: Duration,
    last: Duration,
}

impl Leak {
    /// From the first leaked packet's sending to one `interval` after the last one's; zero where
    /// none leaked.
    pub(crate) fn window(&self, interval: Duration) -> Duration {
        match self.packets {
            0 => Duration::ZERO,
            _ => self.last.saturating_sub(self.first) + interval,
        }
    }

    /// One `interval` after the last leaked packet's sending.
    pub(crate) fn until(&self, interval: Duration) -> Duration {
        self.last + interval
    }

    fn add(&mut self, sent: Duration) {
        if self.packets == 0 {
            self.first = sent;
        }
        self.packets += 1;
        self.last = sent;
    }

    fn join(&mut self, later: Self) {
        if self.packets == 0 {
            self.first = later.first;
        }
        if later.packets > 0 {
            self.last = later.last;
        }
        self.packets += later.packets;
    }
}

/// A sender that is running, and its receiver.
#[derive(Debug)]
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: Option<JoinHandle<()>>,
    receiver: UdpSocket,
    start: Instant,
}

impl Flow {
    /// Starts sending from the container on docker0, on cores of its own.
    pub(crate) fn start(lab: &Lab, cores: &Cores) -> io::Result<Self> {
        let receiver = lab.imds.run(|| UdpSocket::bind(TO))?;
        receiver.set_nonblocking(true)?;
        setsockopt(&receiver, sockopt::RcvBufForce, &ROOM)?;
        let (stop, sent) = (Arc::default(), Arc::default());
        let start = Instant::now();
        let sender = lab.docker.thread({
            let (stop, sent, cores) = (Arc::clone(&stop), Arc::clone(&sent), cores.clone());
            move || {
                cores.bind();
                send(start, &stop, &sent).expect("a container can send");
            }
        });
        Ok(Self {
            stop,
            sent,
            sender: Some(sender),
            receiver,
            start,
        })
    }

    /// What has arrived since the last call.
    fn drain(&self) -> Leak {
        let mut leak = Leak::default();
        let mut stamp = [0; 8];
        while let Ok(8) = self.receiver.recv(&mut stamp) {
            leak.add(Duration::from_nanos(u64::from_ne_bytes(stamp)));
        }
        leak
    }

    /// Forgets what has arrived; the moment on the sender's clock.
    pub(crate) fn forget(&self) -> Duration {
        self.drain();
        self.start.elapsed()
    }

    /// Waits until nothing has arrived for `quiet`: what did before that, and whether there was an
    /// end of it within [`LIMIT`].
    pub(crate) fn settle(&self, quiet: Duration) -> (Leak, bool) {
        let deadline = Instant::now() + LIMIT;
        let mut leak = Leak::default();
        let mut silent_since = Instant::now();
        while silent_since.elapsed() < quiet {
            std::thread::sleep(Duration::from_millis(2));
            let more = self.drain();
            if more.packets > 0 {
                leak.join(more);
                silent_since = Instant::now();
                if silent_since > deadline {
                    return (leak, false);
                }
            }
        }
        (leak, true)
    }

    /// Does `tampering` so many times and tells what each let through; fewer where the way stays
    /// open, which the last one then shows.
    pub(crate) fn repeat(
        &self,
        runs: usize,
        quiet: Duration,
        mut tampering: impl FnMut(usize),
    ) -> Vec<Leak> {
        let mut leaks = Vec::new();
        let (before, mut closed) = self.settle(quiet);
        if !closed {
            return vec![before];
        }
        while closed && leaks.len() < runs {
            tampering(leaks.len());
            let leak;
            (leak, closed) = self.settle(quiet);
            leaks.push(leak);
        }
        leaks
    }

    /// The mean time between two packets so far.
    pub(crate) fn interval(&self) -> Duration {
        let sent = self.sent.load(Ordering::Relaxed).max(1);
        self.start.elapsed().div_f64(sent as f64)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

fn send(start: Instant, stop: &AtomicBool, sent: &AtomicU64) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(TO)?;
    while !stop.load(Ordering::Relaxed) {
        // 64 bits of nanoseconds last for centuries.
        let stamp = start.elapsed().as_nanos() as u64;
        // A refusal is an ICMP error that came back to a packet before.
        if socket.send(&stamp.to_ne_bytes()).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
