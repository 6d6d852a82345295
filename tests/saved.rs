//! Saved rules as people have them: from standard input, packed, of another tool, too large.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::{Compression, write::GzEncoder};

const BLOCK: &str = "*filter\n-A FORWARD -m comment --comment \"two\nlines\" -i docker+ -d 169.254.169.254 -j DROP\nCOMMIT\n";

/// Runs a command of the program in a folder, with 512 MiB of memory.
fn run(dir: &Path, args: &str, input: &[u8]) -> (i32, String) {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v 524288 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_ecs-netguard"))
        .args(args.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _refused = child.stdin.take().unwrap().write_all(input);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), text)
}

fn explain(ruleset: &str) -> String {
    format!("explain --iif docker0 --dst 169.254.169.254 {ruleset}")
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text).unwrap();
    packed.finish().unwrap()
}

#[test]
fn rules_come_from_standard_input_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("v4.gz"), gzip(BLOCK.as_bytes())).unwrap();
    let from_stdin = explain("--ruleset -");
    let inputs = [
        (&from_stdin, BLOCK.as_bytes().to_vec()),
        (&from_stdin, gzip(BLOCK.as_bytes())),
        (&explain("--ruleset v4.gz"), Vec::new()),
    ];
    for (args, input) in inputs {
        let (code, text) = run(dir.path(), args, &input);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("\"two\\nlines\""), "{text}");
        assert!(text.ends_with("= dropped\n"), "{text}");
    }
    let (code, text) = run(dir.path(), "check --ruleset -", BLOCK.as_bytes());
    assert!(text.contains("IPv6 was not judged"), "{code}: {text}");
}

#[test]
fn what_cannot_be_judged_ends_with_2_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 6] = [
        (
            "--ruleset -",
            b"",
            "standard input: it holds no table; run `iptables-save` as root",
        ),
        (
            "--ruleset6 -",
            BLOCK.as_bytes(),
            "standard input: these are rules of IPv4",
        ),
        (
            "--ruleset -",
            b"-P INPUT ACCEPT\n",
            "standard input: this is the output of `iptables -S`",
        ),
        (
            "--ruleset -",
            &gzip(b"*filter\n")[..20],
            "read standard input: ",
        ),
        (
            "--ruleset - --ruleset6 -",
            b"",
            "only one of --ruleset and --ruleset6 can be standard input",
        ),
        ("--ruleset nowhere", b"", "read nowhere: "),
    ];
    for (ruleset, input, says) in cases {
        let (code, text) = run(dir.path(), &format!("check {ruleset}"), input);
        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
}

