//! The exporter: what the status socket answers, on TCP.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use ecs_netguard::status::server::MAX_CONNECTIONS;
use lab::Lab;
use lab::daemon::{Daemon, binary, with_paths};
use lab::namespace::NsCommand;
use lab::socket::{Reply, reply};
use lab::wait::{LONG, eventually};
use nix::sys::signal::Signal;

/// Where it listens unless it is told otherwise.
const ADDRESS: &str = "127.0.0.1:9877";
const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS=true\n";

fn guard(lab: &Lab) -> Daemon {
    let daemon = lab.start_daemon(BLOCK);
    daemon.wait_for_log("the rules are kept with", LONG);
    daemon
}

fn listening(command: NsCommand<'_>) -> Daemon {
    let exporter = Daemon::start(command);
    exporter.wait_for_log(&format!("are served on http://{ADDRESS}"), LONG);
    exporter
}

fn exporter(lab: &Lab) -> Daemon {
    listening(lab.netguard(["exporter"]))
}

/// A connection to the exporter, from the host itself.
fn connect(lab: &Lab) -> std::io::Result<TcpStream> {
    let stream = lab.host.run(|| TcpStream::connect(ADDRESS))?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

fn send(lab: &Lab, request: &str) -> Option<Reply> {
    let mut stream = connect(lab).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    reply(stream)
}

fn get(lab: &Lab, target: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    send(lab, &request).unwrap_or_else(|| panic!("{target}: closed without an answer"))
}

#[test]
fn metrics_and_healthz_are_handed_over_and_nothing_else() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let (_daemon, _exporter) = (guard(&lab), exporter(&lab));
    let text = get(&lab, "/metrics");
    assert_eq!(text.status, 200, "{text:?}");
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(text.head.contains(kind), "{}", text.head);
    let protected = "\necs_netguard_state{state=\"protected\"} 1\n";
    assert!(text.body.contains(protected), "{}", text.body);
    let asked = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
    let open = send(&lab, asked).unwrap();
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(open.head.contains(kind), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    assert_eq!(
        lab.host.sh("curl -s http://127.0.0.1:9877/healthz"),
        "protected\n"
    );

    let head = send(&lab, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for (target, status) in [
        ("/", 404),
        ("/v1/status", 404),
        ("/v1/events?follow", 404),
        ("/metrics/", 404),
        ("/metrics?x=1", 400),
        ("/v1/../metrics", 404),
        ("http://elsewhere/v1/status", 404),
    ] {
        let reply = get(&lab, target);
        assert_eq!(reply.status, status, "{target}: {reply:?}");
        assert!(reply.body.starts_with("{\"error\":"), "{target}: {reply:?}");
    }
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\nx";
    let post = send(&lab, post).unwrap();
    assert_eq!(post.status, 405, "{post:?}");

    // What iptables cannot list truthfully cannot be judged.
    lab.host
        .sh("nft insert rule ip filter INPUT tcp dport 51679 meta cpu 0 drop");
    let health = eventually(LONG, "the host is undecided", || {
        let health = get(&lab, "/healthz");
        (health.status == 503).then_some(health)
    });
    assert!(health.body.starts_with("undecided: "), "{health:?}");
}

#[test]
fn a_daemon_that_is_gone_or_silent_is_503_until_it_answers_again() {
    let lab = Lab::new();
    let _exporter = exporter(&lab);
    let refused = |why: &str| {
        for target in ["/metrics", "/healthz"] {
            let reply = get(&lab, target);
            assert_eq!(reply.status, 503, "{target}: {reply:?}");
            assert!(reply.body.contains(why), "{target}: {reply:?}");
        }
    };
    refused("no daemon answers on /run/lab/run/status.sock");
    let mut daemon = guard(&lab);
    assert_eq!(get(&lab, "/metrics").status, 200);
    daemon.signal(Signal::SIGSTOP);
    refused("no answer within 2s");
    // More clients than the daemon is asked for at once: each is told.
    thread::scope(|scope| {
        let clients: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| scope.spawn(|| get(&lab, "/metrics")))
            .collect();
        for client in clients {
            let reply = client.join().unwrap();
            assert_eq!(reply.status, 503, "{reply:?}");
        }
    });
    daemon.signal(Signal::SIGCONT);
    assert_eq!(get(&lab, "/healthz").body, "protected\n");
    daemon.kill();
    refused("systemctl status ecs-netguard");
    let _next = guard(&lab);
    assert_eq!(get(&lab, "/metrics").status, 200);
}

#[test]
fn a_crowd_is_answered_and_those_who_say_nothing_keep_no_other_out() {
    let lab = Lab::new();
    let (_daemon, mut exporter) = (guard(&lab), exporter(&lab));
    let silent: Vec<TcpStream> = (0..500).map_while(|_| connect(&lab).ok()).collect();
    assert!(silent.len() > MAX_CONNECTIONS * 4, "{}", silent.len());
    assert_eq!(get(&lab, "/healthz").status, 200);
    let mut slow = connect(&lab).unwrap();
    slow.write_all(b"GET /metrics HT").unwrap();
    thread::scope(|scope| {
        let crowd: Vec<_> = (0..MAX_CONNECTIONS / 2)
            .map(|_| scope.spawn(|| (0..5).all(|_| get(&lab, "/metrics").status == 200)))
            .collect();
        // Of the daemon's own places the crowd takes few.
        assert_eq!(lab.get("/healthz").status, 200);
        assert!(crowd.into_iter().all(|client| client.join().unwrap()));
    });
    assert!(reply(slow).is_none(), "it is closed without an answer");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let mut stream = connect(&lab).unwrap();
    // It may answer and close before all has been sent.
    let _ = stream.write_all(long.as_bytes());
    let status = reply(stream).map(|reply| reply.status);
    assert!([None, Some(414), Some(431)].contains(&status), "{status:?}");
    assert!(exporter.is_running());
    assert_eq!(get(&lab, "/healthz").status, 200);
}

#[test]
fn the_group_is_all_that_it_needs() {
    let lab = Lab::new();
    lab.write("group", "root:x:0:\necs-netguard:x:4242:\n");
    lab.host
        .shadow("/run/lab/group".as_ref(), "/etc/group".as_ref())
        .unwrap();
    let _daemon = guard(&lab);
    let as_user = |groups: &str| {
        let command = lab.host.command("setpriv");
        let command = command.args(["--reuid=1000", "--regid=1000", "--bounding-set=-all"]);
        let command = command.args([groups]).arg(binary()).arg("exporter");
        listening(with_paths(command, &lab))
    };
    let mut member = as_user("--groups=4242");
    assert_eq!(get(&lab, "/healthz").body, "protected\n");
    member.terminate();
    let _stranger = as_user("--clear-groups");
    let reply = get(&lab, "/healthz");
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(
        reply.body.contains("root and the group ecs-netguard only"),
        "{reply:?}"
    );
}

#[test]
fn an_address_that_cannot_be_had_ends_it_with_the_reason() {
    let lab = Lab::new();
    let _first = exporter(&lab);
    for (address, expected) in [
        (ADDRESS, "cannot listen on 127.0.0.1:9877"),
        ("192.0.2.1:9877", "cannot listen on 192.0.2.1:9877"),
        (":9877", "expected an IP address and a port"),
    ] {
        let output = lab.netguard(["exporter", "--listen", address]).output();
        let output = output.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}: {message}");
        assert!(message.contains(expected), "{address}: {message}");
    }
}
