//! Healthy hosts and hosts on which something is wrong: the probe says what `check` says.

use super::{configure, connections, guarded, packets, probe, probe_and_compare};
use lab::tamper::Backend;
use lab::topology::USER_BRIDGE;
use lab::{Lab, imds};

const BRIDGES: [&str; 3] = ["docker0", USER_BRIDGE, "ecs-bridge"];

#[test]
fn on_a_healthy_host_all_is_stopped_and_credentials_are_answered() {
    let lab = guarded("");
    let probed = probe_and_compare(&lab);
    assert_eq!(
        (probed.code, &probed.json["verdict"]),
        (0, &"held".into()),
        "{probed}"
    );
    for bridge in BRIDGES {
        assert_eq!(probed.seen("bridge", bridge, packets), ["stopped by seal"]);
        assert_eq!(probed.seen("bridge", bridge, connections), ["answered"]);
    }
    let text = lab.netguard(["probe"]).run();
    let lines: Vec<&str> = text.lines().collect();
    let (_how_long, lines) = lines.split_last().unwrap();
    insta::assert_snapshot!("healthy", lines.join("\n"));
}

#[test]
fn without_the_guard_every_packet_is_answered() {
    let lab = Lab::new();
    configure(&lab, "");
    let probed = probe_and_compare(&lab);
    assert_eq!(probed.code, 1, "{probed}");
    for bridge in BRIDGES {
        assert_eq!(probed.seen("bridge", bridge, packets), ["answered"]);
    }
}

#[test]
fn each_layer_is_named_that_stops_a_packet() {
    for backend in Backend::ALL {
        let legacy = backend == Backend::Legacy;
        let name = if legacy { "legacy" } else { "nft" };
        let lab = guarded(&format!(
            "[seal]\nenabled = false\n[edge]\nenabled = false\n[iptables]\nbackend = \"{name}\"\n"
        ));
        let probed = probe_and_compare(&lab);
        assert_eq!(probed.code, 0, "{probed}");
        // Nothing of the guard's is counted where the kernel has iptables-legacy's rules alone.
        let expected = if legacy {
            "no-answer"
        } else {
            "stopped by visible"
        };
        assert_eq!(
            probed.seen("bridge", "docker0", packets),
            [expected],
            "{probed}"
        );
    }
}

#[test]
fn a_table_of_the_guards_at_egress_is_named() {
    let lab = Lab::new();
    configure(&lab, "");
    lab.host.sh("nft 'table netdev ecs_netguard { chain out {
        type filter hook egress device ens5 priority 0
        ip saddr 172.17.0.0/16 ip daddr 169.254.169.254 counter drop
    }; }'");
    lab.counter().reset();
    let probed = probe(&lab, &[]);
    probed.is_what_arrived(&lab);
    let seen = probed.seen("bridge", "docker0", packets);
    assert_eq!(seen, ["answered", "stopped by edge"], "{probed}");
}

#[test]
fn an_accept_above_the_visible_rules_opens_and_the_seal_does_not_mind() {
    for (more, code) in [
        ("[seal]\nenabled = false\n[edge]\nenabled = false\n", 1),
        ("", 0),
    ] {
        let lab = guarded(more);
        for tool in [Backend::Nft.iptables(), Backend::Nft.ip6tables()] {
            lab.host
                .sh(&format!("{tool} -I FORWARD -i docker0 -j ACCEPT"));
        }
        let probed = probe_and_compare(&lab);
        assert_eq!(probed.code, code, "{probed}");
        let seen = probed.seen("bridge", "docker0", packets);
        assert_eq!(
            seen,
            [if code == 1 {
                "answered"
            } else {
                "stopped by seal"
            }]
        );
        let others = probed.seen("bridge", USER_BRIDGE, packets);
        assert!(
            others.iter().all(|seen| seen.starts_with("stopped")),
            "{others:?}"
        );
        let summary = probed.json["summary"].as_str().unwrap();
        assert_eq!(
            code == 1,
            summary.contains("from bridge docker0"),
            "{summary}"
        );
    }
}

#[test]
fn an_input_chain_that_drops_keeps_credentials_away() {
    for (open, code) in [("never", 1), ("when-needed", 0)] {
        let lab = Lab::new();
        configure(&lab, &format!("[credentials]\nopen_input = \"{open}\"\n"));
        lab.host
            .sh("iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT
            iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        lab.netguard(["apply"]).output().unwrap();
        let probed = probe_and_compare(&lab);
        assert_eq!(probed.code, code, "{probed}");
        let expected = if code == 1 { "no-answer" } else { "answered" };
        for bridge in BRIDGES {
            assert_eq!(
                probed.seen("bridge", bridge, connections),
                [expected],
                "{probed}"
            );
        }
    }
}

#[test]
fn a_bridge_that_no_pattern_names_is_probed_and_breaks_no_guarantee() {
    let lab = guarded("interfaces = [\"docker+\", \"ecs-bridge\"]\n");
    let probed = probe_and_compare(&lab);
    let place = probed.place("bridge", USER_BRIDGE);
    assert_eq!(
        (probed.code, &place["rows"][0]["expected"]),
        (0, &"anything".into())
    );
    let reached = place["rows"][0]["seen"] == "answered";
    let noted = probed.list("notes");
    let named = |note: &serde_json::Value| note.as_str().unwrap().contains(USER_BRIDGE);
    assert_eq!(noted.iter().any(named), reached, "{probed}");
}

#[test]
fn without_a_metadata_service_it_is_undecided() {
    let lab = guarded("");
    lab.imds.sh("ip addr del 169.254.169.254/32 dev lo");
    let probed = probe(&lab, &[]);
    assert_eq!(probed.code, 3, "{probed}");
    let summary = probed.json["summary"].as_str().unwrap();
    assert!(summary.contains("without a metadata service"), "{summary}");
}

#[test]
fn a_part_can_be_asked_for() {
    let lab = guarded("");
    for (only, count) in [("host", 1), ("tasks", 1), ("bridges", 4)] {
        let probed = probe(&lab, &["--only", only]);
        assert_eq!(
            (probed.code, probed.list("places").len()),
            (0, count),
            "{probed}"
        );
    }
}

#[test]
fn where_nothing_is_required_nothing_is_violated() {
    let lab = Lab::new();
    lab.write(
        "config.toml",
        "[imds]\nblock = \"never\"\n[credentials]\nendpoint = \"never\"\n",
    );
    lab.netguard(["apply"]).run();
    let probed = probe(&lab, &[]);
    assert_eq!(probed.code, 0, "{probed}");
    assert_eq!(probed.seen("bridge", "docker0", packets), ["answered"]);
    assert!(lab.docker.role_credentials_v1(imds::IMDS).is_ok());
}

#[test]
fn it_needs_root_and_says_so() {
    let lab = Lab::new();
    let binary = lab::daemon::binary();
    let command = lab.host.command("setpriv");
    let command = command
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
        .arg(binary)
        .arg("probe");
    let output = lab::daemon::with_paths(command, &lab).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("`probe` needs root"), "{error}");
}
