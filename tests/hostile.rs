//! Clients of the status socket that mean no good, or do not know what they do.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread;

use ecs_netguard::status::server::{MAX_CONNECTIONS, MAX_FOLLOWERS};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use lab::Lab;
use lab::daemon::Daemon;
use lab::socket::reply;
use lab::tamper::Backend;
use lab::wait::{LONG, eventually, uninterrupted};

/// Instead of a status: the daemon closes without an answer.
const CLOSED: u16 = 0;

fn running() -> (Lab, Daemon) {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let daemon = lab.start_daemon("ECS_AWSVPC_BLOCK_IMDS=true\n");
    daemon.wait_for_log("the rules are kept with", LONG);
    (lab, daemon)
}

#[test]
fn what_is_no_request_is_refused_or_closed() {
    let (lab, mut daemon) = running();
    let long = "x".repeat(100_000);
    let headers: String = (0..200).map(|n| format!("h{n}: v\r\n")).collect();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("nothing at all", b"".to_vec(), &[CLOSED]),
        ("half a request", b"GET /v1/status HT".to_vec(), &[CLOSED]),
        ("binary", vec![0, 255, 22, 3, 1, 0, 10, 13, 10], &[400]),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            &[400],
        ),
        (
            "a long path",
            format!("GET /{long} HTTP/1.1\r\n\r\n").into(),
            &[414, 431],
        ),
        (
            "a long header",
            format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n").into(),
            &[431],
        ),
        ("a line without end", long.clone().into(), &[400, 414, 431]),
        (
            "many headers",
            format!("GET / HTTP/1.1\r\n{headers}\r\n").into(),
            &[431],
        ),
        (
            "an unknown version",
            b"GET / HTTP/9.9\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            &[CLOSED],
        ),
        (
            "traversal",
            b"GET /v1/../../etc/shadow HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[404],
        ),
        (
            "encoded traversal",
            b"GET /%2e%2e/etc HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[404],
        ),
        (
            "a NUL in the path",
            b"GET /v1/status\0 HTTP/1.1\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a bare CR",
            b"GET / HTTP/1.1\r\na: b\rc: d\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a CR in the path",
            b"GET /\rX HTTP/1.1\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a folded header",
            b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a blank before the colon",
            b"GET / HTTP/1.1\r\na : b\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "two lengths",
            b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a length that is none",
            b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "an unknown encoding",
            b"GET / HTTP/1.1\r\ntransfer-encoding: x\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "POST",
            b"POST /v1/status HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999999\r\n\r\nx".to_vec(),
            &[405],
        ),
        (
            "DELETE",
            b"DELETE /v1/rules HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[405],
        ),
        (
            "CONNECT",
            b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[405],
        ),
        (
            "a method of one's own",
            b"FROB /v1/status HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[405],
        ),
        (
            "a bad query",
            b"GET /v1/events?since=-1 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a query where none is",
            b"GET /v1/status?a HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            &[400],
        ),
    ];
    for (what, bytes, allowed) in cases {
        let reply = lab.send_and_end(&bytes);
        let status = reply.as_ref().map_or(CLOSED, |reply| reply.status);
        assert!(allowed.contains(&status), "{what}: {reply:?}");
        if let Some(reply) = reply.filter(|reply| reply.status == 405) {
            assert!(reply.head.contains("allow: GET, HEAD"), "{what}: {reply:?}");
        }
    }
    assert!(daemon.is_running());
    assert_eq!(lab.get("/healthz").status, 200);
}

