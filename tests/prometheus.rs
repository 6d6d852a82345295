//! The way of the figures on real hosts: daemon → file → node_exporter → Prometheus → alerts and
//! dashboard, with Debian's programs.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::Lab;
use lab::daemon::Daemon;
use lab::tamper::Backend;
use lab::wait::eventually;
use serde_json::Value;

const TIME: Duration = Duration::from_secs(60);
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The programs, fetched where they are missing.
fn program(name: &str) -> PathBuf {
    let dir = Path::new(ROOT).join("target/lab-prometheus");
    let script = Path::new(ROOT).join("tests/lab/get-prometheus.sh");
    let status = Command::new(script).arg(&dir).status().unwrap();
    assert!(status.success(), "get-prometheus.sh says why, above");
    let fetched = dir.join(name);
    if fetched.is_file() {
        fetched
    } else {
        name.into()
    }
}

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
}

fn dashboard_queries() -> Vec<String> {
    let text = include_str!("../packaging/grafana/ecs-netguard.json");
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|p| p["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            query
                .replace("$instance", ".*")
                .replace("$__rate_interval", "1m")
        })
        .collect()
}

/// What Prometheus answers to a query.
fn ask(lab: &Lab, query: &str) -> Vec<Value> {
    let url = "http://127.0.0.1:9090/api/v1/query";
    let data = format!("query={query}");
    let curl = lab
        .host
        .command("curl")
        .args(["-sG", url, "--data-urlencode", &data]);
    let text = curl.output().unwrap().stdout;
    let Ok(answer) = serde_json::from_slice::<Value>(&text) else {
        return Vec::new(); // It does not listen yet.
    };
    assert_ne!(answer["status"], "error", "{query}: {answer}");
    answer["data"]["result"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let lab = Lab::new();
    lab.host.sh("mkdir /run/lab/textfile /run/lab/tsdb");
    lab.write(
        "config.toml",
        "[verify]\ninterval = \"1s\"\n\
         [metrics]\ntextfile = \"/run/lab/textfile/ecs_netguard.prom\"\n",
    );
    lab.write(
        "prometheus.yml",
        format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{ROOT}/packaging/prometheus/ecs-netguard.rules.yml]\n\
             scrape_configs: [{{ job_name: node, static_configs: [{{ targets: ['127.0.0.1:9100'] }}] }}]\n"
        ),
    );
    let _node_exporter =
        Daemon::start(lab.host.command(program("prometheus-node-exporter")).args([
            "--web.listen-address=127.0.0.1:9100",
            "--collector.disable-defaults",
            "--collector.textfile",
            "--collector.textfile.directory=/run/lab/textfile",
        ]));
    let prometheus = Daemon::start(lab.host.command(program("prometheus")).args([
        "--web.listen-address=127.0.0.1:9090",
        "--config.file=/run/lab/prometheus.yml",
        "--storage.tsdb.path=/run/lab/tsdb",
    ]));
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", TIME);
    prometheus.wait_for_log("Server is ready to receive web requests", TIME);

    let mut queries = dashboard_queries();
    assert!(queries.len() > 10, "{queries:#?}");
    // What grows only while rules drift is asked for while they do.
    eventually(TIME, "the dashboard's queries all have an answer", || {
        lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
        queries.retain(|query| {
            let values = ask(&lab, query);
            values.is_empty() || values.iter().all(|v| v["value"][1] == "NaN")
        });
        eprintln!("without an answer: {queries:#?}");
        queries.is_empty()
    });
    let protected = ask(&lab, r#"ecs_netguard_state{state="protected"} == 1"#);
    assert_eq!(protected.len(), 1, "{protected:#?}");
    // The exporter found nothing wrong with the file.
    let errors = ask(&lab, "node_textfile_scrape_error");
    assert_eq!(errors[0]["value"][1], "0", "{errors:#?}");
    let types = lab.host.sh("curl -s http://127.0.0.1:9100/metrics");
    assert!(
        types.contains("# TYPE ecs_netguard_drift_total counter"),
        "{types}"
    );
}

#[test]
fn what_the_socket_answers_is_open_metrics() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", TIME);
    let reply = lab.get("/metrics");
    assert_eq!(reply.status, 200);
    assert!(
        reply.head.contains("application/openmetrics-text"),
        "{reply:?}"
    );
    assert!(reply.body.ends_with("# EOF\n"), "{reply:?}");
    lab.write(
        "metrics",
        ecs_netguard::status::textfile::classic(&reply.body),
    );
    let tool = program("promtool");
    let check = format!("{} check metrics < /run/lab/metrics", tool.display());
    // Lints too; a name that the conventions would not have is one to think about.
    assert_eq!(lab.host.sh(&check), "");
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
    let log = daemon.wait_for_log("metrics.textfile: cannot write /run/lab/none/x.prom", TIME);
    assert!(log.contains("make /run/lab/none"), "{log}");
    let inventory = eventually(TIME, "the inventory is written", || {
        std::fs::read(lab.dir().join("out/EcsNetguard.json")).ok()
    });
    let inventory: Value = serde_json::from_slice(&inventory).unwrap();
    assert_eq!(inventory["TypeName"], "Custom:EcsNetguard");
    assert_eq!(inventory["Content"][0]["Guarantee"], "imds-block");
    assert_eq!(inventory["Content"][0]["HostState"], "protected");
    lab.host.sh("mkdir /run/lab/none");
    eventually(TIME, "the metrics are written once they can be", || {
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
