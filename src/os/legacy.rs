//! What iptables-legacy's tables hold, asked of the kernel without running a program.
//!
//! The structures are those of linux/netfilter_ipv4/ip_tables.h and
//! linux/netfilter_ipv6/ip6_tables.h. A table comes as one block: entries one after the other, each
//! with its own length; a built-in chain is the part from its hook's entry to its underflow, which
//! is the policy.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::prove::Hook;
use crate::ruleset::Family;

/// IPT_SO_GET_INFO and IP6T_SO_GET_INFO.
const GET_INFO: libc::c_int = 64;
/// IPT_SO_GET_ENTRIES and IP6T_SO_GET_ENTRIES.
const GET_ENTRIES: libc::c_int = 65;

/// XT_TABLE_MAXNAMELEN: a name with the byte that ends it.
const NAME: usize = 32;

/// The length of `struct ipt_getinfo`: name, valid hooks, five entry points, five underflows, number
/// of entries, size.
const INFO: usize = NAME + 4 + 5 * 4 + 5 * 4 + 4 + 4;

/// Where the entries begin in `struct ipt_get_entries`: name and size, aligned to eight for the
/// counters.
const ENTRIES: usize = 40;

/// How often a table is read again because it was changed meanwhile.
const ATTEMPTS: usize = 20;

/// The names of the tables that exist. Asking for another one would make it.
#[must_use]
pub fn tables(family: Family) -> Vec<String> {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Absent where the kernel has no xtables.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The entry of a rule: what differs between the families.
struct Layout {
    level: libc::c_int,
    /// The length of `struct ipt_entry` (112) or `struct ip6t_entry` (168), after which matches and
    /// target stand.
    length: usize,
    /// Where in it `next_offset` stands, the length of the whole rule.
    next: usize,
    /// Where `comefrom` stands: the hooks from which packets can get to this rule, one bit each
    /// (mark_source_chains(), net/ipv4/netfilter/ip_tables.c).
    comefrom: usize,
    /// Where the counters stand, 16 bytes.
    counters: usize,
}

const V4: Layout = Layout {
    level: libc::SOL_IP,
    length: 112,
    next: 90,
    comefrom: 92,
    counters: 96,
};

const V6: Layout = Layout {
    level: libc::SOL_IPV6,
    length: 168,
    next: 142,
    comefrom: 144,
    counters: 152,
};

/// The tables of one family in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Tables {
    socket: OwnedFd,
    family: Family,
    /// Those seen to exist. A table goes only with its module or its namespace.
    known: BTreeSet<String>,
    buffer: Vec<u8>,
}

/// Where a chain stands in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    begin: usize,
    policy: usize,
    size: usize,
}

impl Tables {
    /// Opens them in the calling thread's network namespace.
    pub fn open(family: Family) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        // Any socket of the family will do ("you don't have to use a raw socket for this",
        // ip_tables.h): this one needs no CAP_NET_RAW.
        let socket = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self {
            socket,
            family,
            known: BTreeSet::new(),
            buffer: Vec::new(),
        })
    }

    /// The first rules of a built-in chain, at most `limit`, without its policy; `None` where the
    /// table does not exist. Called by a thread of the same network namespace.
    ///
    /// What changes by itself is zeroed, so that equal rules are equal bytes. A jump to a chain of
    /// somebody's own holds that chain's place in the table, and changes when rules before it do.
    /// The cost is that of copying the whole table.
    pub fn chain(
        &mut self,
        table: &str,
        hook: Hook,
        limit: usize,
    ) -> io::Result<Option<Vec<Vec<u8>>>> {
        if !self.known.contains(table) {
            let existing = tables(self.family);
            if !existing.iter().any(|name| name == table) {
                return Ok(None);
            }
            self.known.extend(existing);
        }
        let named = |error: io::Error| {
            let hint = match error.raw_os_error() {
                Some(libc::EPERM) => " (needs CAP_NET_ADMIN)",
                _ => "",
            };
            let family = self.family;
            let message = format!("read {family} {table} of iptables-legacy: {error}{hint}");
            io::Error::new(error.kind(), message)
        };
        let mut place = locate(&self.socket, self.family, table, hook).map_err(named)?;
        for _ in 0..ATTEMPTS {
            let read = fetch(&self.socket, self.family, table, place, &mut self.buffer);
            // Another table of the same size may be there by now, with the chain at another place.
            let now = locate(&self.socket, self.family, table, hook).map_err(named)?;
            match read {
                Ok(()) if now == place => {
                    let found = rules(self.family, &self.buffer, hook, place, limit);
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(error) => return Err(named(error)),
            }
            place = now;
        }
        let message = format!("it changed during each of {ATTEMPTS} readings");
        Err(named(io::Error::other(message)))
    }
}

