//! How many packets the rules of iptables-nft have met: it gives every rule a counter.

use std::io;

use netlink_packet_netfilter::nftables::{NfTablesMessage, RuleAttribute, RuleMessage};

use super::foreign::Rule;
use super::proto;
use super::socket::Socket;
use crate::ruleset::Family;

/// The packets that those rules of a chain have met that contain `tag`, in their order; `None` for one
/// without a counter. Nothing where there is no such chain.
///
/// The tag is looked for in the rule's bytes: iptables 1.8 keeps a comment in an xt match, later
/// versions may keep it in the rule's user data.
pub fn packets(
    family: Family,
    table: &str,
    chain: &str,
    tag: &str,
) -> io::Result<Vec<Option<u64>>> {
    let attributes = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
    ];
    let get = NfTablesMessage::GetRule(RuleMessage { attributes });
    let rules = match Socket::open()?.dump(proto(family), get) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        rules => rules?,
    };
    let tag = tag.as_bytes();
    rules
        .iter()
        .map(|rule| rule.attributes())
        .filter(|bytes| bytes.windows(tag.len()).any(|window| window == tag))
        .map(|bytes| {
            Rule::read(bytes)
                .map(|rule| rule.packets())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
        })
        .collect()
}
