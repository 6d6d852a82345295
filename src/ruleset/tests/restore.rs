//! Files for iptables-restore, and what people give instead of a saved file.

use super::*;

/// The table that a text makes, as iptables-save would print it, or what is wrong with the text.
fn restored(table: &str, lines: &str) -> String {
    let read = parse_save(Family::V4, format!("*{table}\n{lines}\nCOMMIT\n"));
    let table = match read {
        Ok(mut read) => read.tables.remove(table).unwrap(),
        Err(error) => return error.to_string(),
    };
    let policy = |chain: &Chain| chain.policy.map_or("-".to_owned(), |p| p.to_string());
    let chains = table.chains.iter().map(|(name, chain)| {
        let rules: Vec<&str> = chain
            .rules
            .iter()
            .map(|listed| listed.text.as_str())
            .collect();
        format!("{name} {}: {}", policy(chain), rules.join("; "))
    });
    chains.collect::<Vec<_>>().join(" | ")
}

#[test]
fn commands_change_a_table_as_iptables_restore_reads_them() {
    let of_filter = [
        ("-A FORWARD -j DROP", "FORWARD ACCEPT: -j DROP"),
        ("-P FORWARD DROP", "FORWARD DROP: "),
        (":FORWARD DROP\n-P FORWARD ACCEPT", "FORWARD ACCEPT: "),
        ("-A INPUT -i a\n-I INPUT -i b", "INPUT ACCEPT: -i b; -i a"),
        (
            "-A INPUT -i a\n[1:2] -I INPUT 2 -i b",
            "INPUT ACCEPT: -i a; -i b",
        ),
        ("-A INPUT -i a\n-R INPUT 1 -i b", "INPUT ACCEPT: -i b"),
        (
            "-A INPUT -i a\n-A INPUT -i b\n-D INPUT 1",
            "INPUT ACCEPT: -i b",
        ),
        (
            "-A INPUT -i a\n-A INPUT -i b\n-D INPUT -i b",
            "INPUT ACCEPT: -i a",
        ),
        (
            "-A INPUT -i a\n-A INPUT -i a\n-D INPUT -i a",
            "INPUT ACCEPT: -i a",
        ),
        (
            "-N U\n-A INPUT -j U\n-A U -j DROP",
            "INPUT ACCEPT: -j U | U -: -j DROP",
        ),
        ("-N U\n-N V\n-A U -j DROP\n-F U\n-X U", "V -: "),
        (
            "-P OUTPUT DROP\n-N U\n-A OUTPUT -j U\n-F\n-Z\n-X",
            "OUTPUT DROP: ",
        ),
        ("--append INPUT --jump DROP", "INPUT ACCEPT: --jump DROP"),
        (
            "-I INPUT 2 -i b",
            "line 2, column 4: chain INPUT has no place with this number",
        ),
        (
            "-R INPUT -i b",
            "line 2, column 4: chain INPUT has no place with this number",
        ),
        (
            "-D INPUT -i b",
            "line 2, column 4: chain INPUT has no such rule to delete",
        ),
        (
            "-A INPUT -i a -o b\n-A INPUT -o b -i a\n-D INPUT -i a -o b",
            "line 4, column 4: chain INPUT has two such rules, spelled differently: delete one by its number",
        ),
        (
            "-A PREROUTING -j DROP",
            "line 2, column 4: chain PREROUTING is not declared",
        ),
        (
            "-N U\n-P U DROP",
            "line 3, column 4: only a built-in chain has a policy",
        ),
        (
            "-N U\n-A U -i a\n-X U",
            "line 4, column 4: chain U has rules, so it cannot be deleted",
        ),
        (
            "-N U\n-A INPUT -j U\n-X",
            "line 4, column 1: chain U is jumped to, so it cannot be deleted",
        ),
        (
            "-X FORWARD",
            "line 2, column 4: chain FORWARD is not declared",
        ),
        ("-N", "line 2, column 1: -N is incomplete, or says too much"),
    ];
    for (lines, is) in of_filter {
        assert_eq!(restored("filter", lines), is, "{lines}");
    }
}

