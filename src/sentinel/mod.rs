//! The sentinel: a thread of its own that waits for a change and restores what it displaced,
//! before it matters.
//!
//! No runtime, no process is started for nf_tables, next to nothing is allocated, and no other thread is
//! waited for: the slow side may be stalled or dead. The thread sleeps until the kernel tells of a
//! commit to nf_tables, a write to a sysctl, a change of an interface, or a use of
//! iptables-legacy's lock. Then it looks at its own chains only, compares what stands there with
//! what should, byte by byte, and sends one batch that the kernel refuses if anybody committed in
//! between. What should stand there comes from the slow side ([`orders`]), which installed it by
//! iptables, proved it, and read it back; nothing is decided here.

pub mod backoff;
pub mod chains;
mod edge;
pub mod orders;
mod report;
mod watcher;

use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::orders::native_chains;
pub use self::orders::{Order, Orders};
pub use self::report::Report;
use self::watcher::Watcher;
use crate::guarantee::NativeRule;
use crate::os::nft::{Error, Socket};
use crate::os::poll::Waker;
use crate::seal::edge::SharedEdge;

/// How many orders may wait. The slow side waits where the sentinel does not take them.
const ORDERS: usize = 16;

/// The running sentinel, as the slow side has it. It ends when this is dropped.
#[derive(Debug)]
pub struct Sentinel {
    orders: mpsc::SyncSender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Sentinel {
    /// Starts it in the calling thread's network namespace. It keeps nothing before its first orders, and
    /// of the edge what a pass has brought about.
    /// `tell` must not wait for anything.
    pub fn start(tell: impl Fn(Report) + Send + 'static, edge: SharedEdge) -> io::Result<Self> {
        let (orders, inbox) = mpsc::sync_channel(ORDERS);
        let waker = Waker::new()?;
        let watcher = Watcher::new(inbox, waker.clone(), Box::new(tell), edge)?;
        let thread = std::thread::Builder::new()
            .name("sentinel".into())
            .spawn(move || watcher.run())?;
        Ok(Self {
            orders,
            waker,
            thread: Some(thread),
        })
    }

    /// Gives it new orders.
    pub fn keep(&self, orders: Orders) {
        self.order(Order::Keep(Box::new(orders)));
    }

    /// Makes it leave the visible layer alone until new orders come, but no longer than `limit`.
    pub fn hold(&self, limit: Duration) {
        self.order(Order::Hold(Instant::now() + limit));
    }

    /// Makes it leave the seal's tables alone until [`Sentinel::keep_native`] or new orders, but no
    /// longer than `limit`.
    pub fn hold_native(&self, limit: Duration) {
        self.order(Order::HoldNative(Instant::now() + limit));
    }

    /// After a change of the seal, makes it guard the chains of the seal that anybody may change as
    /// they are now. Where they do not hold what is wanted it goes on as before.
    pub fn keep_native(&self, wanted: &[NativeRule]) {
        let read = |mut socket| native_chains(&mut socket, wanted);
        let chains = Socket::open().map_err(Error::from).and_then(read);
        if let Ok(chains) = chains {
            self.order(Order::KeepNative(chains));
        }
    }

    /// Makes it go on with the orders that it has.
    pub fn resume(&self) {
        self.order(Order::Resume);
    }

    /// Whether it still runs.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    fn order(&self, order: Order) {
        // The other end is gone only with its thread, which `lives` tells.
        let _ended = self.orders.send(order);
        self.waker.wake();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.order(Order::Leave);
        if let Some(thread) = self.thread.take() {
            // A panic in it is on standard error.
            let _panicked = thread.join();
        }
    }
}
