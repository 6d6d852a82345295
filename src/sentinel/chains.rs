//! One chain: compared with what should stand in it, and repaired.

use std::sync::mpsc;
use std::thread;

use super::orders::Guarded;
use crate::guarantee::TAG_PREFIX;
use crate::os::nft::{Batch, CommitError, Error, Held, Socket, exists, first_of};
use crate::plan::{Drift, DriftKind};

/// How often a repair is tried again because another program committed in between.
const ATTEMPTS: usize = 100;

/// How many sockets may wait to be closed.
const UNCLOSED: usize = 64;

/// What a look at a chain came to.
#[derive(Debug)]
pub enum Found {
    /// All is as it should be.
    Right,
    /// It was not, and is now.
    Repaired(Vec<Drift>),
    /// It is not, and was left so.
    Left,
    /// It is not, and could not be repaired.
    Failed(Vec<Drift>, String),
}

/// The sockets of the sentinel: what reads may be replaced, what writes is known by its port.
#[derive(Debug)]
pub struct Hand {
    reader: Socket,
    writer: Socket,
    /// The last generation that was heard of; 0 where none was.
    pub generation: u32,
    /// What was read from and is not needed any more.
    unfinished: Vec<Socket>,
    /// To the thread that closes them, once there is one.
    closer: Option<mpsc::SyncSender<Socket>>,
}

impl Hand {
    /// Opens them in this network namespace.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            reader: Socket::open()?,
            writer: Socket::open()?,
            generation: 0,
            unfinished: Vec::new(),
            closer: None,
        })
    }

    /// By which own commits are known.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.writer.port()
    }

    /// Looks at a chain and, if it may, repairs it.
    pub fn keep(&mut self, chain: &Guarded, may_repair: bool) -> Result<Found, Error> {
        let found = self.look(chain, may_repair);
        // To close one may wait for what was deleted just now: another thread does.
        for socket in self.unfinished.drain(..) {
            let closer = self.closer.get_or_insert_with(|| {
                let (closer, sockets) = mpsc::sync_channel(UNCLOSED);
                let thread = thread::Builder::new().name("close".to_owned());
                // Where nobody receives, or too many wait, the socket is closed here.
                drop(thread.spawn(move || sockets.into_iter().for_each(drop)));
                closer
            });
            drop(closer.try_send(socket));
        }
        found
    }

    fn look(&mut self, chain: &Guarded, may_repair: bool) -> Result<Found, Error> {
        let mut first = Vec::new();
        for _ in 0..ATTEMPTS {
            if self.generation == 0 {
                self.generation = self.reader.generation()?;
            }
            let mut held = match first_of(&mut self.reader, &chain.name) {
                Err(Error::Stale) => {
                    self.generation = 0;
                    continue;
                }
                held => held?,
            };
            let drifts = chain.compare(&held);
            self.unfinished.extend(held.rest.take());
            if drifts.is_empty() {
                return Ok(if first.is_empty() {
                    Found::Right
                } else {
                    // Another program was quicker.
                    Found::Repaired(first)
                });
            }
            if !may_repair {
                return Ok(Found::Left);
            }
            if first.is_empty() {
                first = drifts;
            }
            // Asked rather than tried: a batch that fails half way waits for an RCU grace period
            // (__nf_tables_abort() in net/netfilter/nf_tables_api.c).
            let gone = held.rules.is_empty() && !exists(&mut self.reader, &chain.name)?;
            let batch = chain.repair(&held, gone);
            match batch.commit(&mut self.writer, Some(self.generation)) {
                Ok(()) => {
                    // If another program commits at the same time the next batch is refused, and this
                    // number asked for.
                    self.generation = self.generation.wrapping_add(1).max(1);
                    return Ok(Found::Repaired(first));
                }
                Err(CommitError::Stale) => self.generation = 0,
                Err(error) => return Ok(Found::Failed(first, error.to_string())),
            }
        }
        if first.is_empty() {
            return Err(Error::Stale);
        }
        let why = "another program changed nf_tables during every attempt".to_owned();
        Ok(Found::Failed(first, why))
    }
}

impl Guarded {
    /// How the chain differs from one that begins with the rules, in order, once.
    fn compare(&self, held: &Held) -> Vec<Drift> {
        let right = |place: usize, content: &[u8]| {
            held.rules
                .get(place)
                .is_some_and(|rule| rule.content == content)
        };
        let in_place = self
            .rules
            .iter()
            .enumerate()
            .all(|(place, rule)| right(place, &rule.raw.content));
        let nothing_else = held.complete() && held.rules.len() == self.rules.len();
        if in_place && (nothing_else || !self.whole) {
            return Vec::new();
        }
        let drift = |(place, rule): (usize, &super::orders::Replay)| {
            let content = &rule.raw.content;
            if right(place, content) && !self.whole {
                return None;
            }
            let there = held.rules.iter().any(|held| held.content == *content);
            Some(Drift {
                guarantee: rule.guarantee,
                kind: if there {
                    DriftKind::Displaced
                } else {
                    DriftKind::Missing
                },
                object: rule.object.clone(),
            })
        };
        self.rules.iter().enumerate().filter_map(drift).collect()
    }

    /// Takes out what bears the guard's tag, wherever it stands, and puts the rules on top.
    fn repair(&self, held: &Held, make_chain: bool) -> Batch {
        let mut batch = Batch::default();
        if make_chain {
            batch.table(self.name.proto, &self.name.table, 0);
            batch.chain(&self.name, Some(&self.hook));
        } else if self.whole {
            batch.flush(&self.name);
        } else {
            for rule in held.rules.iter().filter(|rule| rule.mentions(TAG_PREFIX)) {
                batch.delete(&self.name, rule.handle);
            }
        }
        for rule in self.rules.iter().rev() {
            batch.replay(&self.name, &rule.raw, rule.protocol);
        }
        batch
    }
}
