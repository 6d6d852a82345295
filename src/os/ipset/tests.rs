//! The reader by value: what the kernel's attributes say of a set.

use super::*;

/// A set of a type, with what it was made with and its entries.
fn set(kind: &str, with: Attributes, entries: &[&Attributes]) -> Option<Ipset> {
    let name = [kind.as_bytes(), &[0]].concat();
    let first = Attributes::default()
        .put(set::TYPE, &name)
        .nest(set::CREATED_WITH, &with);
    let mut reader = Reader::default();
    // The kernel sends the entries of a large set in several messages, and the rest once.
    reader.read(&first.0);
    for some in entries.chunks(100) {
        let some = some.iter();
        let some = some.fold(Attributes::default(), |all, entry| all.nest(7, entry));
        reader.read(&Attributes::default().nest(set::ENTRIES, &some).0);
    }
    reader.set()
}

fn none() -> Attributes {
    Attributes::default()
}

fn v4(attributes: Attributes, number: u16, address: [u8; 4]) -> Attributes {
    let inner = Attributes::default().put(entry::IPV4 | 0x4000, &address);
    attributes.nest(number, &inner)
}

fn nets(set: Option<Ipset>) -> Vec<(String, bool)> {
    let Some(Ipset::Entries(entries)) = set else {
        panic!("{set:?}")
    };
    let text = |entry: &Entry| match entry.parts.as_slice() {
        [Part::Net(net)] => (net.to_string(), entry.except),
        other => panic!("{other:?}"),
    };
    entries.iter().map(text).collect()
}

#[test]
fn addresses_and_networks() {
    let one = v4(none(), entry::IP, [10, 0, 0, 1]);
    let net = one.clone().put(entry::CIDR, &[24]);
    let flags = |flags: u32| net.clone().put(entry::FLAGS, &flags.to_be_bytes());
    let all = [&one, &net, &flags(4), &flags(8)];
    let texts = ["10.0.0.1", "10.0.0.0/24", "10.0.0.0/24", "10.0.0.0/24"];
    let wanted = texts.iter().zip([false, false, true, false]);
    let wanted: Vec<_> = wanted
        .map(|(text, except)| ((*text).to_owned(), except))
        .collect();
    assert_eq!(nets(set("hash:net", none(), &all)), wanted);
    let masked = none().put(set::NETMASK, &[16]);
    assert_eq!(
        nets(set("hash:ip", masked.clone(), &[&one])),
        [("10.0.0.0/16".to_owned(), false)]
    );
    assert_eq!(
        nets(set("bitmap:ip", masked, &[&one])),
        [("10.0.0.0/16".to_owned(), false)]
    );
    assert_eq!(
        set("hash:ip", none(), &[]),
        Some(Ipset::Entries(Vec::new()))
    );
}

#[test]
fn ports_and_second_addresses() {
    let entry_of = v4(none(), entry::IP, [10, 0, 0, 1])
        .put(entry::PORT, &80u16.to_be_bytes())
        .put(entry::PROTOCOL, &[6]);
    let both = v4(entry_of.clone(), entry::IP2, [10, 1, 0, 0]).put(entry::CIDR2, &[16]);
    let net = |text: &str| {
        let net = Net::parse(crate::ruleset::Family::V4, text);
        Part::Net(net.expect("a network"))
    };
    let port = |protocol| Part::Port {
        protocol,
        port: 80.into(),
    };
    let parts = |set: Option<Ipset>| match set {
        Some(Ipset::Entries(entries)) => entries
            .into_iter()
            .flat_map(|entry| entry.parts)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        parts(set("hash:ip,port", none(), &[&entry_of])),
        [net("10.0.0.1"), port(Some(6))]
    );
    assert_eq!(
        parts(set("hash:ip,port,net", none(), &[&both])),
        [net("10.0.0.1"), port(Some(6)), net("10.1.0.0/16")]
    );
    assert_eq!(
        parts(set("bitmap:port", none(), &[&entry_of])),
        [port(None)]
    );
    // Without its second address it is not an entry of such a set.
    assert_eq!(set("hash:net,net", none(), &[&entry_of]), None);
}

#[test]
fn a_list_has_names() {
    let named = |name: &[u8]| none().put(entry::NAME, name);
    let list = set("list:set", none(), &[&named(b"a\0"), &named(b"b\0")]);
    assert_eq!(
        list,
        Some(Ipset::List(vec!["a".to_owned(), "b".to_owned()]))
    );
}

/// Of a kind that is not understood, with a mask that has holes, with more than a proof looks at, or broken.
#[test]
fn what_is_not_understood_is_not_read() {
    let one = v4(none(), entry::IP, [10, 0, 0, 1]);
    for kind in [
        "hash:mac",
        "hash:ip,mac",
        "hash:ip,mark",
        "hash:net,iface",
        "list:ip",
        "new:ip",
        "hash",
        "",
    ] {
        assert_eq!(set(kind, none(), &[]), None, "{kind}");
    }
    let holes = none().put(set::BITMASK, &[255, 0, 255, 0]);
    assert_eq!(set("hash:ip", holes, &[&one]), None);
    let masked = none().put(set::NETMASK, &[16]);
    let second = v4(one.clone(), entry::IP2, [10, 0, 0, 2]);
    assert_eq!(set("hash:net,net", masked, &[&second]), None);
    let except = second.put(entry::FLAGS, &4u32.to_be_bytes());
    assert_eq!(set("hash:net,net", none(), &[&except]), None);
    let many = vec![&one; ENTRIES];
    assert!(set("hash:ip", none(), &many).is_some());
    assert_eq!(set("hash:ip", none(), &[many, vec![&one]].concat()), None);
    assert_eq!(set("hash:ip", none(), &[&none()]), None);
    let mut reader = Reader::default();
    reader.read(&none().put(set::TYPE, b"hash:ip\0").0);
    reader.read(&[3, 0, 1, 0]);
    assert_eq!(reader.set(), None);
}
