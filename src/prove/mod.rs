//! Does what the rules hold make a claim true? A symbolic walk answers.
//!
//! # Method
//!
//! A claim speaks of a *class* of packets. The class is walked through the hooks in the kernel's
//! order as one exact set (a binary decision diagram over the bits of a packet): a match cuts
//! it in two, a jump takes a part of it on a detour, NAT and MARK rewrite it. What comes out at an
//! end is exactly the packets that can end there.
//!
//! Two kinds of things cannot be computed, and each use of one becomes a bit of its own in the set,
//! a *question* to be answered later by the kernel:
//!
//! * **either**: the answer depends on the moment, the rate or chance (`limit`, `statistic`, …).
//!   Both answers do come.
//! * **unknown**: the match is not understood. One of the answers may never come.
//!
//! From that the verdict follows. Let *bad* be the packets that end where the claim says they do not
//! (a block: let through; a delivery: anywhere else):
//!
//! * `held`: bad is empty, whatever the answers are.
//! * `violated`: there is a packet, and answers of the first kind, such that it ends badly **for
//!   every** answer of the second. So a match that is not understood does not hide a hole that is
//!   there whatever it says. The packet is walked once more, alone, and must end badly again:
//!   that walk is the counterexample.
//! * `undecided`: anything else; with a packet, and the match it hangs on.
//!
//! Where NAT has a choice (a range, one of several addresses, a port) the kernel takes one by rules of
//! its own. All are followed; a packet that some choice would spare is no counterexample.
//!
//! A *target* that is not understood may do anything: the packets it gets are from then on both
//! accepted and going on, with any address, port, mark and state, and *tainted*: they still have to
//! be dropped for a block to hold, and never show a claim to be violated.
//!
//! # What each match counts as
//!
//! | match | counts as |
//! | --- | --- |
//! | `-i` `-o` `-s` `-d` `-p` `-f`, iprange, tcp/udp/sctp/dccp ports, multiport, `--tcp-flags`, `--syn`, icmp types, comment | exact |
//! | `--ctstate`, `--state` | exact for the packet's state: see below |
//! | `--ctdir`, `--ctproto`, `--ctorigsrc` … `--ctrepldstport`, `--ctstatus` | exact for a first packet, but for CONFIRMED, and for a later one of a connection of which NAT made nothing; unknown for an ICMP error about one. ASSURED and `--ctexpire` are unknown |
//! | mark, connmark | exact: packets from outside begin with mark 0, connections too; MARK and CONNMARK are computed |
//! | `addrtype --src-type/--dst-type` LOCAL, UNICAST, MULTICAST, BROADCAST | exact, from the addresses and routes in [`HostView`] and the loopback's; of IPv6 one type alone |
//! | `pkttype` unicast, broadcast, multicast | exact in FORWARD, OUTPUT and POSTROUTING, unknown elsewhere |
//! | `physdev --physdev-is-bridged` | exact: no packet that IP forwards is |
//! | length, ttl and hl, tos and dscp, mac `--mac-source` | exact: a sender chooses them. Forwarding takes one off the TTL before FORWARD. Examples have at most 1,500 bytes; a delivery is claimed of what Linux sends by itself (TTL 64, TOS 0, a SYN of at most 120 bytes) |
//! | owner `--uid-owner`, `--gid-owner` | exact over all users: some process of each exists |
//! | cgroup `--path` | exact for packets of a cgroup at or below the path, or beside it, where the rule's comment notes which cgroup it was made for: one deleted and made again is another, and the rule matches no process. Of packets that came in, never true before INPUT. Else unknown |
//! | limit, hashlimit, statistic (0 < p < 1, every > 1), time (with hours or weekdays) | either: a `limit` ACCEPT above a DROP lets some packet through, and so does a `limit` DROP above an ACCEPT |
//! | recent `--set` | applies always |
//! | recent `--rcheck` `--update` `--remove` | does not apply to some packet for certain; whether it ever applies is unknown, since the list may stay empty. With `!` the other way round |
//! | rt `--rt-type` | likewise: an ordinary packet has no IPv6 routing header |
//! | set `--match-set` | exact, where [`HostView::ipsets`] knows what is in the set and in those it lists; else unknown |
//! | policy `--dir in --pol none` | certainly applies to some packets: those that no IPsec carried. With `ipsec` it certainly does not |
//! | physdev otherwise, string, u32, bpf, anything else, any option or mask not listed | unknown |
//!
//! Conditions of native nftables: see [`crate::ruleset::native`].
//!
//! Targets: ACCEPT, DROP, REJECT (a drop), RETURN, jumps and gotos, DNAT, REDIRECT, SNAT, NETMAP, MARK,
//! CONNMARK, NOTRACK are computed; LOG, NFLOG, TRACE, TCPMSS, TOS, DSCP, CLASSIFY, CHECKSUM, AUDIT
//! pass packets on, tainted where a rule asks for what they change; MASQUERADE gives one of this host's addresses as source, or any that is not
//! loopback where those are not known. Everything else is unknown: some targets may at most change the
//! packet ([`crate::ruleset::Reach`]), some also send copies of it, which count as let through, and of
//! others packets to anywhere may come.
//!
//! # Order
//!
//! Base chains are walked in the order of their priorities, native ones and the tables of iptables.
//! NAT is one station, whatever the priorities of its chains, and is asked for the first packet of a
//! connection where connection tracking works; whether it does is an open question unless some rule
//! needs it. Of stations with one priority every order is walked where one of them changes what another
//! may ask for. What stands at a bridge or an interface comes before IP's hooks or, with br_netfilter,
//! behind them.
//!
//! # Blocks
//!
//! A block speaks of packets that would *leave for* an address. Those are, first, the packets
//! addressed to it, walked from PREROUTING on; one that a DNAT turns elsewhere no longer leaves for
//! it and is no concern of the claim. Second (`turned`), packets addressed elsewhere that something
//! turns to it. A drop in raw PREROUTING proves the first and says nothing of the second, so these
//! are a walk of their own: if NAT could turn packets there, then every packet with that destination
//! that enters FORWARD in the state a DNAT leaves must be dropped from there on. Where that fails, or
//! something stands on the way that may turn packets anywhere, they are followed exactly, from any
//! destination, to see whether one does come. Third, packets of established connections whose
//! destination NAT turns without asking a chain again, or whose source was turned before, which is
//! undone on the way back: of these only what answers a connection that the rules let begin at the
//! destination and give another source. Where that is let through, an example of two packets is sought
//! ([`Packet::answers`]): one that a container sends to itself in the name of the destination, and gets
//! through with another source whatever NAT takes, and what answers it.
//!
//! A block's class also has odd packets: INVALID ones (which NAT does not see), later fragments
//! (which have no ports; unless a rule makes conntrack work, which reassembles), IPv6 headers that
//! lead to no protocol, sources that routing would refuse, packets without a socket or marked by
//! their sender, packets of connections that were there before ([`Moment::Any`]). A block is proved
//! for them too. If only such a packet gets through, it is a violation where the packet is one that
//! can be sent for certain: a malformed one, or one of a connection that was there before these rules
//! and of which NAT made nothing. Else the verdict is `undecided` and says which.
//!
//! # Deliveries
//!
//! A delivery is claimed of ordinary first packets: for TCP a SYN, from a source that is neither this
//! host's nor loopback. Every one of them has to reach INPUT's end with the address and port the
//! claim names. Packets of this host pass OUTPUT with the interface their *original* destination
//! is routed by (the kernel keeps it in `nf_hook_state`), leave by lo and come in by lo.
//!
//! # Limits
//!
//! * Out of scope: `rp_filter`, `ip_forward`, policy routing, IPVS, bridges that bypass iptables,
//!   `accept_local`, XDP and tc. REDIRECT in PREROUTING needs the addresses of the interface.
//! * Packets may leave by any interface, since a rule of policy routing may send some there; none that leaves by
//!   another one than the host's route says is an example.
//! * Native chains of bridges are walked as if the bridge's interface were not known.
//! * nat POSTROUTING is not walked for packets that are forwarded, unless it may drop or something
//!   behind it may ask.
//! * The text can lie where iptables does: see [`crate::ruleset`].
//! * Work is bounded (rules visited, questions, size of sets); past a bound the verdict is
//!   `undecided`.

mod addresses;
mod bdd;
mod cgroup;
mod chains;
mod claim;
mod class;
mod condition;
mod connection;
mod engine;
mod example;
mod follow;
mod header;
mod hook;
mod layout;
mod native;
mod native_condition;
mod order;
mod packet;
mod path;
mod prover;
mod replies;
mod rewrite;
mod routing;
mod start;
mod stations;
mod turning;
mod undone;
mod walk;

#[cfg(test)]
mod tests;

pub use claim::{Claim, Expect};
pub use class::{Addrs, Destination, HostView, Iface, Ifaces, Moment, Odd, Origin, PacketClass};
pub use hook::Hook;
pub use packet::Packet;
pub use prover::Prover;
pub use walk::{End, Outcome, Step, Walk};