#[test]
fn odd_but_whole_requests_are_answered() {
    let (lab, _daemon) = running();
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let half_closed = lab.send_and_end(request).unwrap();
    assert_eq!(
        (half_closed.status, half_closed.body.as_str()),
        (200, "protected\n")
    );
    // The first of several is answered; then the connection is over.
    let pipelined = lab.send(&request.repeat(3)).unwrap();
    assert_eq!(pipelined.body, "protected\n");
    let mut split = lab.connect().unwrap();
    for byte in request {
        split.write_all(&[*byte]).unwrap();
    }
    assert_eq!(reply(split).unwrap().status, 200);
    let head = lab
        .send(b"HEAD /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let head = lab
        .send(b"HEAD /v1/events?follow HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let old = lab.send(b"GET /v1/status HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.status, 200);
}

#[test]
fn a_silent_client_is_closed() {
    let (lab, _daemon) = running();
    let silent = lab.connect().unwrap();
    let mut slow = lab.connect().unwrap();
    slow.write_all(b"GET /healthz HT").unwrap();
    assert!(reply(silent).is_none());
    assert!(reply(slow).is_none());
}

#[test]
fn a_thousand_silent_clients_keep_no_other_out_and_nothing_waits_for_them() {
    let (lab, daemon) = running();
    // As many as may be open here; the rest waits in the kernel's queue for its turn to be closed.
    let silent: Vec<UnixStream> = (0..1000).map_while(|_| lab.connect().ok()).collect();
    assert!(silent.len() > MAX_CONNECTIONS * 4, "{}", silent.len());
    assert_eq!(lab.get("/healthz").status, 200);
    let seen = daemon.log().len();
    lab.tamper(Backend::Nft).flush("filter", Some("FORWARD"));
    eventually(LONG, "the flush is repaired anyway", || {
        daemon.log()[seen..].contains("repaired")
    });
    assert_eq!(lab.get("/healthz").status, 200);
    drop(silent);
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let (lab, _daemon) = running();
    let errors: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let reply = lab.send(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
                        let Some(reply) = reply else {
                            return Some("closed".to_owned());
                        };
                        if reply.status != 200 || !reply.body.ends_with("}\n") {
                            return Some(format!("{reply:?}"));
                        }
                    }
                    None
                })
            })
            .collect();
        clients
            .into_iter()
            .filter_map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(errors, [] as [String; 0]);
}

fn follow(lab: &Lab) -> (UnixStream, String) {
    let mut stream = lab.connect().unwrap();
    stream
        .write_all(b"GET /v1/events?follow HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    (stream, String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn followers_are_few_and_their_places_are_free_again_when_they_go() {
    let (lab, _daemon) = running();
    let mut followers: Vec<UnixStream> = Vec::new();
    for n in 0..MAX_FOLLOWERS {
        let (stream, head) = follow(&lab);
        assert_eq!(head, "HTTP/1.1 200", "follower {n}");
        followers.push(stream);
    }
    assert_eq!(follow(&lab).1, "HTTP/1.1 503");
    assert_eq!(lab.get("/healthz").status, 200);
    followers.pop();
    eventually(LONG, "a place is free again", || {
        follow(&lab).1 == "HTTP/1.1 200"
    });
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let lab = Lab::new();
    // More than a socket's buffers take.
    let long = "x".repeat(1000);
    let event = |n| {
        format!(
            "{{\"seq\":{n},\"time\":\"2026-01-01T00:00:00Z\",\"kind\":\"warning\",\"message\":\"{long}\"}}\n"
        )
    };
    lab.write(
        "state/events.jsonl",
        (1..=900).map(event).collect::<String>(),
    );
    let daemon = lab.start_daemon("");
    daemon.wait_for_log("the rules are kept with", LONG);
    let unread: Vec<UnixStream> = ["/v1/events", "/v1/events?follow"]
        .into_iter()
        .map(|target| {
            let mut stream = lab.connect().unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    for stream in &unread {
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
        let closed = uninterrupted(|| poll(&mut fds, PollTimeout::from(60_000_u16))).unwrap();
        assert_eq!(closed, 1, "still open");
        assert!(fds[0].revents().unwrap().contains(PollFlags::POLLHUP));
    }
    let all = lab.get("/v1/events").body;
    assert!(
        all.lines().count() > 900,
        "a client that reads gets all of it"
    );
}
