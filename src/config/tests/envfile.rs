use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn pairs(all: Vec<Assignment>) -> Vec<(String, String, usize)> {
    all.into_iter().map(|a| (a.key, a.value, a.line)).collect()
}

fn is(all: Vec<Assignment>, expected: &[(&str, &str, usize)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(k, v, n)| (k.to_string(), v.to_string(), *n))
        .collect();
    assert_eq!(pairs(all), expected);
}

#[test]
fn the_agent_knows_no_shell() {
    is(
        agent(
            "\n\n A=1 \r\nnothing\n#B=2\nexport C=\"3\"\nD =4\nE=5 # five\nF=a=b\n=x\n\u{a0}G=\u{3000}",
        ),
        &[
            ("A", "1", 3),
            ("#B", "2", 5),
            ("export C", "\"3\"", 6),
            ("D ", "4", 7),
            ("E", "5 # five", 8),
            ("F", "a=b", 9),
            ("", "x", 10),
            ("G", "", 11),
        ],
    );
}

#[test]
fn systemd_takes_quotes_off() {
    is(
        systemd(
            "A=\"true\"\nB='true'\nC=\"tr\"'ue'\nD=\"tr\"ue\nE=tr\"ue\"\nF=\" true \"\nG=\"a\" \"b\"",
        ),
        &[
            ("A", "true", 1),
            ("B", "true", 2),
            ("C", "true", 3),
            ("D", "true", 4),
            ("E", "tr\"ue\"", 5),
            ("F", " true ", 6),
            ("G", "ab", 7),
        ],
    );
}

#[test]
fn systemd_trims_keys_and_unquoted_values() {
    is(
        systemd("  A  =  true  \r\nB=\r\nC\nD= a b \\ \n"),
        &[("A", "true", 1), ("B", "", 2), ("D", "a b  ", 4)],
    );
}

#[test]
fn systemd_skips_comments_and_continues_lines() {
    is(
        systemd("# c=1\n; d=2\nA=tr\\\nue\n# swallowed \\\nB=1\nC=x # y\n"),
        &[("A", "true", 3), ("C", "x # y", 7)],
    );
}

#[test]
fn systemd_escapes() {
    is(
        systemd("A=a\\bc\nB=\"a\\bc\\\"\\$\"\nC='a\\b'\nD=\"a\\\nb\"\nE=\"two\nlines\"\nF=1"),
        &[
            ("A", "abc", 1),
            ("B", "a\\bc\"$", 2),
            ("C", "a\\b", 3),
            ("D", "ab", 4),
            ("E", "two\nlines", 6),
            ("F", "1", 8),
        ],
    );
}

#[test]
fn systemd_an_open_quote_swallows_the_rest() {
    is(systemd("A=\"x\nB=true\n"), &[("A", "x\nB=true\n", 1)]);
    is(systemd("A=true\nB"), &[("A", "true", 1)]);
}

#[test]
fn the_last_one_wins() {
    let all = agent("A=1\nB=2\nA=3");
    assert_eq!(last(&all, "A").map(|a| a.value.as_str()), Some("3"));
    assert_eq!(last(&all, "C"), None);
}

/// Go's `getEnvVars`, restated the way it is written there, for comparison.
fn restated(text: &str) -> HashMap<String, String> {
    let mut map = HashMap::new();
    for line in text.trim().split('\n') {
        let parts: Vec<&str> = line.trim().splitn(2, '=').collect();
        if let [key, value] = parts[..] {
            map.insert(key.to_owned(), value.to_owned());
        }
    }
    map
}

/// Text with what the parsers care about in it.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("A".to_owned()),
        Just("B=".to_owned()),
        Just("=".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("#".to_owned()),
        Just(" ".to_owned()),
        Just("\u{a0}".to_owned()),
        Just("true".to_owned()),
        ".{0,4}",
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn both_take_any_text(text in "(?s).{0,200}") {
        agent(&text);
        systemd(&text);
    }

    #[test]
    fn the_agent_reads_as_go_does(text in texts()) {
        let all = agent(&text);
        let expected = restated(&text);
        for a in &all {
            let winner = last(&all, &a.key).map(|a| &a.value);
            prop_assert_eq!(winner, expected.get(&a.key));
        }
        for key in expected.keys() {
            prop_assert!(last(&all, key).is_some());
        }
    }

    #[test]
    fn lines_point_into_the_file(text in texts()) {
        let lines: Vec<&str> = text.split('\n').collect();
        for a in agent(&text) {
            let whole = format!("{}={}", a.key, a.value);
            prop_assert!(lines[a.line - 1].contains(&whole), "{:?}", whole);
        }
        for a in systemd(&text) {
            // A key may hold what would start a comment or a quote, never a line end.
            prop_assert!(lines[a.line - 1].contains(&a.key), "{:?}", a.key);
        }
    }

    #[test]
    fn plain_lines_mean_the_same_to_both(
        lines in proptest::collection::vec("[A-Z_]{1,8}=[a-z0-9/.:-]{0,8}", 0..20)
    ) {
        let text = lines.join("\n");
        prop_assert_eq!(agent(&text), systemd(&text));
    }

    #[test]
    fn quoting_is_undone_by_systemd(value in "[ -~&&[^\"\\\\`$]]{0,20}") {
        let all = systemd(&format!("A=\"{value}\"\n"));
        prop_assert_eq!(&all[0].value, &value);
    }
}
