//! Which alerts find which hosts, and when.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use lab::prometheus::{Prometheus, label, value};
use serde_json::Value;

use super::hosts::{Fleet, Host};
use super::recording::{STATES, State, now};

/// Within how many scrapes a bad host must be found.
const SCRAPES: usize = 2;

/// When an alert became active for a host, and when it fired.
#[derive(Debug, Clone, Copy)]
struct Sight {
    active: f64,
    firing: Option<f64>,
}

/// A fleet that is watched.
pub(super) struct Watch<'a> {
    fleet: &'a Fleet,
    prometheus: &'a Prometheus<'a>,
    /// By alert and host.
    sights: BTreeMap<(String, String), Sight>,
    failures: Vec<String>,
}

impl<'a> Watch<'a> {
    /// Lets some hosts turn bad, watches the alerts for that long, prints which found which, and returns what is
    /// wrong.
    pub(super) fn run(
        fleet: &'a Fleet,
        prometheus: &'a Prometheus<'_>,
        time: Duration,
    ) -> Vec<String> {
        let mut watch = Self {
            fleet,
            prometheus,
            sights: BTreeMap::new(),
            failures: Vec::new(),
        };
        watch.look();
        for (alert, host) in watch.sights.keys() {
            let failure = format!("{alert} on {host}, before anything happened");
            watch.failures.push(failure);
        }
        fleet.turn();
        let began = Instant::now();
        while began.elapsed() < time {
            watch.look();
            thread::sleep(Duration::from_secs(1));
        }
        watch.table();
        watch.false_alarms();
        watch.failures
    }

    fn look(&mut self) {
        let of = |series: &Value| (label(series, "alertname"), label(series, "instance"));
        for series in self.prometheus.ask("ALERTS_FOR_STATE") {
            let active = value(&series);
            let sight = Sight {
                active,
                firing: None,
            };
            self.sights.entry(of(&series)).or_insert(sight);
        }
        for series in self.prometheus.ask(r#"ALERTS{alertstate="firing"}"#) {
            if let Some(sight) = self.sights.get_mut(&of(&series)) {
                sight.firing.get_or_insert_with(now);
            }
        }
    }

    fn table(&mut self) {
        println!(
            "{:<24} {:>5}  {:<30} {:>15} {:>13}",
            "hosts that turned bad", "hosts", "found by", "active after", "firing after"
        );
        let waits = self.waits();
        for state in &STATES {
            if let Some(alert) = state.alert {
                let wait = waits.get(alert).copied().unwrap_or_default();
                self.row(state, alert, wait);
            }
        }
    }

    /// How long each alert waits until it fires, in seconds.
    fn waits(&self) -> BTreeMap<String, f64> {
        let (rules, _time) = self.prometheus.api("rules", &[("type", "alert")]);
        let groups = rules["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let wait = |rule: &Value| {
            let name = rule["name"].as_str()?.to_owned();
            Some((name, rule["duration"].as_f64()?))
        };
        rules.filter_map(wait).collect()
    }

    /// A line of the table: of several hosts the one that took longest.
    fn row(&mut self, state: &State, alert: &str, wait: f64) {
        let turned = self.fleet.turned();
        let hosts = self.fleet.hosts.iter();
        let hosts: Vec<&Host> = hosts.filter(|host| host.state.name == state.name).collect();
        let (mut scrapes, mut active, mut firing) = (0, 0.0_f64, Some(0.0_f64));
        let mut found = 0;
        for host in &hosts {
            let name = &host.name;
            let Some(sight) = self.sights.get(&(alert.to_owned(), name.clone())) else {
                let failure = format!("{name} ({}) was not found by {alert}", state.name);
                self.failures.push(failure);
                continue;
            };
            let needed = self.scrapes(name, sight.active);
            if needed > SCRAPES {
                let failure = format!("{name} ({}) was found after {needed} scrapes", state.name);
                self.failures.push(failure);
            }
            found += 1;
            scrapes = scrapes.max(needed);
            active = active.max(sight.active - turned);
            firing = firing
                .zip(sight.firing)
                .map(|(most, at)| most.max(at - turned));
        }
        let active = if found == hosts.len() {
            let plural = if scrapes == 1 { "" } else { "s" };
            format!("{scrapes} scrape{plural}, {active:.0} s")
        } else {
            format!("{found} found")
        };
        let firing = firing.map_or(format!("(for: {wait} s)"), |after| format!("{after:.0} s"));
        println!(
            "{:<24} {:>5}  {alert:<30} {active:>15} {firing:>13}",
            state.name,
            hosts.len()
        );
    }

    /// How often a host was scraped from its turning until a moment, by Prometheus' own times; a scrape that was
    /// under way when it turned is one.
    fn scrapes(&self, host: &str, until: f64) -> usize {
        let time = until.to_string();
        let range = ((until - self.fleet.turned()) * 1e3).max(1.0);
        let query = format!("count_over_time(up{{instance=\"{host}\"}}[{range:.0}ms])");
        let at = [("query", query.as_str()), ("time", &time)];
        let (data, _time) = self.prometheus.api("query", &at);
        data["result"].get(0).map_or(1, |of| value(of) as usize)
    }

    fn false_alarms(&mut self) {
        let expected = |alert: &str, name: &str| {
            let host = self.fleet.hosts.iter().find(|host| host.name == name);
            host.is_some_and(|host| {
                host.state.alert == Some(alert) || host.state.also.contains(&alert)
            })
        };
        let alarms = self.sights.keys();
        let unexpected = alarms.filter(|(alert, host)| !expected(alert, host));
        let unexpected: Vec<_> = unexpected
            .map(|(alert, host)| format!("false alarm: {alert} on {host}"))
            .collect();
        println!("false alarms: {}", unexpected.len());
        self.failures.extend(unexpected);
    }
}
