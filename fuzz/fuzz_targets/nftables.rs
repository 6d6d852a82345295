//! Whatever nf_tables answers or tells, each reader makes values or an error of it, and what was read can
//! be compared, rewritten and decoded.
#![no_main]

use std::collections::BTreeSet;

use ecs_netguard::os::nft::drops::Drops;
use ecs_netguard::os::nft::{
    Batch, ChainName, Commits, Error, Inventory, Moment, Proto, RawRule, Socket, Table,
    delete_tagged, exists, first_of, generation, open_native, packets_of, wake,
};
use ecs_netguard::os::script;
use ecs_netguard::ruleset::Family;
use ecs_netguard::ruleset::native::ChainPlace;
use libfuzzer_sys::fuzz_target;

const TAG: &str = "ecs-netguard: ";

// The first byte chooses the reader, so that an input is about one of them.
fuzz_target!(|bytes: &[u8]| {
    let Some((reader, bytes)) = bytes.split_first() else {
        return;
    };
    script::answer(bytes);
    let _ = match reader % 8 {
        0 => inventory(),
        1 => table(),
        2 => chain(),
        3 => drops(),
        4 => commits(bytes),
        5 => batch(),
        6 => others(),
        _ => moment(),
    };
});

/// The tables of others, and what they mean for packets of each family.
fn inventory() -> Result<(), Error> {
    let inventory = Inventory::take()?;
    for family in [Family::V4, Family::V6] {
        let tables = inventory.native.decode(family);
        assert!(tables.len() <= inventory.native.tables.len());
    }
    Ok(())
}

fn table() -> Result<(), Error> {
    let read = Table::read(&mut Socket::open()?, Proto::Inet, "ecs_netguard")?;
    for chain in read.iter().flat_map(|table| &table.chains) {
        chain.rules.iter().for_each(rule);
    }
    Ok(())
}

fn forward() -> ChainName {
    ChainName {
        proto: Proto::Ipv4,
        table: "filter".to_owned(),
        chain: "FORWARD".to_owned(),
    }
}

fn chain() -> Result<(), Error> {
    let held = first_of(&mut Socket::open()?, &forward())?;
    held.rules.iter().for_each(rule);
    packets_of(&forward(), TAG)?;
    Ok(())
}

/// What the sentinel and the seal do with a rule that was read.
fn rule(read: &RawRule) {
    let _ = (read.mentions(TAG), read.cgroup(), read.marks());
    let counting = read.counting(7);
    assert!([0, 7, read.packets()].contains(&counting.packets()));
    if read.is(read) {
        assert!(read.was(read) && read.is(&counting));
    }
    let lightened = read.lightened();
    let none_left = |rule: RawRule| rule.lightened().is_none();
    assert!(lightened.is_none_or(none_left));
}

fn drops() -> Result<(), Error> {
    let mut drops = Drops::open(TAG)?;
    drops.read()?;
    Ok(())
}

/// The same bytes for both ways to hear of commits.
fn commits(bytes: &[u8]) -> Result<(), Error> {
    let mut commits = Commits::listen()?;
    script::notify(bytes);
    assert!(commits.drain()?.commits.len() <= bytes.len());
    script::notify(bytes);
    commits.drain_everywhere()?;
    Ok(())
}

fn batch() -> Result<(), Error> {
    let mut socket = Socket::open()?;
    let mut batch = Batch::default();
    batch.flush(&forward());
    batch.delete(&forward(), 7);
    batch.commit(&mut socket, Some(7))?;
    Ok(())
}

/// Everything that reads, decides and commits.
fn others() -> Result<(), Error> {
    let mut socket = Socket::open()?;
    exists(&mut socket, &forward())?;
    let place = ChainPlace {
        table: "inet filter".to_owned(),
        chain: "input".to_owned(),
    };
    open_native(&place, true)?;
    open_native(&place, false)?;
    wake(&BTreeSet::from([(Family::V4, "filter")]))?;
    delete_tagged(&mut socket, Family::V4, TAG)?;
    Ok(())
}

fn moment() -> Result<(), Error> {
    generation()?;
    Moment::read()?;
    Ok(())
}
