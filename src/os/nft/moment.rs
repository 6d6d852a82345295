//! Whether nf_tables holds what it held before.

use std::collections::BTreeSet;

use super::chains::ChainName;
use super::message::{Proto, Verb, number, string, table};
use super::socket::Socket;
use super::tables::{Chain, chains};
use crate::os::netlink::Error;

/// What tells the contents of nf_tables from earlier and later ones: equal values mean equal tables.
///
/// A generation alone does not. It counts commits, and without one a table goes with the socket that owns
/// it, and a chain of the family netdev with its interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// The number of the last commit.
    pub generation: u32,
    /// The tables that have an owner: family, name, and the owner's port.
    owned: BTreeSet<(u8, String, u32)>,
    /// The chains of the family netdev, each with the interface at which it is.
    at_interfaces: AtInterfaces,
}

type AtInterfaces = BTreeSet<(ChainName, Option<Vec<u8>>)>;

impl Moment {
    /// That of the calling thread's network namespace.
    pub fn read() -> Result<Self, Error> {
        Self::with(&mut Socket::open()?, |_| Ok(())).map(|(moment, ())| moment)
    }

    /// That of the socket's network namespace, but for the tables that have an owner: enough where tables without one
    /// are in question. A commit between its two requests makes the next one different.
    pub fn without_owners(socket: &mut Socket) -> Result<Self, Error> {
        Ok(Self {
            generation: socket.generation()?,
            owned: BTreeSet::new(),
            at_interfaces: at_interfaces(socket)?,
        })
    }

    /// That at which `read` succeeds with no change meanwhile.
    pub(super) fn with<T>(
        socket: &mut Socket,
        mut read: impl FnMut(&mut Socket) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let both = |socket: &mut Socket| Ok((Self::once(socket)?, read(socket)?));
        let (generation, (moment, value)) = socket.steady(both)?;
        let moment = Self {
            generation,
            ..moment
        };
        Ok((moment, value))
    }

    fn once(socket: &mut Socket) -> Result<Self, Error> {
        let mut owned = BTreeSet::new();
        socket.dump(Verb::GetTable, 0, &[], |message| {
            let attributes = message.attributes();
            if let Some(owner) = number(attributes, table::OWNED_BY) {
                owned.insert((message.family(), string(attributes, table::NAME), owner));
            }
            Ok(())
        })?;
        Ok(Self {
            generation: 0,
            owned,
            at_interfaces: at_interfaces(socket)?,
        })
    }
}

fn at_interfaces(socket: &mut Socket) -> Result<AtInterfaces, Error> {
    let chains = chains(socket, Some(Proto::Netdev))?.into_iter();
    let device = |chain: Chain| chain.base.and_then(|base| base.device);
    Ok(chains.map(|(name, chain)| (name, device(chain))).collect())
}
