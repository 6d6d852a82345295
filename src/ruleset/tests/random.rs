//! What must hold of any text.

use proptest::prelude::*;

use super::*;

/// Words that rules are made of, to be put together at random.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "!",
        "-s",
        "-d",
        "-i",
        "-o",
        "-p",
        "-f",
        "-m",
        "-j",
        "-g",
        "tcp",
        "udp",
        "icmp",
        "10.0.0.0/8",
        "1.2.3.4",
        "docker+",
        "lo",
        "--dport",
        "--sport",
        "80",
        "1:2",
        "comment",
        "--comment",
        "\"a b\"",
        "\"",
        "\\",
        "conntrack",
        "--ctstate",
        "NEW",
        "multiport",
        "--dports",
        "limit",
        "--limit",
        "5/min",
        "set",
        "--match-set",
        "s",
        "src,dst",
        "DROP",
        "ACCEPT",
        "DNAT",
        "--to-destination",
        "USER",
        "é",
    ]);
    prop::collection::vec(word, 0..14).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_bytes_are_a_ruleset_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_save(Family::V4, &bytes);
        let _ = parse_save(Family::V6, &bytes);
        let _ = parse_file(Family::V4, &bytes);
        let _ = parse_listing(Family::V4, "filter", &bytes);
    }

    #[test]
    fn the_text_of_a_rule_reads_back_as_the_rule(spec in words()) {
        if let Ok(read) = listed(Family::V4, &spec) {
            prop_assert_eq!(listed(Family::V4, &read.text).unwrap(), read.clone());
            let save = format!("*filter\n:FORWARD ACCEPT [0:0]\n[0:0] -A FORWARD {spec}\nCOMMIT\n");
            let saved = parse_save(Family::V4, save).unwrap();
            prop_assert!(saved.tables["filter"].chains["FORWARD"].rules[0].rule.same_as(&read.rule));
        }
    }

    #[test]
    fn a_comment_reads_back_whatever_is_in_it(
        said in "[\"\\\\\n\r\t a-c-]{0,80}",
        second in "[\"\\\\\n a-c]{0,20}",
    ) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""));
        let save = format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment {} -m comment --comment {} -j DROP\n\
             -A FORWARD -j ACCEPT\nCOMMIT\n",
            quoted(&said),
            quoted(&second),
        );
        let read = parse_save(Family::V4, save).unwrap();
        let rules = &read.tables["filter"].chains["FORWARD"].rules;
        prop_assert_eq!(rules.len(), 2);
        prop_assert_eq!(
            &rules[0].rule.matches,
            &[Match::Comment(said), Match::Comment(second)]
        );
        prop_assert_eq!(&rules[0].rule.target, &Target::Drop);
    }

    #[test]
    fn no_word_of_a_rule_is_lost(spec in words()) {
        // No module has an option of that name, so it must turn up as something not understood, or
        // as the operand of a match that is known by its text.
        if let Ok(read) = listed(Family::V4, &format!("{spec} --more")) {
            let Rule { matches, target } = read.rule;
            let kept = matches.iter().any(|m| matches!(m,
                Match::Unknown(text) | Match::Comment(text) | Match::Either(_, text) if text.contains("--more")));
            let target = matches!(&target, Target::Unknown(text) if text.contains("--more"));
            prop_assert!(kept || target, "{matches:?} {target:?}");
        }
    }
}
