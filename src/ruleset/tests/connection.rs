//! What `-m conntrack` asks, read and printed.

use super::*;

#[test]
fn all_that_is_asked_of_a_connection_is_read() {
    for (text, printed) in [
        ("--ctdir ORIGINAL", "--ctdir ORIGINAL"),
        ("--ctstate NEW --ctdir REPLY", "--ctstate NEW --ctdir REPLY"),
        (
            "! --ctstate NEW ! --ctproto 6",
            "! --ctstate NEW ! --ctproto 6",
        ),
        ("--ctorigsrc 10.0.0.0/8", "--ctorigsrc 10.0.0.0/8"),
        ("! --ctorigdst 10.0.0.1", "! --ctorigdst 10.0.0.1"),
        ("--ctreplsrc 10.0.0.1/32", "--ctreplsrc 10.0.0.1"),
        ("--ctrepldst 10.0.0.1", "--ctrepldst 10.0.0.1"),
        ("--ctorigsrcport 1:9", "--ctorigsrcport 1:9"),
        ("--ctorigdstport 80", "--ctorigdstport 80"),
        ("! --ctreplsrcport 80", "! --ctreplsrcport 80"),
        ("--ctrepldstport 80", "--ctrepldstport 80"),
        (
            "--ctstatus ASSURED,SEEN_REPLY",
            "--ctstatus SEEN_REPLY,ASSURED",
        ),
        (
            "! --ctstatus EXPECTED,CONFIRMED",
            "! --ctstatus EXPECTED,CONFIRMED",
        ),
        ("--ctstatus NONE", "--ctstatus NONE"),
        ("! --ctexpire 5:9", "! --ctexpire 5:9"),
    ] {
        let read = only(&format!("-m conntrack {text}"));
        assert!(matches!(read, Match::Connection(_)), "{text}: {read:?}");
        assert_eq!(read.to_string(), format!("-m conntrack {printed}"));
    }
}

#[test]
fn what_is_not_understood_of_a_connection_makes_all_of_it_unknown() {
    for text in [
        "--ctdir BOTH",
        "! --ctdir REPLY",
        "--ctproto 256",
        "--ctproto 6 --ctproto 7",
        "--ctstatus GONE",
        "--ctorigsrc x",
        "--ctorigsrc fd00::1",
        "--ctorigsrcport x",
        "--ctorigport 80",
        "--ctstate NEW --ctstate NEW",
    ] {
        assert!(unknown(&format!("-m conntrack {text}")), "{text}");
    }
    assert!(unknown("-m state --ctproto 6"));
}
