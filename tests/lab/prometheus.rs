//! A real Prometheus in the lab, with the shipped rules and the dashboard's queries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::Value;

use super::daemon::Daemon;
use super::wait::LONG;
use super::{Lab, repository};

/// Debian's programs (`prometheus`, `promtool`, `prometheus-node-exporter`), fetched where they are missing.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let dir = repository().join("target/lab-prometheus");
    let script = repository().join("tests/lab/get-prometheus.sh");
    let status = Command::new(script).arg(&dir).status().unwrap();
    assert!(status.success(), "get-prometheus.sh says why, above");
    let fetched = dir.join(name);
    if fetched.is_file() {
        fetched
    } else {
        name.into()
    }
}

/// The shipped rules.
pub fn rules() -> PathBuf {
    repository().join("packaging/prometheus/ecs-netguard.rules.yml")
}

/// A query of the shipped dashboard, for all hosts.
#[derive(Debug, Clone)]
pub struct Query {
    /// In PromQL.
    pub expr: String,
    /// Whether its panel shows a curve, and not the present.
    pub range: bool,
}

/// All queries of the dashboard; `rate_interval` is what Grafana takes for `$__rate_interval`.
#[track_caller]
pub fn dashboard(rate_interval: &str) -> Vec<Query> {
    let text = fs::read(repository().join("packaging/grafana/ecs-netguard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|p| p["targets"].as_array().unwrap());
    targets
        .map(|target| Query {
            expr: target["expr"]
                .as_str()
                .unwrap()
                .replace("$instance", ".*")
                .replace("$__rate_interval", rate_interval),
            range: target["range"] != false,
        })
        .collect()
}

/// The query for unprotected hosts that docs/operations.md has.
#[track_caller]
pub fn unprotected_hosts() -> String {
    let text = fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let (_, rest) = text.split_once("```promql\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// The Prometheus of a lab's host.
#[derive(Debug)]
pub struct Prometheus<'a> {
    lab: &'a Lab,
    process: Daemon,
}

impl<'a> Prometheus<'a> {
    /// Starts it with these `scrape_configs`, scraping and evaluating the shipped rules every `interval`.
    #[track_caller]
    pub fn start(lab: &'a Lab, interval: Duration, scrape_configs: &Value) -> Self {
        let every = format!("{}ms", interval.as_millis());
        // JSON is YAML.
        let config = serde_json::json!({
            "global": { "scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every },
            "rule_files": [rules()],
            "scrape_configs": scrape_configs,
        });
        lab.host.sh("mkdir -p /run/lab/tsdb");
        lab.write("prometheus.yml", config.to_string());
        let process = Daemon::start(lab.host.command(program("prometheus")).args([
            "--web.listen-address=127.0.0.1:9090",
            "--config.file=/run/lab/prometheus.yml",
            "--storage.tsdb.path=/run/lab/tsdb",
        ]));
        process.wait_for_log("Server is ready to receive web requests", LONG);
        Self { lab, process }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// What it answers to a request of its API, and how long that took.
    #[track_caller]
    pub fn api(&self, path: &str, parameters: &[(&str, &str)]) -> (Value, Duration) {
        let url = format!("http://127.0.0.1:9090/api/v1/{path}");
        let time = ["-w", "\n%{time_total}"];
        let mut curl = self.lab.host.command("curl").args(["-sSG", &url]);
        for (name, value) in parameters {
            curl = curl.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let text = curl.args(time).run();
        let (body, time) = text.rsplit_once('\n').unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        let time = Duration::from_secs_f64(time.parse().unwrap());
        (answer["data"].clone(), time)
    }

    /// What it answers to a query about the present: series and their values.
    #[track_caller]
    pub fn ask(&self, query: &str) -> Vec<Value> {
        let (data, _time) = self.api("query", &[("query", query)]);
        data["result"].as_array().cloned().unwrap()
    }
}

/// The value of a series that [`Prometheus::ask`] found.
#[track_caller]
pub fn value(series: &Value) -> f64 {
    series["value"][1].as_str().unwrap().parse().unwrap()
}

/// A label of such a series; empty where it has none.
pub fn label(series: &Value, name: &str) -> String {
    let value = series["metric"][name].as_str();
    value.unwrap_or_default().to_owned()
}
