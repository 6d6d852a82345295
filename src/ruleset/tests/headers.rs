//! Matches on what headers say beside addresses and ports.

use super::*;

#[test]
fn what_headers_say_is_read() {
    let tos = |value, mask| Match::Tos(test(Masked { value, mask }));
    for (text, wanted) in [
        (
            "-m length --length 100:200",
            Match::Length(test((100, 200))),
        ),
        ("-m length ! --length 64", Match::Length(not((64, 64)))),
        ("-m ttl ! --ttl-eq 64", Match::Ttl(not((64, 64)))),
        ("-m ttl --ttl-lt 64", Match::Ttl(test((0, 63)))),
        ("-m ttl --ttl-gt 254", Match::Ttl(test((255, 255)))),
        ("-m tos --tos 0x10/0x3f", tos(0x10, 0x3f)),
        ("-m tos --tos 0x10", tos(0x10, 0xff)),
        ("-m dscp --dscp 0x0a", tos(0x28, 0xfc)),
        (
            "-m mac --mac-source 02:42:AC:11:00:02",
            Match::Mac(test(Mac::from(0x0242_ac11_0002))),
        ),
    ] {
        assert_eq!(only(text), wanted, "{text}");
    }
    let hops = "-P FORWARD ACCEPT\n-A FORWARD -m hl --hl-gt 1\n";
    let hops = parse_listing(Family::V6, "filter", hops).unwrap();
    let rule = &hops.chains["FORWARD"].rules[0].rule;
    assert_eq!(rule.matches, [Match::Ttl(test((2, 255)))]);
}

#[test]
fn what_headers_cannot_say_is_unknown() {
    for text in [
        "-m ttl --ttl-gt 255",
        "-m ttl --ttl-lt 0",
        "-m ttl --ttl-eq 256",
        "-m ttl --ttl-gt 1 --ttl-lt 9",
        "-m tos --tos 0x10/x",
        "-m dscp --dscp-class AF11",
        "-m mac --mac-source 02:42:ac:11:00",
        "-m mac --mac-source 2:42:ac:11:00:02",
        "-m length --length x",
    ] {
        assert!(unknown(text), "{text}");
    }
}

#[test]
fn what_headers_say_is_said_as_iptables_does() {
    for (text, said) in [
        ("-m length ! --length 1:9", "-m length ! --length 1:9"),
        ("-m ttl --ttl-lt 64", "ttl 0-63"),
        ("-m ttl ! --ttl-eq 64", "! ttl 64"),
        ("-m dscp --dscp 0x0a", "tos 0x28/0xfc"),
        (
            "-m mac --mac-source 02:42:AC:11:00:02",
            "-m mac --mac-source 02:42:ac:11:00:02",
        ),
        (
            "-m set ! --match-set a src,dst",
            "-m set ! --match-set a src,dst",
        ),
    ] {
        assert_eq!(only(text).to_string(), said);
    }
}