/// What `nft -j list ruleset` prints of a table of both families with a chain at forward.
fn listed(more: &str, rules: &[&str]) -> String {
    let place = "\"family\": \"inet\", \"table\": \"guard\"";
    let rules: String = rules
        .iter()
        .map(|rule| {
            format!(
                ",\n{{\"rule\": {{{place}, \"chain\": \"forward\", \"handle\": 5, \"expr\": [{rule}]}}}}"
            )
        })
        .collect();
    format!(
        "{{\"nftables\": [{{\"metainfo\": {{\"version\": \"1.0.6\", \"json_schema_version\": 1}}}},
{{\"table\": {{\"family\": \"inet\", \"name\": \"guard\", \"handle\": 1}}}},
{{\"chain\": {{{place}, \"name\": \"forward\", \"handle\": 1, \"type\": \"filter\", \"hook\": \"forward\",
\"prio\": -5, \"policy\": \"accept\"}}}}{more}{rules}]}}"
    )
}

/// What `check` says of the block.
fn standing(said: &str) -> &str {
    let line = said.lines().find(|line| line.starts_with("  imds-block "));
    line.and_then(|line| line.split_whitespace().nth(1))
        .unwrap_or(said)
}

/// A rule's match.
fn asks(left: &str, right: &str) -> String {
    format!("{{\"match\": {{\"op\": \"==\", \"left\": {left}, \"right\": {right}}}}}")
}

#[test]
fn what_nft_lists_is_judged_for_both_families() {
    let dir = tempfile::tempdir().unwrap();
    let bridges = asks(
        "{\"meta\": {\"key\": \"iifname\"}}",
        "{\"set\": [\"br-*\", \"docker*\", \"ecs-bridge\", \"fargate-bridge\"]}",
    );
    let to = |protocol: &str, addr: &str| {
        let daddr =
            format!("{{\"payload\": {{\"protocol\": \"{protocol}\", \"field\": \"daddr\"}}}}");
        asks(&daddr, addr)
    };
    let drop = |to: &str| format!("{bridges}, {to}, {{\"counter\": null}}, {{\"drop\": null}}");
    let (v4, v6) = (
        drop(&to("ip", "\"169.254.169.254\"")),
        drop(&to("ip6", "\"fd00:ec2::254\"")),
    );
    let set = |flags: &str| {
        format!(
            ",\n{{\"set\": {{\"family\": \"inet\", \"name\": \"s\", \"table\": \"guard\", \"type\": \"ipv4_addr\", \
             \"handle\": 2{flags}, \"elem\": [\"169.254.169.254\"]}}}}"
        )
    };
    let of_set = drop(&to("ip", "\"@s\""));
    let accepted = format!("{}, {{\"accept\": null}}", to("ip", "\"169.254.169.254\""));
    let cases = [
        (listed("", &[&v4, &v6]), "held"),
        (listed(&set(""), &[&of_set, &v6]), "held"),
        (listed("", &[]), "VIOLATED"),
        (listed("", &[&v4]), "VIOLATED"),
        (listed("", &[&accepted, &v4, &v6]), "VIOLATED"),
        (
            listed(&set(", \"flags\": [\"timeout\"]"), &[&of_set, &v6]),
            "undecided",
        ),
        (listed("", &["{\"later\": null}", &v4, &v6]), "undecided"),
    ];
    for (text, expected) in cases {
        let (_, said) = run(dir.path(), "check --ruleset -", &gzip(text.as_bytes()));
        assert_eq!(standing(&said), expected, "{text}\n{said}");
        assert!(!said.contains("was not judged"), "{said}");
    }
    let text = listed("", &[&v4, &v6]);
    for to in ["169.254.169.254", "fd00:ec2::254"] {
        let args = format!("explain --iif docker0 --dst {to} --ruleset -");
        let (code, said) = run(dir.path(), &args, text.as_bytes());
        assert!(code == 0 && said.ends_with("= dropped\n"), "{code} {said}");
        assert!(said.contains("FORWARD · inet guard · forward"), "{said}");
    }
}

#[test]
fn tables_of_iptables_are_judged_by_its_own_listing_beside_what_nft_lists() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let place = "\"family\": \"ip\", \"table\": \"filter\"";
    let of_iptables = format!(
        "{{\"nftables\": [{{\"table\": {{\"family\": \"ip\", \"name\": \"filter\", \"handle\": 1}}}},
{{\"chain\": {{{place}, \"name\": \"FORWARD\", \"handle\": 1, \"type\": \"filter\", \"hook\": \"forward\",
\"prio\": 0, \"policy\": \"accept\"}}}},
{{\"rule\": {{{place}, \"chain\": \"FORWARD\", \"handle\": 2, \"expr\": [{{\"xt\": {{\"type\": \"match\", \
\"name\": \"physdev\"}}}}, {{\"drop\": null}}]}}}}]}}"
    );
    write("nft", &of_iptables);
    write(
        "v4",
        "*filter\n-A FORWARD -d 169.254.169.254 -j DROP\nCOMMIT\n",
    );
    write("config.toml", "[imds]\nipv6 = \"never\"\n");
    let check = |files: &str| {
        let args = format!("--config config.toml check {files}");
        run(dir.path(), &args, b"")
    };
    let (_, said) = check("--ruleset nft");
    assert_eq!(standing(&said), "undecided", "{said}");
    assert!(
        said.contains("give the output of iptables-save as well"),
        "{said}"
    );
    for files in ["--ruleset nft --ruleset v4", "--ruleset v4 --ruleset nft"] {
        let (_, said) = check(files);
        assert_eq!(standing(&said), "held", "{said}");
    }
    for (files, says) in [
        (
            "--ruleset nft --ruleset nft",
            "two outputs of `nft -j list ruleset`",
        ),
        (
            "--ruleset v4 --ruleset v4",
            "two files with IPv4 rules of iptables",
        ),
    ] {
        let (code, said) = check(files);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_text_that_is_too_large_is_refused_within_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = String::from("*filter\n:FORWARD ACCEPT [0:0]\n");
    while lines.len() < 1 << 20 {
        lines.push_str("-A FORWARD -s 10.1.2.3/32 -p tcp -m tcp --dport 80 -j ACCEPT\n");
    }
    let mut file = BufWriter::new(File::create(dir.path().join("large")).unwrap());
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..200 {
        file.write_all(lines.as_bytes()).unwrap();
        packed.write_all(lines.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    for (file, input) in [("large", Vec::new()), ("-", packed.finish().unwrap())] {
        let (code, text) = run(dir.path(), &explain(&format!("--ruleset {file}")), &input);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("more than 16 MiB of text"), "{text}");
    }
}

#[test]
fn the_largest_text_is_read_within_its_memory() {
    const MOST: usize = 16 << 20;
    let dir = tempfile::tempdir().unwrap();
    let rules = [
        "-A FORWARD\n",
        "-A FORWARD -m a -m b -m c -m d -m e -m f -m g -m h -m i -m j -m k\n",
    ];
    for rule in rules {
        let mut text = String::from("*filter\n");
        while text.len() + rule.len() + 7 <= MOST {
            text.push_str(rule);
        }
        text.push_str("COMMIT\n");
        let (code, text) = run(dir.path(), &explain("--ruleset -"), text.as_bytes());
        assert!(matches!(code, 0 | 3), "{rule}{code}: {text:.300}");
    }
}
