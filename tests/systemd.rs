//! What is said to systemd, and the descriptors that it keeps over a `kill -9`.

use std::env;
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use ecs_netguard::os::inherited::Inherited;
use ecs_netguard::systemd;
use lab::Lab;
use lab::daemon::Daemon;
use lab::namespace::NsCommand;
use lab::systemd::FdStore;
use lab::wait::{LONG, eventually};

const ROLE: &str = "SERVICE_UNDER_TEST";

/// This test program again, as a service: it runs the one function [`service`].
fn run_service<'a>(lab: &'a Lab, role: &str) -> NsCommand<'a> {
    lab.host
        .command(env::current_exe().unwrap())
        .args([
            "--exact",
            "systemd::service",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
}

/// What the service has to tell the test that started it.
fn say(text: &str) {
    sd_notify::notify(&[sd_notify::NotifyState::Status(text)]).unwrap();
}

/// The service's own side; with one thread, the harness calls it from `main`'s.
#[test]
fn service() {
    let Ok(role) = env::var(ROLE) else {
        return; // Not started as a service: the other tests do that.
    };
    let mut inherited = Inherited::take();
    match role.as_str() {
        "first" => {
            assert!(inherited.problem().is_none() && inherited.named("seal").is_none());
            let seal = UdpSocket::bind("127.0.0.1:0").unwrap();
            let other = File::open("/dev/null").unwrap();
            systemd::store(other.as_fd(), "other").unwrap();
            systemd::store(seal.as_fd(), "seal").unwrap();
            say(&format!("at {}", seal.local_addr().unwrap()));
            systemd::ready().unwrap();
            loop {
                std::thread::park();
            }
        }
        "second" => {
            assert_eq!(inherited.problem(), None);
            assert_eq!(
                env::vars().find(|(name, _)| name.starts_with("LISTEN_")),
                None
            );
            let seal = UdpSocket::from(inherited.named("seal").unwrap());
            assert!(inherited.named("seal").is_none());
            assert!(inherited.named("other").is_some());
            let listing = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
            let listing = String::from_utf8(listing.unwrap().stdout).unwrap();
            assert!(!listing.contains("socket:"), "a child has it: {listing}");
            systemd::watchdog().unwrap();
            let interval = systemd::watchdog_interval().unwrap();
            say(&format!("at {}", seal.local_addr().unwrap()));
            say(&format!("every {interval:?}"));
            systemd::stopping().unwrap();
        }
        "misled" => {
            assert!(inherited.named("seal").is_none());
            say(inherited.problem().unwrap_or("nothing wrong"));
        }
        "alone" => {
            assert!(inherited.problem().is_none());
            let file = File::open("/dev/null").unwrap();
            systemd::store(file.as_fd(), "seal").unwrap();
            systemd::ready().unwrap();
            assert_eq!(systemd::watchdog_interval(), None);
        }
        "unheard" => {
            let error = systemd::ready().unwrap_err().to_string();
            assert!(error.contains("READY=1"), "{error}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_stored_descriptor_survives_kill_9() {
    let lab = Lab::new();
    let systemd = FdStore::listen(&lab);
    let mut first = Daemon::start(systemd.give(&lab, run_service(&lab, "first")));
    systemd.wait_for("READY=1", LONG);
    let said = systemd.said();
    let address = said.iter().find_map(|said| said.strip_prefix("STATUS=at "));
    let address = address.unwrap();
    assert!(said.contains(&"FDPOLL=0".to_owned()), "{said:?}");
    assert_eq!(systemd.names(), ["other", "seal"]);
    first.kill();

    let bind = |address: String| lab.host.run(move || UdpSocket::bind(address).map(drop));
    let taken = bind(address.to_owned()).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse, "it lives on");

    let service = run_service(&lab, "second").env("WATCHDOG_USEC", "30000000");
    let mut second = Daemon::start(systemd.give(&lab, service));
    let exit = second.wait(LONG);
    assert!(exit.success(), "{}", second.log());
    systemd.wait_for("STOPPING=1", LONG);
    systemd.wait_for("WATCHDOG=1", LONG);
    systemd.wait_for("STATUS=every 15s", LONG);
    assert!(systemd.said().contains(&format!("STATUS=at {address}")));
    systemd.empty();
    // A program that another test starts has what is open here until it is executed.
    eventually(LONG, "nobody keeps the socket", || {
        bind(address.to_owned()).is_ok()
    });
}

#[test]
fn a_systemd_that_does_not_read_does_not_hold_up_the_daemon() {
    let lab = Lab::new();
    let notify = lab.dir().join("notify");
    let _systemd = UnixDatagram::bind(&notify).unwrap();
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let run = lab.netguard(["run"]);
    let mut daemon = Daemon::start(run.env("NOTIFY_SOCKET", lab.inside("notify")));
    daemon.wait_for_log("the rules are kept with", LONG);
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"X=1", &notify).is_ok() {}
    daemon.hangup();
    daemon.wait_for_log("tell systemd READY=1", LONG);
    assert_eq!(lab.get("/healthz").status, 200);
    daemon.terminate();
}

#[test]
fn wrong_announcements_are_said_and_nothing_is_taken() {
    let lab = Lab::new();
    let systemd = FdStore::listen(&lab);
    for (pid, fds, names, said) in [
        ("1", "1", "seal", "STATUS=nothing wrong"),
        (
            "me",
            "1",
            "seal",
            "STATUS=the descriptors that systemd kept",
        ),
    ] {
        let service = run_service(&lab, "misled")
            .env("LISTEN_PID", pid)
            .env("LISTEN_FDS", fds)
            .env("LISTEN_FDNAMES", names);
        let mut service = Daemon::start(systemd.give(&lab, service));
        let exit = service.wait(LONG);
        assert!(exit.success(), "{}", service.log());
        systemd.wait_for(said, LONG);
    }
}

#[test]
fn without_systemd_nothing_is_said_and_nothing_fails() {
    let lab = Lab::new();
    let exit = Daemon::start(run_service(&lab, "alone")).wait(LONG);
    assert!(exit.success());
    let unheard = run_service(&lab, "unheard").env("NOTIFY_SOCKET", lab.inside("nobody"));
    assert!(Daemon::start(unheard).wait(LONG).success());
}
