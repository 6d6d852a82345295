//! The two ways of the figures on real hosts: daemon → exporter → Prometheus, and daemon → file →
//! node_exporter → Prometheus; from there alerts and dashboard. With Debian's programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ecs_netguard::guarantee::Guarantee;
use ecs_netguard::probe::record::Record;
use ecs_netguard::probe::verdict::Verdict;
use ecs_netguard::verdict::Standing;
use lab::Lab;
use lab::daemon::Daemon;
use lab::prometheus::{Prometheus, dashboard, program, unprotected_hosts};
use lab::tamper::Backend;
use lab::wait::{LONG, eventually};
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn promtool(dir: &str, args: &[&str]) {
    let output = Command::new(program("promtool"))
        .args(args)
        .current_dir(Path::new(ROOT).join(dir))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "promtool {args:?}: {}",
        String::from_utf8_lossy(&text)
    );
}

#[test]
fn the_alerts_do_what_their_tests_say() {
    promtool(
        "packaging/prometheus",
        &["check", "rules", "ecs-netguard.rules.yml"],
    );
    promtool("packaging/prometheus", &["test", "rules", "tests.yml"]);
    let rules = include_str!("../packaging/prometheus/ecs-netguard.rules.yml");
    let tests = include_str!("../packaging/prometheus/tests.yml");
    let names = rules.lines().filter_map(|line| line.split_once("alert: "));
    for (_, name) in names {
        let tested = tests.contains(&format!("alertname: {name}\n"));
        assert!(tested, "{name} has no test");
    }
}