const fn layout(family: Family) -> Layout {
    match family {
        Family::V4 => V4,
        Family::V6 => V6,
    }
}

fn locate(socket: &OwnedFd, family: Family, table: &str, hook: Hook) -> io::Result<Place> {
    let mut info = [0; INFO];
    write_name(&mut info, table)?;
    getsockopt(socket, family, GET_INFO, &mut info)?;
    let hook = hook.number() as usize;
    let field = |at: usize| number_at(&info, at).unwrap_or_default();
    if field(NAME) & (1 << hook) == 0 {
        let message = "it has no chain of that name";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(Place {
        begin: field(NAME + 4 + 4 * hook) as usize,
        policy: field(NAME + 24 + 4 * hook) as usize,
        size: field(NAME + 48) as usize,
    })
}

/// Fills the buffer with `struct ipt_get_entries`; EAGAIN where the table has another size by now.
fn fetch(
    socket: &OwnedFd,
    family: Family,
    table: &str,
    place: Place,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    // All zero before: the kernel does not write into padding.
    buffer.clear();
    buffer.resize(ENTRIES + place.size, 0);
    write_name(buffer, table)?;
    let size = u32::try_from(place.size).map_err(io::Error::other)?;
    if let Some(field) = buffer.get_mut(NAME..NAME + 4) {
        field.copy_from_slice(&size.to_ne_bytes());
    }
    getsockopt(socket, family, GET_ENTRIES, buffer)
}

/// Cuts the chain out of the table. `None` where it does not fit: the table was replaced after the
/// chain was located, and maybe put back before it was located again.
fn rules(
    family: Family,
    buffer: &[u8],
    hook: Hook,
    place: Place,
    limit: usize,
) -> Option<Vec<Vec<u8>>> {
    let layout = layout(family);
    let entries = buffer.get(ENTRIES..)?;
    let mut rules = Vec::new();
    let (mut begun, mut ended) = (false, false);
    let mut at = 0;
    loop {
        let rest = entries.get(at..)?;
        let next = rest.get(layout.next..)?.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*next)).max(layout.length);
        let entry = rest.get(..length)?;
        // The hooks that lead here; none where a rule before lets nothing through.
        let comefrom = number_at(entry, layout.comefrom)?;
        let from_here = comefrom & (1 << hook.number()) != 0;
        begun |= at == place.begin;
        if ended {
            return (!from_here).then_some(rules);
        }
        if begun && comefrom != 0 && !from_here {
            return None;
        }
        ended = begun && at == place.policy;
        if begun && !ended && rules.len() < limit {
            let mut rule = entry.to_vec();
            for (at, length) in [(layout.comefrom, 4), (layout.counters, 16)] {
                rule.get_mut(at..at + length)?.fill(0);
            }
            rules.push(rule);
        }
        at += length;
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn write_name(buffer: &mut [u8], table: &str) -> io::Result<()> {
    if table.len() >= NAME {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    if let Some(field) = buffer.get_mut(..table.len()) {
        field.copy_from_slice(table.as_bytes());
    }
    Ok(())
}

fn getsockopt(
    socket: &OwnedFd,
    family: Family,
    option: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the buffer is plain bytes, exclusively ours over the call, and `length` is its length,
    // beyond which the kernel does not write; it has no demands on alignment (copy_to_user).
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            layout(family).level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
