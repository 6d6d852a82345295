//! The simulated hosts, served from one process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use lab::Lab;
use lab::http::{Handler, Request, Response, Server};
use serde_json::{Value, json};

use super::INTERVAL;
use super::recording::{STATES, Source, State, Way, now};
use super::text::{Story, Times};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9876);
/// In which the daemon answers whoever does not name OpenMetrics: the same figures.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How many hosts of each bad state there are, at most.
const PLANTED: usize = 3;
/// A daemon that is gone is one that has not verified anything for that long: what EcsNetguardSilent waits for.
pub(super) const SILENT_FOR: f64 = 300.0;

/// One of them.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) state: &'static State,
    pub(super) way: Way,
    story: Arc<Story>,
}

/// All of them.
pub(super) struct Fleet {
    pub(super) start: f64,
    pub(super) hosts: Vec<Host>,
    turned: Mutex<Option<f64>>,
}

impl Fleet {
    /// So many hosts: some of each bad state, a tenth of the old version, the rest healthy. `story` is what was
    /// recorded of each state.
    pub(super) fn new(size: usize, stories: &[Arc<Story>]) -> Self {
        let each = (size / 2 / STATES.len()).clamp(1, PLANTED);
        let planted = STATES
            .iter()
            .zip(stories)
            .filter(|(state, _)| state.alert.is_some());
        let mut kinds: Vec<_> = planted.flat_map(|kind| vec![kind; each]).collect();
        let of = |source| {
            STATES
                .iter()
                .zip(stories)
                .find(|(state, _)| state.source == source)
        };
        let kind = |source| of(source).expect("one of each source");
        kinds.extend(vec![kind(Source::Old); size / 10]);
        let well = size.saturating_sub(kinds.len());
        kinds.extend(vec![kind(Source::Recorded); well]);
        let host = |(number, (state, story)): (usize, (&'static State, &Arc<Story>))| Host {
            name: format!("host-{number:04}"),
            state,
            // The old version has no exporter.
            way: match state.way {
                Some(way) => way,
                None if state.source == Source::Old || number.is_multiple_of(2) => Way::Textfile,
                None => Way::Exporter,
            },
            story: Arc::clone(story),
        };
        Self {
            start: now(),
            hosts: kinds.into_iter().enumerate().map(host).collect(),
            turned: Mutex::default(),
        }
    }

    /// Serves them on a port of the lab's host.
    pub(super) fn serve(self: &Arc<Self>, lab: &Lab) -> io::Result<Server> {
        let fleet = Arc::clone(self);
        let handler: Arc<Handler> = Arc::new(move |request, _| fleet.answer(request));
        Server::patient(&lab.host, ADDRESS, INTERVAL, handler)
    }

    /// What Prometheus scrapes: a job for each way, a target for each host.
    pub(super) fn scrape_configs(&self) -> Value {
        let targets = |way| {
            let hosts = self.hosts.iter().enumerate();
            let targets = hosts
                .filter(|(_, host)| host.way == way)
                .map(|(number, host)| {
                    json!({
                        "targets": [ADDRESS.to_string()],
                        "labels": {
                            "instance": host.name,
                            "__metrics_path__": format!("/host/{number}/metrics"),
                        },
                    })
                });
            targets.collect::<Vec<_>>()
        };
        json!([
            { "job_name": "node", "static_configs": targets(Way::Textfile) },
            { "job_name": "ecs-netguard", "static_configs": targets(Way::Exporter) },
        ])
    }

    /// From now on the bad hosts are bad.
    pub(super) fn turn(&self) -> f64 {
        let at = now();
        *lock(&self.turned) = Some(at);
        at
    }

    /// When they turned bad.
    pub(super) fn turned(&self) -> f64 {
        lock(&self.turned).expect("they have")
    }

    fn answer(&self, request: &Request) -> Response {
        let number = request.path.strip_prefix("/host/");
        let number = number.and_then(|rest| rest.strip_suffix("/metrics")?.parse::<usize>().ok());
        let Some(host) = number.and_then(|number| self.hosts.get(number)) else {
            return Response::status(404);
        };
        let turned = *lock(&self.turned);
        match self.text(host, turned) {
            Some(text) => Response {
                content_type: Some(TEXT),
                ..Response::ok(text)
            },
            None => Response::status(503),
        }
    }

    /// What a host answers now; `None` where its exporter finds no daemon.
    pub(super) fn text(&self, host: &Host, turned: Option<f64>) -> Option<String> {
        let gone = turned.filter(|_| matches!(host.state.source, Source::Dies | Source::OldDies));
        if gone.is_some() && host.way == Way::Exporter {
            return None;
        }
        let times = Times {
            start: self.start,
            turned,
            now: gone.unwrap_or_else(now),
            awake: gone.map_or_else(now, |at| at - SILENT_FOR),
        };
        Some(host.story.text(times))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
