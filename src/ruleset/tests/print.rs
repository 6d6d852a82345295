//! Rules as text for iptables, and back.

use proptest::prelude::*;

use super::*;

fn print(matches: Vec<Match>, target: Target) -> Result<String, String> {
    let rule = Rule { matches, target };
    rule.print(Family::V4).map_err(|error| error.to_string())
}

fn to(text: &str) -> Match {
    Match::Addr(Side::Dst, test(net(text)))
}

fn tcp() -> Match {
    Match::Protocol(test(protocol::TCP))
}

fn dport(low: u16, high: u16) -> Match {
    Match::Port(Side::Dst, test(vec![port(low, high)]))
}

fn dnat(addrs: Option<(&str, &str)>, ports: Option<PortRange>) -> Target {
    let addr = |text: &str| text.parse::<IpAddr>().unwrap();
    let addrs = addrs.map(|(first, last)| (addr(first), addr(last)));
    Target::Dnat(Rewrite { addrs, ports })
}

#[test]
fn each_part_as_iptables_prints_it() {
    let states = CtStates::DNAT.with(CtStates::ESTABLISHED);
    let text = |value: &str| value.to_owned();
    let local = Some(("127.0.0.1", "127.0.0.1"));
    let table: [(Vec<Match>, Target, &str); 12] = [
        (vec![], Target::Accept, "-j ACCEPT"),
        (vec![to("10.0.0.1")], Target::Drop, "-d 10.0.0.1/32 -j DROP"),
        (
            vec![Match::Addr(Side::Src, not(net("10.0.0.0/8")))],
            Target::Drop,
            "! -s 10.0.0.0/8 -j DROP",
        ),
        (
            vec![Match::In(test(iface("br-+"))), Match::Out(not(iface("lo")))],
            Target::Drop,
            "-i br-+ ! -o lo -j DROP",
        ),
        (
            vec![Match::Protocol(not(protocol::UDP))],
            Target::Drop,
            "! -p udp -j DROP",
        ),
        (
            vec![tcp(), dport(80, 80)],
            Target::Drop,
            "-p tcp -m tcp --dport 80 -j DROP",
        ),
        (
            vec![
                Match::Protocol(test(protocol::UDP)),
                Match::Port(Side::Src, not(vec![port(1, 9)])),
            ],
            Target::Drop,
            "-p udp -m udp ! --sport 1:9 -j DROP",
        ),
        (
            vec![Match::State(not(states))],
            Target::Drop,
            "-m conntrack ! --ctstate ESTABLISHED,DNAT -j DROP",
        ),
        (
            vec![Match::Cgroup(test(text("a.slice/b")))],
            Target::Drop,
            "-m cgroup --path a.slice/b -j DROP",
        ),
        (
            vec![Match::Comment(text(r#"a "b" \ c"#))],
            Target::Drop,
            r#"-m comment --comment "a \"b\" \\ c" -j DROP"#,
        ),
        (
            vec![tcp()],
            dnat(local, Some(port(9, 9))),
            "-p tcp -j DNAT --to-destination 127.0.0.1:9",
        ),
        (
            vec![tcp()],
            Target::Redirect(Some(port(9, 9))),
            "-p tcp -j REDIRECT --to-ports 9",
        ),
    ];
    for (matches, target, text) in table {
        assert_eq!(print(matches, target).as_deref(), Ok(text));
    }
}

#[test]
fn what_has_no_text_is_an_error() {
    let text = |value: &str| value.to_owned();
    let interface = |name: &str| Match::In(test(IfacePattern::Exact(text(name))));
    let cgroup = |path: &str| Match::Cgroup(test(text(path)));
    let unsayable = [
        vec![Match::Header],
        vec![Match::Unknown(text("-m set"))],
        vec![Match::LaterFragment(test(()))],
        vec![interface("a b")],
        // Would read back as every interface that begins so.
        vec![interface("docker+")],
        vec![Match::Out(test(IfacePattern::Exact(String::new())))],
        // Of the other family.
        vec![to("fd00::1")],
        vec![Match::Addr(Side::Src, test(net("fd00::1")))],
        // Twice.
        vec![to("10.0.0.1"), to("10.0.0.2")],
        vec![interface("a"), tcp(), interface("b")],
        vec![Match::Out(test(iface("a"))), Match::Out(not(iface("b")))],
        vec![tcp(), tcp()],
        // Of no name that iptables knows by itself.
        vec![Match::Protocol(test(47))],
        // Ports of what has none, or not yet.
        vec![dport(80, 80)],
        vec![dport(80, 80), tcp()],
        vec![Match::Protocol(not(protocol::TCP)), dport(80, 80)],
        vec![tcp(), dport(9, 1)],
        vec![tcp(), Match::Port(Side::Dst, test(vec![]))],
        vec![
            tcp(),
            Match::Port(Side::Dst, test(vec![port(1, 1), port(3, 3)])),
        ],
        vec![Match::State(test(CtStates::default()))],
        vec![cgroup("")],
        vec![cgroup("/a")],
        vec![cgroup("a b")],
        vec![Match::Comment(text("two\nlines"))],
        vec![Match::Comment("x".repeat(256))],
    ];
    for matches in unsayable {
        let said = format!("{matches:?}");
        assert!(print(matches, Target::Drop).is_err(), "{said}");
    }
    assert!(print(vec![Match::Comment("x".repeat(255))], Target::Drop).is_ok());
    let error = print(vec![Match::Unknown(text("-m set"))], Target::Drop);
    let words = "a rule with `-m set` cannot be written for iptables";
    assert_eq!(error, Err(text(words)));
}

#[test]
fn a_target_that_has_no_text_is_an_error() {
    let one = Some(("10.0.0.1", "10.0.0.1"));
    let port80 = Some(port(80, 80));
    let targets = [
        Target::None,
        Target::Reject,
        Target::Jump("USER".to_owned()),
        Target::Redirect(None),
        Target::Redirect(Some(port(80, 81))),
        dnat(one, None),
        dnat(None, port80),
        dnat(one, Some(port(80, 81))),
        dnat(Some(("10.0.0.1", "10.0.0.2")), port80),
        dnat(Some(("fd00::1", "fd00::1")), port80),
    ];
    for target in targets {
        let said = format!("{target:?}");
        assert!(print(vec![tcp()], target).is_err(), "{said}");
    }
    // Without a protocol there are no ports.
    assert!(print(vec![], dnat(one, port80)).is_err());
    assert!(print(vec![], Target::Redirect(port80)).is_err());
}

fn tests<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Test<T>> {
    (any::<bool>(), value).prop_map(|(negated, value)| Test { negated, value })
}

fn interfaces() -> impl Strategy<Value = IfacePattern> {
    "[a-z][a-z0-9.-]{0,12}[+]?".prop_map(|name| iface(&name))
}

fn nets(family: Family) -> impl Strategy<Value = Net> {
    let width: u8 = if family == Family::V4 { 32 } else { 128 };
    (any::<u128>(), 0..=width).prop_map(move |(bits, prefix)| {
        let addr: IpAddr = match family {
            Family::V4 => std::net::Ipv4Addr::from(bits as u32).into(),
            Family::V6 => std::net::Ipv6Addr::from(bits).into(),
        };
        Net::new(addr, prefix).unwrap()
    })
}

fn states() -> impl Strategy<Value = CtStates> {
    let one = prop::sample::select(vec![
        CtStates::NEW,
        CtStates::ESTABLISHED,
        CtStates::RELATED,
        CtStates::INVALID,
        CtStates::UNTRACKED,
        CtStates::SNAT,
        CtStates::DNAT,
    ]);
    let some = prop::collection::vec(one, 1..4);
    some.prop_map(|all| all.into_iter().fold(CtStates::default(), CtStates::with))
}

/// Conditions that may stand once, then those that may stand anywhere, in any order.
fn printable(family: Family) -> impl Strategy<Value = Rule> {
    let protocols = prop::sample::select(vec![protocol::TCP, protocol::UDP]);
    let common = (
        prop::option::of(tests(nets(family)).prop_map(|t| Match::Addr(Side::Src, t))),
        prop::option::of(tests(nets(family)).prop_map(|t| Match::Addr(Side::Dst, t))),
        prop::option::of(tests(interfaces()).prop_map(Match::In)),
        prop::option::of(tests(interfaces()).prop_map(Match::Out)),
    );
    let modules = prop_oneof![
        tests(states()).prop_map(Match::State),
        tests("[a-z0-9_.@:-]{1,9}(/[a-z]{1,5}){0,2}").prop_map(Match::Cgroup),
        "[ -~é]{0,40}".prop_map(Match::Comment),
    ];
    let side = prop::sample::select(vec![Side::Src, Side::Dst]);
    let ports = (side, tests((any::<u16>(), any::<u16>()))).prop_map(|(side, t)| {
        let (a, b) = t.value;
        let value = vec![port(a.min(b), a.max(b))];
        let negated = t.negated;
        Match::Port(side, Test { negated, value })
    });
    let target = match family {
        Family::V4 => prop_oneof![
            Just(Target::Accept),
            Just(Target::Drop),
            any::<u16>().prop_map(|port| Target::Redirect(Some(port.into()))),
            (any::<u32>(), any::<u16>()).prop_map(|(addr, port)| {
                let addr = IpAddr::from(std::net::Ipv4Addr::from(addr));
                Target::Dnat(Rewrite {
                    addrs: Some((addr, addr)),
                    ports: Some(port.into()),
                })
            }),
        ]
        .boxed(),
        Family::V6 => prop_oneof![Just(Target::Accept), Just(Target::Drop)].boxed(),
    };
    let parts = (
        common,
        prop::collection::vec(modules, 0..3),
        prop::option::of((protocols, prop::collection::vec(ports, 0..3))),
    );
    let matches = parts.prop_flat_map(|((src, dst, iif, oif), modules, protocol)| {
        let others = [src, dst, iif, oif].into_iter().flatten().chain(modules);
        let others: Vec<Match> = others.collect();
        let (protocol, ports) = match protocol {
            Some((number, ports)) => (vec![Match::Protocol(test(number))], ports),
            None => (vec![], vec![]),
        };
        (
            Just(others).prop_shuffle(),
            prop::collection::vec(any::<prop::sample::Index>(), ports.len()),
            Just((protocol, ports)),
        )
    });
    (matches, target).prop_map(|((others, places, (protocol, ports)), target)| {
        let has_ports = !protocol.is_empty();
        let mut matches = protocol;
        matches.extend(others);
        for (at, one) in places.into_iter().zip(ports) {
            // Behind the protocol, wherever else.
            let place = at.index(matches.len()) + 1;
            matches.insert(place, one);
        }
        let plain = matches!(target, Target::Accept | Target::Drop);
        let target = if has_ports || plain {
            target
        } else {
            Target::Drop
        };
        Rule { matches, target }
    })
}

fn reads_back(family: Family, written: &Rule) -> Result<(), TestCaseError> {
    let text = written.print(family).unwrap();
    let read = listed(family, &text).unwrap();
    prop_assert!(
        read.rule.same_as(written),
        "{text}\n{:?}\n{written:?}",
        read.rule
    );
    prop_assert_eq!(read.text, text);
    Ok(())
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same(rule in printable(Family::V4)) {
        reads_back(Family::V4, &rule)?;
    }

    #[test]
    fn what_is_printed_for_ip6tables_reads_back_as_the_same(rule in printable(Family::V6)) {
        reads_back(Family::V6, &rule)?;
    }
}