/// Leaves the outcome of a probe where the daemon looks for it.
fn record_a_probe(lab: &Lab) {
    let proved = BTreeMap::from([(Guarantee::ImdsBlock, Standing::Held)]);
    let verdict = Verdict::of(&[], &proved);
    let probe = Record::new(SystemTime::now(), Duration::from_secs(1), verdict);
    probe.write(&lab.dir().join("state")).unwrap();
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let lab = Lab::new();
    lab.host.sh("mkdir /run/lab/textfile");
    lab.write(
        "config.toml",
        "[verify]\ninterval = \"1s\"\n\
         [metrics]\ntextfile = \"/run/lab/textfile/ecs_netguard.prom\"\n",
    );
    let _node_exporter =
        Daemon::start(lab.host.command(program("prometheus-node-exporter")).args([
            "--web.listen-address=127.0.0.1:9100",
            "--collector.disable-defaults",
            "--collector.textfile",
            "--collector.textfile.directory=/run/lab/textfile",
        ]));
    let _exporter = Daemon::start(lab.netguard(["exporter"]));
    record_a_probe(&lab);
    let mut daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    let scrape = json!([
        { "job_name": "node", "static_configs": [{ "targets": ["127.0.0.1:9100"] }] },
        { "job_name": "ecs-netguard", "static_configs": [{ "targets": ["127.0.0.1:9877"] }] },
    ]);
    let prometheus = Prometheus::start(&lab, Duration::from_secs(1), &scrape);

    let mut queries = dashboard("1m");
    assert!(queries.len() > 10, "{queries:#?}");
    // What grows only while rules drift is asked for while they do.
    eventually(LONG, "the dashboard's queries all have an answer", || {
        lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
        queries.retain(|query| {
            let values = prometheus.ask(&query.expr);
            values.is_empty() || values.iter().all(|v| v["value"][1] == "NaN")
        });
        eprintln!("without an answer: {queries:#?}");
        queries.is_empty()
    });
    let protected = prometheus.ask(r#"ecs_netguard_state{state="protected"} == 1"#);
    assert_eq!(protected.len(), 2, "one by each way: {protected:#?}");
    // node_exporter found nothing wrong with the file.
    let errors = prometheus.ask("node_textfile_scrape_error");
    assert_eq!(errors[0]["value"][1], "0", "{errors:#?}");
    let types = lab.host.sh("curl -s http://127.0.0.1:9100/metrics");
    assert!(
        types.contains("# TYPE ecs_netguard_drift_total counter"),
        "{types}"
    );
    let up = |job: &str| {
        let found = prometheus.ask(&format!("up{{job=\"{job}\"}}"));
        found.first().map(|up| up["value"][1] == "1")
    };
    assert_eq!(up("ecs-netguard"), Some(true));
    daemon.kill();
    eventually(
        LONG,
        "a daemon that is gone is a target that is down",
        || up("ecs-netguard") == Some(false),
    );
    assert_eq!(up("node"), Some(true), "its file stays");
    let unprotected = prometheus.ask(&unprotected_hosts());
    assert_eq!(unprotected.len(), 1, "{unprotected:#?}");
    assert_eq!(unprotected[0]["metric"]["state"], "silent");
}

#[test]
fn what_the_socket_answers_follows_the_conventions_and_the_queries_ask_for_nothing_else() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    // What has never happened on a host has no sample there.
    record_a_probe(&lab);
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    let happened = ["ecs_netguard_drift_total{", "ecs_netguard_probe_state{"];
    let reply = eventually(LONG, "the flush and the probe are counted", || {
        let reply = lab.get("/metrics");
        let counted = happened.iter().all(|name| reply.body.contains(name));
        counted.then_some(reply)
    });
    lab.write("metrics", &reply.body);
    let tool = program("promtool");
    let check = format!("{} check metrics < /run/lab/metrics", tool.display());
    // Lints too; a name that the conventions would not have is one to think about.
    assert_eq!(lab.host.sh(&check), "");

    let declared = |word: &str| -> BTreeSet<&str> {
        let lines = reply.body.lines();
        let lines = lines.filter_map(|line| line.strip_prefix(word)?.split_once(' '));
        lines.map(|(name, _)| name).collect()
    };
    let (help, types) = (declared("# HELP "), declared("# TYPE "));
    assert_eq!(help, types);
    let rules = include_str!("../packaging/prometheus/ecs-netguard.rules.yml");
    let in_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let queries = [rules, &unprotected_hosts()].concat();
    let words = queries.split(|c| !in_a_name(c));
    let asked: BTreeSet<&str> = words.filter(|w| w.starts_with("ecs_netguard_")).collect();
    assert!(asked.len() > 10, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&help).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {help:#?}");
}

#[test]
fn files_for_other_programs_are_whole_and_a_failure_is_said_once() {
    let lab = Lab::new();
    lab.host.sh("mkdir /run/lab/out");
    lab.write(
        "config.toml",
        "[verify]\ninterval = \"1s\"\n[metrics]\ntextfile = \"/run/lab/none/x.prom\"\n\
         [fleet]\nssm_inventory = \"/run/lab/out/EcsNetguard.json\"\n",
    );
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    let log = daemon.wait_for_log("metrics.textfile: cannot write /run/lab/none/x.prom", LONG);
    assert!(log.contains("make /run/lab/none"), "{log}");
    let inventory = eventually(LONG, "the inventory is written", || {
        std::fs::read(lab.dir().join("out/EcsNetguard.json")).ok()
    });
    let inventory: Value = serde_json::from_slice(&inventory).unwrap();
    assert_eq!(inventory["TypeName"], "Custom:EcsNetguard");
    assert_eq!(inventory["Content"][0]["Guarantee"], "imds-block");
    assert_eq!(inventory["Content"][0]["HostState"], "protected");
    lab.host.sh("mkdir /run/lab/none");
    eventually(LONG, "the metrics are written once they can be", || {
        lab.dir().join("none/x.prom").exists()
    });
    assert_eq!(
        daemon
            .log()
            .matches("metrics.textfile: cannot write")
            .count(),
        1
    );
    let left = lab.host.sh("ls -A /run/lab/none /run/lab/out");
    assert!(!left.contains("tmp"), "{left}");
}