#[test]
fn a_file_of_two_rules_as_images_ship_it_is_whole() {
    let lines = "-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679\n\
                 -A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 51679";
    let text = format!("*nat\n{lines}\nCOMMIT\n");
    let File::Iptables(read) = parse_file(Family::V4, text.as_bytes()).unwrap() else {
        panic!("{text}");
    };
    let nat = &read.tables["nat"].chains;
    assert!(matches!(
        nat["PREROUTING"].rules[0].rule.target,
        Target::Dnat(_)
    ));
    assert!(matches!(
        nat["OUTPUT"].rules[0].rule.target,
        Target::Redirect(_)
    ));
}

#[test]
fn long_options_are_read_as_the_short_ones() {
    let long = "--source 10.0.0.0/8 --dst 1.2.3.4 --in-interface a --out-interface b --protocol tcp --match tcp --dport 80 --jump DROP";
    let short = "-s 10.0.0.0/8 -d 1.2.3.4 -i a -o b -p tcp -m tcp --dport 80 -j DROP";
    assert_eq!(rule(long), rule(short));
    assert_eq!(
        only("-m comment --comment --jump"),
        Match::Comment("--jump".into())
    );
}

#[test]
fn a_newline_in_a_comment_is_part_of_it_and_nowhere_else() {
    let save = |rule: &str| {
        let text =
            format!("*filter\n:FORWARD ACCEPT\n-A FORWARD {rule}\n-A FORWARD -j ACCEPT\nCOMMIT\n");
        parse_save(Family::V4, text)
    };
    let said = "a \"b\"\\\n-A FORWARD -j ACCEPT\nCOMMIT\n";
    let read =
        save("-m comment --comment \"a \\\"b\\\"\\\\\n-A FORWARD -j ACCEPT\nCOMMIT\n\" -j DROP")
            .unwrap();
    let rules = &read.tables["filter"].chains["FORWARD"].rules;
    assert_eq!((rules.len(), rules[0].rule.comment()), (2, Some(said)));
    assert_eq!(rules[0].rule.target, Target::Drop);
    // Lines are counted on.
    let error = save("-m comment --comment \"\n\n\"\nx").unwrap_err();
    assert_eq!(error.line, 6);
    for broken in [
        // iptables prints the name of an interface without quotes.
        "-i \"x -j ACCEPT\n-A FORWARD -i y\" -j DROP",
        "-i --comment \"x -j ACCEPT\n-A FORWARD y\" -j DROP",
        "-m comment --comment \"a\n",
    ] {
        let error = save(broken).unwrap_err();
        assert_eq!(
            (error.line, error.message.as_str()),
            (3, "this quote is never closed")
        );
    }
    let long = format!("-m comment --comment \"{}\" -j DROP", "a\n".repeat(300));
    assert!(save(&long).is_err(), "longer than a comment can be");
}

#[test]
fn what_is_no_saved_file_is_named_with_what_to_run_instead() {
    let v6 = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ! -d fd00::/8 -i a -j DROP\nCOMMIT\n";
    let v4 = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d 10.0.0.0/8 -j DROP\nCOMMIT\n";
    let texts = [
        (Family::V4, ""),
        (Family::V6, "# Generated by hand\n\n"),
        (Family::V4, "-P INPUT ACCEPT\n-A INPUT -j DROP\n"),
        (
            Family::V4,
            "Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination\n",
        ),
        (
            Family::V4,
            "# Warning: table ip filter is managed by iptables-nft, do not touch!\ntable ip filter {\n",
        ),
        (Family::V6, "{\"nftables\": []}"),
        (Family::V4, "{\"nftables\": [{\"table\": {"),
        (Family::V4, v6),
        (Family::V6, v4),
        (
            Family::V4,
            "# Generated by ip6tables-save v1.8.4 on Sat Nov 21\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n",
        ),
        (
            Family::V6,
            "# Generated by iptables-nft-save v1.8.9\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n",
        ),
        (Family::V4, "*filter\n-A FORWARD -j DROP\n"),
    ];
    let said =
        texts.map(|(family, text)| parse_file(family, text.as_bytes()).unwrap_err().to_string());
    insta::assert_snapshot!(said.join("\n"));
    assert!(parse_file(Family::V4, v4.as_bytes()).is_ok());
    assert!(parse_file(Family::V6, v6.as_bytes()).is_ok());
    let note = "# Table `nat' is incompatible, use 'nft' tool.\n";
    assert!(parse_file(Family::V4, note.as_bytes()).is_ok());
}
