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
            "cannot both be standard input",
        ),
        ("--ruleset nowhere", b"", "read nowhere: "),
    ];
    for (ruleset, input, says) in cases {
        let (code, text) = run(dir.path(), &format!("check {ruleset}"), input);
        assert_eq!((code, text.lines().count()), (2, 1), "{text}");
        assert!(text.contains(says), "{says}: {text}");
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
