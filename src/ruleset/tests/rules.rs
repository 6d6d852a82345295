//! Each spelling of a rule as iptables 1.8.9 prints it.

use super::*;

#[test]
fn the_documented_block_rule() {
    let read = rule("-d 169.254.169.254/32 -i docker+ -j DROP");
    assert_eq!(
        read.matches,
        [
            Match::Addr(Side::Dst, test(net("169.254.169.254"))),
            Match::In(test(IfacePattern::Prefix("docker".into()))),
        ]
    );
    assert_eq!(read.target, Target::Drop);
    assert!(read.same_as(&rule("-i docker+ -d 169.254.169.254 -j DROP")));
    assert!(!read.same_as(&rule("-i docker0 -d 169.254.169.254 -j DROP")));
    assert!(!read.same_as(&rule("! -i docker+ -d 169.254.169.254 -j DROP")));
}

#[test]
fn the_rules_of_ecs_init() {
    let dnat = rule(
        "-d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679",
    );
    let to: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(
        dnat.target,
        Target::Dnat(Rewrite {
            addrs: Some((to, to)),
            ports: Some(port(51679, 51679))
        })
    );
    assert!(dnat.same_as(&rule(
        "-p tcp -d 169.254.170.2 --dport 80 -j DNAT --to-destination 127.0.0.1:51679"
    )));
    let redirect =
        rule("-d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679");
    assert_eq!(redirect.target, Target::Redirect(Some(port(51679, 51679))));
    let shield = rule(
        "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    );
    let states = CtStates::RELATED
        .with(CtStates::ESTABLISHED)
        .with(CtStates::DNAT);
    assert_eq!(
        shield.matches[0],
        Match::Addr(Side::Src, not(net("127.0.0.0/8")))
    );
    assert_eq!(shield.matches[2], Match::State(not(states)));
}

#[test]
fn common_options() {
    assert_eq!(only("! -i docker0"), Match::In(not(iface("docker0"))));
    assert_eq!(only("! -o eth+"), Match::Out(not(iface("eth+"))));
    assert_eq!(only("! -i +"), Match::In(not(iface("+"))));
    assert_eq!(
        only("-s 10.0.0.0/255.0.0.0"),
        Match::Addr(Side::Src, test(net("10.0.0.0/8")))
    );
    assert_eq!(only("! -p tcp"), Match::Protocol(not(6)));
    assert_eq!(only("-p ipv6-icmp"), Match::Protocol(test(58)));
    assert_eq!(only("-p 253"), Match::Protocol(test(253)));
    assert_eq!(only("! -f"), Match::LaterFragment(not(())));
    assert_eq!(rule("-p all -j DROP").matches, []);
    assert_eq!(rule("-p 0 -j DROP").matches, []);
    let [addr, mask] = ["10.0.9.0", "255.0.255.0"].map(|text| text.parse().unwrap());
    assert_eq!(
        only("! -s 10.0.9.0/255.0.255.0"),
        Match::AddrMask(Side::Src, not((addr, mask)))
    );
    for beyond in ["-s 10.0.0.1/8", "-s 10.1.0.0/255.0.255.0"] {
        assert!(
            unknown(&format!("{beyond} -j DROP")),
            "bits beyond the mask"
        );
    }
    assert!(unknown("! -p all -j DROP"));
    assert!(unknown("-p nonsense -j DROP"));
    assert!(unknown("-s 10.0.0.1 -s 10.0.0.2 -j DROP"));
    assert!(unknown("-i docker/0 -j DROP"));
    assert!(
        unknown("-i 0123456789abcdef -j DROP"),
        "longer than a name can be"
    );
}

#[test]
fn an_interface_name_with_a_blank_hides_nothing() {
    // `-i "docker0 x"` prints without quotes.
    let read = rule("-i docker0 x -j DROP");
    assert_eq!(read.matches, [Match::Unknown("-i docker0 x".into())]);
    assert_eq!(read.target, Target::Drop);
    let read = rule("-i a -j RETURN -j DROP");
    assert_eq!(read.target, Target::Unknown("-j RETURN -j DROP".into()));
}

#[test]
fn ports() {
    assert_eq!(
        last("-p tcp -m tcp ! --dport 80"),
        Match::Port(Side::Dst, not(vec![port(80, 80)]))
    );
    assert_eq!(
        last("-p udp -m udp --sport 1:65535"),
        Match::Port(Side::Src, test(vec![port(1, 65535)]))
    );
    assert_eq!(
        last("-p sctp -m sctp --dport 5"),
        Match::Port(Side::Dst, test(vec![port(5, 5)]))
    );
    assert_eq!(
        last("-p tcp -m multiport --dports 80,443,1000:2000"),
        Match::Port(
            Side::Dst,
            test(vec![port(80, 80), port(443, 443), port(1000, 2000)])
        )
    );
    assert_eq!(
        last("-p udp -m multiport ! --ports 80,443"),
        Match::EitherPort(not(vec![port(80, 80), port(443, 443)]))
    );
    assert_eq!(last("-p tcp -m tcp"), Match::Header);
    assert!(
        unknown("-m tcp --dport 80"),
        "the kernel refuses it without -p tcp"
    );
    assert!(unknown("! -p tcp -m tcp --dport 80"));
    assert!(unknown("-p tcp -m udp --dport 80"));
    assert!(unknown("-p icmp -m multiport --dports 80"));
    assert!(unknown("-p tcp -m tcp --dport 90:80"));
    assert!(unknown("-p tcp -m tcp --dport 65536"));
    assert!(unknown("-p tcp -m tcp --dport 80 --dport 81"));
    assert!(unknown("-p tcp -m tcp --tcp-option 7"));
}

#[test]
fn flags_types_and_states() {
    let syn = TcpFlags { mask: 0x17, set: 2 };
    assert_eq!(
        last("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"),
        Match::Flags(test(syn))
    );
    assert_eq!(last("-p tcp ! --syn"), Match::Flags(not(syn)));
    let none = TcpFlags { mask: 63, set: 0 };
    assert_eq!(
        last("-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE"),
        Match::Flags(test(none))
    );
    let icmp = |kind, code_low, code_high| IcmpType {
        kind,
        code_low,
        code_high,
    };
    assert_eq!(
        last("-p icmp -m icmp --icmp-type 8"),
        Match::Icmp(test(icmp(8, 0, 255)))
    );
    assert_eq!(
        last("-p icmp -m icmp ! --icmp-type 3/4"),
        Match::Icmp(not(icmp(3, 4, 4)))
    );
    assert_eq!(last("-p icmp -m icmp --icmp-type any"), Match::Header);
    assert!(unknown("-p icmp -m icmp ! --icmp-type any"));
    assert_eq!(
        rule6("-p ipv6-icmp -m icmp6 --icmpv6-type 128").matches[1],
        Match::Icmp(test(icmp(128, 0, 255)))
    );
    assert_eq!(
        only("-m state --state NEW,RELATED"),
        Match::State(test(CtStates::NEW.with(CtStates::RELATED)))
    );
    assert!(unknown("-m state --state DNAT"));
}

#[test]
fn other_modules() {
    let masked = |value, mask| Masked { value, mask };
    assert_eq!(
        only("-m mark --mark 0x10"),
        Match::Mark(test(masked(16, u32::MAX)))
    );
    assert_eq!(
        only("-m connmark ! --mark 0x10/0xff"),
        Match::Connmark(not(masked(16, 255)))
    );
    assert_eq!(
        only("-m addrtype ! --dst-type LOCAL"),
        Match::AddrType(Side::Dst, not(vec![AddrType::Local]))
    );
    assert_eq!(
        only("-m addrtype --src-type UNICAST,LOCAL"),
        Match::AddrType(Side::Src, test(vec![AddrType::Unicast, AddrType::Local]))
    );
    assert_eq!(
        only("-m pkttype ! --pkt-type broadcast"),
        Match::PacketType(not(AddrType::Broadcast))
    );
    assert!(unknown("-m pkttype --pkt-type 0x0001"));
    assert_eq!(
        only("-m physdev ! --physdev-is-bridged"),
        Match::Bridged(not(()))
    );
    assert!(unknown("-m physdev --physdev-is-in"));
    assert!(unknown("-m addrtype --src-type UNICAST,ANYCAST"));
    assert!(unknown("-m addrtype --dst-type LOCAL --limit-iface-in"));
    let lookup = |sides: &[Side]| SetLookup {
        name: "a-b".into(),
        sides: sides.into(),
    };
    assert_eq!(
        only("-m set ! --match-set a-b src,dst"),
        Match::Set(not(lookup(&[Side::Src, Side::Dst])))
    );
    assert_eq!(
        only("-m set --match-set a-b dst ! --update-counters"),
        Match::Set(test(lookup(&[Side::Dst])))
    );
    assert!(unknown("-m set --match-set a-b dst --return-nomatch"));
    assert!(unknown("-m set --match-set a-b mac"));
    assert!(unknown("-m set --update-counters"));
    let range = ("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap());
    assert_eq!(
        only("-m iprange ! --src-range 10.0.0.1-10.0.0.9"),
        Match::AddrRange(Side::Src, not(range))
    );
    assert_eq!(
        only("-m owner ! --uid-owner 1000-2000"),
        Match::Uid(not((1000, 2000)))
    );
    assert!(unknown("-m owner --socket-exists"));
    assert_eq!(
        only("-m limit --limit 5/min --limit-burst 10"),
        Match::Either(
            Chance::Both,
            "-m limit --limit 5/min --limit-burst 10".into()
        )
    );
    let chance = |text: &str| match only(text) {
        Match::Either(chance, _) => Some(chance),
        _ => None,
    };
    assert_eq!(
        chance("-m statistic --mode random --probability 0.5"),
        Some(Chance::Both)
    );
    assert_eq!(chance("-m statistic --mode random --probability 1.0"), None);
    assert_eq!(
        chance("-m statistic --mode nth --every 3 --packet 1"),
        Some(Chance::Both)
    );
    let tail = "--name ssh --mask 255.255.255.255 --rsource";
    assert_eq!(
        chance(&format!("-m recent --set {tail}")),
        Some(Chance::Always)
    );
    assert_eq!(
        chance(&format!(
            "-m recent --update --seconds 60 --hitcount 4 --rttl {tail}"
        )),
        Some(Chance::SurelyMisses)
    );
    assert_eq!(
        chance(&format!("-m recent ! --rcheck {tail}")),
        Some(Chance::SurelyApplies)
    );
    assert_eq!(
        chance("-m time --timestart 10:00:00 --weekdays Mon,Tue --datestop 2038-01-19T03:14:07"),
        Some(Chance::Both)
    );
    assert_eq!(chance("-m time --datestop 2030-01-01T00:00:00"), None);
    let policy = |options: &str| chance(&format!("-m policy {options}"));
    assert_eq!(policy("--dir in --pol none"), Some(Chance::SurelyApplies));
    assert_eq!(policy("--dir in --pol ipsec"), Some(Chance::SurelyMisses));
    for options in [
        "--dir out --pol none",
        "--dir in ! --pol none",
        "--dir in",
        "--dir in --pol x",
    ] {
        assert_eq!(policy(options), None, "{options}");
    }
}

#[test]
fn what_is_not_understood_to_its_last_word_is_unknown() {
    for text in [
        "-m set --match-set s src --packets-eq 1",
        "-m set --match-set s src,dst,",
        "-m set ! --match-set s dst --return-nomatch",
        "-m physdev --physdev-in eth0",
        "-m u32 --u32 \"0x0=0x0\"",
        "-m bpf --bytecode \"1,6 0 0 1\"",
        "-m limit --limit 5/min extra",
        "-m recent --set --name a b --mask 255.255.255.255 --rsource",
        "-m something --new -d 10.0.0.1",
        "--dport 80",
        "-m",
    ] {
        assert_eq!(only(text), Match::Unknown(text.into()));
    }
    assert_eq!(
        rule("-m set --match-set s from -m comment --comment x -j DROP").matches,
        [
            Match::Unknown("-m set --match-set s from".into()),
            Match::Comment("x".into())
        ]
    );
}

#[test]
fn targets() {
    let target = |text: &str| rule(text).target;
    assert_eq!(target(""), Target::None);
    assert_eq!(
        target("-j REJECT --reject-with icmp-port-unreachable"),
        Target::Reject
    );
    assert_eq!(target("-j DOCKER-USER"), Target::Jump("DOCKER-USER".into()));
    assert_eq!(target("-g DOCKER-USER"), Target::Goto("DOCKER-USER".into()));
    assert_eq!(target("-j CT --notrack"), Target::Notrack);
    let masked = |value, mask| Masked { value, mask };
    assert_eq!(
        target("-j MARK --set-xmark 0x5/0xff"),
        Target::Mark(masked(5, 255))
    );
    assert_eq!(
        target("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff"),
        Target::RestoreMark(255)
    );
    assert!(matches!(
        target("-j LOG --log-prefix \"x y: \" --log-level 7 --log-uid"),
        Target::Passive(_)
    ));
    assert_eq!(target("-j MASQUERADE"), Target::Masquerade(None));
    let network = Net::parse(Family::V4, "10.0.0.0/24").unwrap();
    assert_eq!(
        target("-j NETMAP --to 10.0.0.0/24"),
        Target::Netmap(network)
    );
    assert_eq!(
        target("-p tcp -j DNAT --to-destination :80"),
        Target::Dnat(Rewrite {
            addrs: None,
            ports: Some(port(80, 80))
        })
    );
    let to = ("fd00::1".parse().unwrap(), "fd00::5".parse().unwrap());
    assert_eq!(
        rule6("-p tcp -j DNAT --to-destination [fd00::1-fd00::5]:5-6 --random").target,
        Target::Dnat(Rewrite {
            addrs: Some(to),
            ports: Some(port(5, 6))
        })
    );
    for odd in [
        "-j",
        "-j CT --zone 5",
        "-j DNAT --to-destination 10.0.0.1:80",
        "-p tcp -j DNAT --to-destination 10.0.0.1:80-90/100",
        "-j DNAT --to-destination 10.0.0.5-10.0.0.1",
        "-j NFQUEUE --queue-num 5",
        "-j QUEUE",
        "-j NETMAP --to 10.0.0.0/24 --random",
        "-j NETMAP --to fd00::/8",
        "-j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xff",
        "-j LOG --log-new 5",
        "-g DROP",
        "-j DROP -j ACCEPT",
        "-j DROP now",
    ] {
        assert_eq!(
            target(odd),
            Target::Unknown(odd.split("-p tcp ").last().unwrap().into())
        );
    }
}

#[test]
fn comments_are_quoted_and_escaped() {
    assert_eq!(
        rule(r#"-m comment --comment "a \"b\" c\\d it\'s""#).comment(),
        Some(r#"a "b" c\d it's"#)
    );
    assert_eq!(rule(r#"-m comment --comment """#).comment(), Some(""));
    assert_eq!(
        rule("-m comment --comment \"-j DROP\" -j ACCEPT").target,
        Target::Accept
    );
    // A comment of two bytes needs no quotes, and reads like an option.
    let read = rule("-m comment --comment -j -j DROP");
    assert_eq!((read.comment(), &read.target), (Some("-j"), &Target::Drop));
    let tagged = rule("-m comment --comment \"ecs-netguard: imds-block\" -j DROP");
    assert!(!tagged.same_as(&rule("-j DROP")));
}

#[test]
fn cgroups_by_path() {
    let path = |path: &str| path.to_owned();
    assert_eq!(
        only("-m cgroup --path \"ecstasks.slice\""),
        Match::Cgroup(test(path("ecstasks.slice")))
    );
    assert_eq!(
        only("-m cgroup ! --path \"/a//b.slice/\""),
        Match::Cgroup(not(path("a/b.slice")))
    );
    assert_eq!(only("-m cgroup --path \"\""), Match::Cgroup(test(path(""))));
    assert!(unknown("-m cgroup --cgroup 5 -j DROP"));
    assert!(unknown("-m cgroup ! --cgroup 5 -j DROP"));
    assert!(unknown("-m cgroup -j DROP"));
    assert!(unknown("-m cgroup --path a b -j DROP"));
    assert!(unknown("-m cgroup --path a --cgroup 5 -j DROP"));
    let noted = rule("-m cgroup --path a -m comment --comment \"x (cgroup 4711)\" -j DROP");
    assert_eq!(noted.cgroup_noted(), Some(4711));
    for comment in ["x", "x (cgroup )", "x (cgroup 4711) y", "x (cgroup -1)"] {
        let rule = rule(&format!("-m comment --comment \"{comment}\" -j DROP"));
        assert_eq!(rule.cgroup_noted(), None, "{comment}");
    }
}

#[test]
fn rules_ask_for_sets_and_change_them() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m set --match-set bad src -j DROP\n\
                -A FORWARD -m set ! --match-set good dst -j SET --add-set seen src\nCOMMIT\n";
    let ruleset = parse_save(Family::V4, text).unwrap();
    assert_eq!(ruleset.ipsets().collect::<Vec<_>>(), ["bad", "good"]);
    assert!(ruleset.may_change("seen"));
    assert!(!ruleset.may_change("bad") && !ruleset.may_change("good"));
}
