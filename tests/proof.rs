//! Proof instead of presence, on a live kernel: what `check` says against what packets do.

use std::net::SocketAddr;

use lab::Lab;
use lab::imds::IMDS;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// Exit code and text of a command of the program.
fn netguard(lab: &Lab, args: &[&str]) -> (i32, String) {
    let output = lab.netguard(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// How a guarantee stands, by `check --json`.
fn standing(lab: &Lab, guarantee: &str) -> String {
    let (_, text) = netguard(lab, &["check", "--json"]);
    standing_in(&text, guarantee)
}

fn standing_in(report: &str, guarantee: &str) -> String {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let guarantees = report["guarantees"].as_array().unwrap();
    let found = guarantees
        .iter()
        .find(|found| found["name"] == guarantee)
        .unwrap();
    found["standing"].as_str().unwrap().to_owned()
}

fn reaches_imds(lab: &Lab) -> bool {
    lab.docker.tcp_connects(SocketAddr::new(IMDS, 80))
}

/// A lab without the seal, which would make up for what the visible rules lack.
fn lab(config_toml: &str) -> Lab {
    let lab = Lab::new();
    lab.write("ecs.config", BLOCK);
    lab.write(
        "config.toml",
        format!("{config_toml}[seal]\nenabled = false\n[edge]\nenabled = false\n"),
    );
    lab
}

#[test]
fn after_a_docker_restart_presence_says_yes_and_the_proof_says_no() {
    for docker28 in [false, true] {
        let lab = lab("");
        netguard(&lab, &["apply"]);
        let tamper = lab.tamper(Backend::Nft);
        if docker28 {
            tamper.docker28_restart();
        } else {
            tamper.docker25_restart();
        }
        let present = lab.host.try_run(
            "iptables-nft -C FORWARD -d 169.254.169.254/32 -i docker+ -m comment --comment 'ecs-netguard: imds-block' -j DROP",
        );
        assert!(present.is_ok(), "presence: {present:?}");
        assert!(
            reaches_imds(&lab),
            "docker28 {docker28}: the packet gets through"
        );
        let (code, text) = netguard(&lab, &["check"]);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("imds-block            VIOLATED"), "{text}");
        let above = if docker28 {
            "DOCKER-FORWARD rule 5 (`-i docker0 -j ACCEPT`)"
        } else {
            "FORWARD rule 5 (`-i docker0 ! -o docker0 -j ACCEPT`)"
        };
        assert!(text.contains(above), "the rule above is named: {text}");
        let (code, text) = netguard(&lab, &["apply"]);
        assert_eq!(code, 0, "{text}");
        assert!(!reaches_imds(&lab));
    }
}

#[test]
fn another_programs_dnat_towards_imds_is_blocked_and_proved() {
    let lab = lab("");
    netguard(&lab, &["apply"]);
    lab.tamper(Backend::Nft)
        .iptables("-t nat -I PREROUTING -d 10.9.9.9/32 -p tcp --dport 80 -j DNAT --to-destination 169.254.169.254");
    lab.counter().reset();
    assert!(!lab.docker.tcp_connects("10.9.9.9:80".parse().unwrap()));
    assert_eq!(lab.counter().arrived().total(), 0);
    assert_eq!(standing(&lab, "imds-block"), "held");
    // A drop before the DNAT stops what is addressed to the service, not what is turned to it.
    lab.tamper(Backend::Nft).flush("filter", None);
    lab.tamper(Backend::Nft)
        .iptables("-t raw -A PREROUTING -d 169.254.169.254/32 -j DROP");
    assert!(lab.docker.tcp_connects("10.9.9.9:80".parse().unwrap()));
    assert_eq!(standing(&lab, "imds-block"), "violated");
}

/// Sets of ipset count by what is in them, and a change of that, of which no event tells, is noticed.
#[test]
fn what_is_in_a_set_counts_from_the_next_verification_on() {
    let lab = lab("[verify]\ninterval = \"1s\"\n");
    lab.host
        .sh("ipset create bad hash:ip && ipset add bad 192.0.2.1
         iptables-nft -t mangle -A PREROUTING -m set --match-set bad dst -j DROP");
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    let stands = |wanted: &str| {
        eventually(LONG, wanted, || {
            let (_, text) = netguard(&lab, &["status", "--json"]);
            standing_in(&text, "task-credentials") == wanted
        });
    };
    stands("held");
    assert!(lab.docker.task_credentials().is_ok());
    for (change, wanted) in [("add", "violated"), ("del", "held")] {
        lab.host.sh(&format!("ipset {change} bad 169.254.170.2"));
        stands(wanted);
        assert_eq!(lab.docker.task_credentials().is_ok(), wanted == "held");
    }
    let question = "explain --iif docker0 --dst 169.254.170.2 --proto tcp --dport 80";
    let question: Vec<&str> = question.split(' ').collect();
    let (_, text) = netguard(&lab, &question);
    assert!(text.contains("not -m set --match-set bad dst"), "{text}");
    // What packets may be put in by a rule may be anything.
    lab.host
        .sh("iptables-nft -t mangle -A PREROUTING -p udp -j SET --add-set bad src");
    stands("undecided");
}

#[test]
fn a_hardened_input_chain_is_opened_by_one_narrow_rule() {
    for backend in Backend::ALL {
        let name = if backend == Backend::Nft {
            "nft"
        } else {
            "legacy"
        };
        let settings = format!("[iptables]\nbackend = \"{name}\"\n");
        let lab = lab(&(settings.clone() + "[credentials]\nopen_input = \"never\"\n"));
        let tamper = lab.tamper(backend);
        tamper.iptables("-A INPUT -i lo -j ACCEPT");
        tamper.iptables("-A INPUT -s 127.0.0.0/8 -j DROP");
        tamper.iptables("-P INPUT DROP");
        let (code, text) = netguard(&lab, &["apply"]);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("dropped by filter INPUT (`policy DROP`)"),
            "{text}"
        );
        assert!(lab.docker.task_credentials().is_err());

        lab.write("config.toml", &settings);
        for _ in 0..2 {
            let (code, text) = netguard(&lab, &["apply"]);
            assert_eq!(code, 0, "{text}");
            let save = tamper.save();
            let opened = "-A INPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 51679 -m conntrack --ctstate DNAT -m comment --comment \"ecs-netguard: task-credentials\" -j ACCEPT";
            assert_eq!(save.matches(opened).count(), 1, "{save}");
        }
        assert!(lab.docker.task_credentials().is_ok());
        assert!(!lab.neighbour.tcp_connects(SocketAddr::new(lab::HOST, 8500)));

        tamper.iptables("-P INPUT ACCEPT");
        netguard(&lab, &["apply"]);
        assert!(
            !tamper.save().contains("--ctstate DNAT -m comment"),
            "not needed any more"
        );
        assert!(lab.docker.task_credentials().is_ok());
    }
}

#[test]
fn a_native_rule_that_iptables_prints_wrongly_is_not_trusted() {
    let lab = lab("");
    let tamper = lab.tamper(Backend::Nft);
    tamper.iptables("-A FORWARD -s 10.8.0.0/16 -j ACCEPT");
    lab.host
        .sh("nft add set ip filter nobody '{ type ipv4_addr; }'
         nft insert rule ip filter FORWARD ip saddr @nobody drop");
    let listed = lab.host.sh("iptables-nft -S FORWARD");
    assert!(
        listed.contains("-A FORWARD -j DROP"),
        "iptables hides the set: {listed}"
    );
    assert!(reaches_imds(&lab), "the set is empty: nothing is dropped");
    // The rule that reads as `-j DROP` proves nothing.
    assert_ne!(standing(&lab, "imds-block"), "held");
    // The guard's own rules above it do, and are put there in spite of it.
    let (_, text) = netguard(&lab, &["apply"]);
    assert!(text.contains("imds-block            held"), "{text}");
    assert!(!reaches_imds(&lab));
    let kept = lab.host.sh("nft list chain ip filter FORWARD");
    assert!(
        kept.contains("@nobody"),
        "another program's rule stays whole: {kept}"
    );
}

#[test]
fn a_native_chain_that_drops_credentials_is_named_and_leaves_a_block_proved() {
    let lab = lab("");
    netguard(&lab, &["apply"]);
    lab.host.sh("nft add table inet other
         nft add chain inet other input '{ type filter hook input priority 5; policy accept; }'");
    assert_eq!(
        standing(&lab, "task-credentials"),
        "held",
        "an empty chain changes nothing"
    );
    lab.host
        .sh("nft add rule inet other input tcp dport 51679 drop");
    assert!(lab.docker.task_credentials().is_err());
    assert_eq!(standing(&lab, "task-credentials"), "violated");
    assert_eq!(standing(&lab, "imds-block"), "held");
    let (_, text) = netguard(&lab, &["check"]);
    assert!(text.contains("inet other input"), "{text}");
}

#[test]
fn rules_of_the_other_backend_count() {
    let lab = lab("[iptables]\nbackend = \"nft\"\n");
    netguard(&lab, &["apply"]);
    assert_eq!(standing(&lab, "task-credentials"), "held");
    lab.tamper(Backend::Legacy)
        .iptables("-I INPUT -p tcp --dport 51679 -j DROP");
    assert!(lab.docker.task_credentials().is_err());
    assert_eq!(standing(&lab, "task-credentials"), "violated");
    assert_eq!(standing(&lab, "imds-block"), "held");
}

#[test]
fn what_the_visible_rules_lack_the_seal_makes_up_for() {
    let lab = lab("");
    lab.write("config.toml", "# the defaults\n");
    netguard(&lab, &["apply"]);
    lab.tamper(Backend::Nft).docker25_restart();
    assert!(!reaches_imds(&lab));
    let (code, text) = netguard(&lab, &["check", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let block = &report["guarantees"][0];
    assert_eq!(code, 0, "{text}");
    assert_eq!(block["standing"], "held");
    assert_eq!(
        block["layers"],
        serde_json::json!({ "visible": "violated", "sealed": "held" })
    );
    assert_eq!(report["drifts"][0]["kind"], "displaced");
    // No daemon owns the table: anybody could remove it, and then it no longer counts.
    assert_eq!(report["seal"]["state"], "unowned");
    lab.host.sh("nft flush ruleset");
    assert_eq!(standing(&lab, "imds-block"), "violated");
}

#[test]
fn a_table_that_sleeps_proves_nothing_and_is_woken() {
    let lab = lab("");
    netguard(&lab, &["apply"]);
    let before = lab.tamper(Backend::Nft).save();
    lab.host.sh("nft add table ip filter '{ flags dormant; }'");
    let rules = |save: &str| {
        let lines = save.lines().filter(|line| line.starts_with("-A"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        rules(&lab.tamper(Backend::Nft).save()),
        rules(&before),
        "iptables shows no difference"
    );
    assert!(reaches_imds(&lab));
    let (code, text) = netguard(&lab, &["check"]);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("dormant"), "{text}");
    let (_, text) = netguard(&lab, &["apply"]);
    assert!(text.contains("was dormant"), "{text}");
    assert!(!reaches_imds(&lab));
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("imds-block is held", LONG);
    lab.host.sh("nft add table ip filter '{ flags dormant; }'");
    daemon.wait_for_log("was dormant", LONG);
    assert!(!reaches_imds(&lab));
}

#[test]
fn saved_rules_are_judged_without_root_and_without_this_host() {
    let lab = lab("");
    netguard(&lab, &["apply"]);
    lab.write("good", lab.tamper(Backend::Nft).save());
    lab.write("good6", lab.tamper(Backend::Nft).save6());
    lab.tamper(Backend::Nft).docker25_restart();
    lab.write("sunk", lab.tamper(Backend::Nft).save());
    lab.write("broken", "*filter\n-A FORWARD\n");
    let judge = |args: &str| {
        let line = format!(
            "cd /run/lab && chmod 755 /run /run/lab && exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all {} check {args}",
            lab.binary_for_all()
        );
        let output = lab.host.command("sh").arg("-c").arg(line).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    };
    assert_eq!(judge("--ruleset good --ruleset6 good6").0, 0);
    let both = "--ruleset good --ruleset6 good6";
    assert_eq!(judge(&format!("{both} --iface br-0123456789ab")).0, 0);
    let (code, text) = judge("--ruleset good");
    assert_eq!(code, 3, "one family is not both: {text}");
    assert!(text.contains("IPv6 was not judged"), "{text}");
    lab.write("never.toml", "[imds]\nipv6 = \"never\"\n");
    assert_eq!(judge("--config never.toml --ruleset good").0, 0);
    assert_eq!(
        judge("--ruleset good --iface custom0").0,
        1,
        "no rule covers custom0"
    );
    let (code, text) = judge("--ruleset sunk");
    assert_eq!(code, 1, "{text}");
    let (code, text) = judge("--ruleset broken");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("broken") && text.contains("line"), "{text}");
    assert_eq!(judge("--ruleset nowhere").0, 2);
    assert_eq!(judge("--iface docker0").0, 2, "--iface is for --ruleset");
}

#[test]
fn explain_shows_the_way_and_the_end() {
    let lab = lab("");
    netguard(&lab, &["apply"]);
    let explain = |words: &str| {
        let args: Vec<&str> = ["explain"].into_iter().chain(words.split(' ')).collect();
        netguard(&lab, &args)
    };
    let (code, text) = explain("--iif docker0 --dst 169.254.169.254 --proto tcp --dport 80");
    assert_eq!(code, 0, "{text}");
    insta::assert_snapshot!("explain_blocked", text);
    let (_, text) = explain("--iif docker0 --dst 169.254.170.2 --proto tcp --dport 80");
    insta::assert_snapshot!("explain_delivered", text);
    lab.tamper(Backend::Nft).docker25_restart();
    let (_, text) = explain(
        "--iif docker0 --oif ens5 --dst 169.254.169.254 --src 172.17.0.2 --proto tcp --dport 80",
    );
    assert!(text.ends_with("= accepted\n"), "{text}");
    let (code, text) = explain("--iif docker0 --dst 169.254.169.254 --src ::1");
    assert_eq!(code, 2, "{text}");
}
