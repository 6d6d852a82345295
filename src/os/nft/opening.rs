//! The guard's own rule in native chains of others.

use std::io;

use super::batch::{Batch, CommitError};
use super::chains::ChainName;
use super::message::Proto;
use super::rules::{RawRule, all_of};
use super::socket::Socket;
use crate::guarantee::{Guarantee, TAG_PREFIX, task_credentials};
use crate::os::netlink::Error;
use crate::ruleset::native::ChainPlace;

/// How often it is tried again because another program committed meanwhile.
const ATTEMPTS: usize = 5;

/// Puts the rule that lets through what the agent is sent on top of a native chain, once, or with `add`
/// false takes it out.
pub fn open_native(place: &ChainPlace, add: bool) -> Result<(), Error> {
    let unknown = || io::Error::other(format!("{place} is in no table of IP"));
    let (family, table) = place.table.split_once(' ').ok_or_else(unknown)?;
    let proto = match family {
        "inet" => Proto::Inet,
        "ip" => Proto::Ipv4,
        _ => return Err(unknown().into()),
    };
    let chain = ChainName {
        proto,
        table: table.to_owned(),
        chain: place.chain.clone(),
    };
    let tag = format!("{TAG_PREFIX}{}", Guarantee::TaskCredentials);
    let mut socket = Socket::open()?;
    for _ in 0..ATTEMPTS {
        let (generation, rules) = socket.steady(|socket| all_of(socket, &chain))?;
        let mut batch = Batch::default();
        for rule in rules.iter().filter(|rule| rule.mentions(&tag)) {
            batch.delete(&chain, rule.handle);
        }
        if add {
            let (address, port) = task_credentials::AGENT_ENDPOINT;
            let rule = RawRule::accepting_translated(address, port, &tag);
            batch.replay(&chain, &rule, None);
        }
        if batch.is_empty() {
            return Ok(());
        }
        match batch.commit(&mut socket, Some(generation)) {
            Err(CommitError::Stale) => {}
            done => return Ok(done?),
        }
    }
    Err(Error::Stale)
}
