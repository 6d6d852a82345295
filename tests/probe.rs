//! `ecs-netguard probe` on a small host: what it says of each packet is what the metadata service counts,
//! and what `check` proves.

mod addresses;
mod left_behind;
mod record;
mod rules;
mod tasks;

use std::net::IpAddr;

use lab::Lab;
use lab::probe::proto;
use serde_json::Value;

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";

/// Tasks of other hosts on this machine are no business of this one: where no task is meant, none is looked
/// for.
const NO_TASKS: &str = "[imds]\nawsvpc = \"never\"\n";

/// What a probe found.
struct Probed {
    code: i32,
    json: Value,
}

/// A host on which the guard is at work, with no tasks and what more stands in config.toml.
#[track_caller]
fn guarded(more: &str) -> Lab {
    let lab = Lab::new();
    configure(&lab, more);
    lab.netguard(["apply"]).output().unwrap();
    lab
}

/// The same before anything is in place.
#[track_caller]
fn configure(lab: &Lab, more: &str) {
    lab.write("ecs.config", BLOCK);
    lab.write("config.toml", format!("{NO_TASKS}{more}"));
}

/// Probes a host.
#[track_caller]
fn probe(lab: &Lab, arguments: &[&str]) -> Probed {
    let output = lab
        .netguard(["probe", "--json"].iter().chain(arguments))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout);
    Probed {
        code: output.status.code().unwrap(),
        json: json.unwrap_or_else(|e| panic!("{e}: {error}")),
    }
}

/// Probes, and holds what is said of each packet against what the metadata service counted, and the whole
/// against `check`.
#[track_caller]
fn probe_and_compare(lab: &Lab) -> Probed {
    lab.counter().reset();
    let probed = probe(lab, &[]);
    probed.is_what_arrived(lab);
    let check = lab.netguard(["check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(probed.code), "{probed}");
    for guarantee in probed.list("guarantees") {
        if !guarantee["packets"].is_null() {
            assert_eq!(guarantee["packets"], guarantee["check"], "{probed}");
        }
    }
    assert_eq!(probed.json["disagreements"], Value::Null, "{probed}");
    probed
}

impl std::fmt::Display for Probed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}: {:#}", self.code, self.json)
    }
}

impl Probed {
    fn list(&self, key: &str) -> Vec<Value> {
        self.json[key].as_array().cloned().unwrap_or_default()
    }

    /// What came of one place, by its kind and name.
    #[track_caller]
    fn place(&self, kind: &str, name: &str) -> Value {
        let all = self.list("places");
        let is = |place: &&Value| {
            let from = &place["from"];
            from["kind"] == kind && (name.is_empty() || from["name"] == name || from["id"] == name)
        };
        let found = all.iter().find(is);
        found
            .unwrap_or_else(|| panic!("no {kind} {name}: {self}"))
            .clone()
    }

    /// How the packets of a place are seen: each word once.
    #[track_caller]
    fn seen(&self, kind: &str, name: &str, what: impl Fn(&str) -> bool) -> Vec<String> {
        let place = self.place(kind, name);
        let rows = place["rows"].as_array().unwrap().iter();
        let rows = rows.filter(|row| what(row["what"].as_str().unwrap()));
        let mut words: Vec<String> = rows
            .map(|row| {
                let layer = row["layer"].as_str().map(|layer| format!(" by {layer}"));
                format!(
                    "{}{}",
                    row["seen"].as_str().unwrap(),
                    layer.unwrap_or_default()
                )
            })
            .collect();
        words.sort();
        words.dedup();
        words
    }

    /// Of each place but the host's: a packet of a protocol is said to have reached the service if and only
    /// if the service counted one from there.
    #[track_caller]
    fn is_what_arrived(&self, lab: &Lab) {
        let arrived = lab.counter().arrived();
        for place in self.list("places") {
            if ["host", "host-tasks"].contains(&place["from"]["kind"].as_str().unwrap()) {
                continue;
            }
            for source in place["sources"].as_array().unwrap() {
                let source: IpAddr = source.as_str().unwrap().parse().unwrap();
                for protocol in [
                    proto::TCP,
                    proto::UDP,
                    if source.is_ipv4() {
                        proto::ICMP
                    } else {
                        proto::ICMPV6
                    },
                    proto::EXPERIMENT,
                ] {
                    let said = place["rows"].as_array().unwrap().iter().any(|row| {
                        let to: IpAddr = row["to"].as_str().unwrap().parse().unwrap();
                        let reached = row["seen"] == "answered" || row["seen"] == "left";
                        protocol_of(row) == Some(protocol)
                            && to.is_ipv4() == source.is_ipv4()
                            && reached
                    });
                    let came = arrived.of(source, protocol) > 0;
                    assert_eq!(said, came, "{protocol} from {source}: {arrived:?} {self}");
                }
            }
        }
    }
}

/// The IP protocol of a packet; absent for connections to the credentials endpoint.
fn protocol_of(row: &Value) -> Option<u8> {
    let ipv6 = row["to"].as_str().unwrap().contains(':');
    Some(match row["what"].as_str().unwrap() {
        "connect" => return None,
        "udp" => proto::UDP,
        "icmp" if ipv6 => proto::ICMPV6,
        "icmp" => proto::ICMP,
        "protocol-253" => proto::EXPERIMENT,
        _ => proto::TCP,
    })
}

/// Everything but connections.
fn packets(what: &str) -> bool {
    what != "connect"
}

fn connections(what: &str) -> bool {
    !packets(what)
}
