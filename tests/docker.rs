//! A real Docker daemon beside the guard: real containers, real restarts.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

use lab::Lab;
use lab::daemon::{Daemon, binary, with_paths};
use lab::docker::{Docker, IMAGE, Programs};
use lab::imds::ROLE;
use lab::wait::{LONG, eventually};

const URL: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";

fn blocked(docker: &Docker<'_>, container: &str) -> bool {
    docker.wget(container, URL).is_err()
}

#[test]
fn containers_stay_blocked_through_docker_restarts_and_new_networks() {
    let lab = Lab::builder().without_docker0().build();
    let mut docker = lab.start_docker(&Programs::get().unwrap());
    docker.container("one", "bridge");
    assert_eq!(
        docker.wget("one", URL).as_deref(),
        Ok(ROLE),
        "the lab itself"
    );

    let wish = "ECS_AWSVPC_BLOCK_IMDS=true\nECS_ENABLE_TASK_IAM_ROLE=true\n";
    let daemon = lab.start_daemon(wish);
    daemon.wait_for_log("the rules are kept with", LONG);
    assert!(blocked(&docker, "one"));
    assert!(
        docker
            .wget("one", &credentials())
            .unwrap()
            .contains("AccessKeyId")
    );

    for round in 1..=2 {
        let seen = daemon.log().len();
        docker.restart();
        eventually(LONG, "the daemon re-tops its rules", || {
            daemon.log()[seen..].contains("imds-block: 4 rules displaced, repaired")
        });
        docker.docker(&["start", "one"]);
        assert!(blocked(&docker, "one"), "after restart {round}");
        assert!(
            docker
                .wget("one", &credentials())
                .unwrap()
                .contains("AccessKeyId")
        );
    }

    docker.docker(&["network", "create", "custom"]);
    docker.container("two", "custom");
    assert!(blocked(&docker, "two"), "a network made after the rules");
    docker.container("three", "custom");
    for (from, to) in [("two", "three"), ("one", "10.0.0.1")] {
        let answer = docker.exec(from, &["ping", "-c", "1", "-W", "2", to]);
        assert!(
            answer.is_ok(),
            "{from} and {to} are still connected: {answer:?}"
        );
    }
}

/// A bridge that dockerd's command line names, and no file does.
#[test]
fn the_default_bridge_is_the_one_that_dockerd_was_started_with() {
    let lab = Lab::builder().without_docker0().build();
    lab.host.sh(
        "ip link add mybr0 type bridge; ip addr add 172.20.0.1/16 dev mybr0; ip link set mybr0 up",
    );
    let docker = lab.start_docker_with(&Programs::get().unwrap(), &["--bridge", "mybr0"]);
    docker.container("one", "bridge");
    assert_eq!(docker.wget("one", URL).as_deref(), Ok(ROLE), "the lab");
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let beside = docker.beside(binary().to_str().unwrap()).arg("apply");
    with_paths(beside, &lab).run();
    assert!(blocked(&docker, "one"));
    // As ecs-init has it, whose own ACCEPT for the bridge must not stand below a DROP.
    let rules = lab.host.sh("iptables -S INPUT");
    assert!(
        rules.contains("-i mybr0 -p tcp -m tcp --dport 51678"),
        "{rules}"
    );
    assert!(!rules.contains("docker0"), "{rules}");
}

/// As the ECS agent makes one where tasks have no cgroups, its cable cut: a container without a
/// network, into which an interface is moved.
#[test]
fn a_task_is_known_by_the_labels_of_its_pause_container() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let lab = Lab::builder().without_docker0().build();
    // Where Docker has it on a host: the handles are below it.
    let docker = lab.start_docker_with(&Programs::get().unwrap(), &["--exec-root", "/run/docker"]);
    let arn = format!("com.amazonaws.ecs.task-arn=arn:aws:ecs:eu-central-1:1:task/lab/{ID}");
    for (name, role, address) in [
        ("pause", "~internal~ecs~pause", "10.0.0.91"),
        ("stranger", "app", "10.0.0.92"),
    ] {
        let role = format!("com.amazonaws.ecs.container-name={role}");
        docker.docker(&[
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "none",
            "--label",
            &role,
            "--label",
            &arn,
            IMAGE,
            "sleep",
            "1000000",
        ]);
        let pid = docker.container_pid(name);
        let script = format!(
            "ip link add link ens5 name eni type macvlan mode bridge
             ip link set eni netns {pid} name eth1
             nsenter --target {pid} --net sh -ec '
                ip addr add {address}/24 dev eth1; ip link set eth1 up
                ip route add default via 10.0.0.1'"
        );
        docker.beside("sh").args(["-ec", &script]).run();
        assert_eq!(docker.wget(name, URL).as_deref(), Ok(ROLE), "the lab");
    }
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    // The edge would stop the stranger on the host's side.
    lab.write(
        "config.toml",
        "[edge]\nenabled = false\nraw_frames = \"accept\"\n",
    );
    let _daemon = daemon_beside(&docker, &lab);
    let status = eventually(LONG, "the task is held", || {
        let status = lab.netguard(["status", "--json"]).output().unwrap().stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        (status["tasks"][0]["standing"] == "held").then_some(status)
    });
    assert_eq!(status["tasks"][0]["id"], ID, "{status}");
    assert_eq!(status["tasks"].as_array().unwrap().len(), 1, "{status}");
    assert!(blocked(&docker, "pause"));
    assert_eq!(docker.wget("stranger", URL).as_deref(), Ok(ROLE));
}

/// The guard, where Docker's mounts and processes are to be seen.
fn daemon_beside(docker: &Docker<'_>, lab: &Lab) -> Daemon {
    let beside = docker.beside(binary().to_str().unwrap()).arg("run");
    let daemon = Daemon::start(with_paths(beside, lab));
    daemon.wait_for_log("the rules are kept with", LONG);
    daemon
}

#[test]
fn a_privileged_container_is_named_and_the_agents_own_is_not() {
    let lab = Lab::builder().without_docker0().build();
    let docker = lab.start_docker(&Programs::get().unwrap());
    let run = |name: &str, more: &[&str]| {
        let first = ["run", "--detach", "--name", name, "--network", "none"];
        docker.docker(&[&first, more, &[IMAGE, "sleep", "1000000"]].concat())
    };
    run("plain", &[]);
    run(
        "ecs-agent",
        &["--cap-add", "NET_ADMIN", "--cap-add", "SYS_ADMIN"],
    );
    let arn = "com.amazonaws.ecs.task-arn=arn:aws:ecs:eu-west-1:012345678901:task/cluster/0f3a";
    let router = run("router", &["--cap-add", "NET_ADMIN", "--label", arn]);
    lab.write("ecs.config", "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let often = "[verify]\ninterval = \"2s\"\n";
    lab.write("config.toml", often);
    let _daemon = daemon_beside(&docker, &lab);
    let status = || {
        let json = lab.netguard(["status", "--json"]).output().unwrap();
        let text = lab.netguard(["status"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        (json, String::from_utf8(text.stdout).unwrap())
    };
    let (json, text) = status();
    let named = serde_json::json!([{
        "id": router, "name": "router", "task": "0f3a", "powers": ["net-admin"]
    }]);
    assert_eq!(json["privileged"], named, "{json}");
    assert!(
        text.starts_with("PROTECTED, except from 1 privileged container  "),
        "{text}"
    );
    let line = format!(
        "container router ({}) of task 0f3a: CAP_NET_ADMIN",
        &router[..12]
    );
    assert!(text.contains(&line), "{text}");
    // An operator that does not accept that has it undecided.
    lab.write(
        "config.toml",
        format!("{often}[tasks]\nprivileged = \"undecided\"\n"),
    );
    eventually(LONG, "the block is undecided", || {
        status().0["state"] == "undecided"
    });
    let text = status().1;
    assert!(text.starts_with("UNDECIDED"), "{text}");
    docker.docker(&["rm", "--force", "router"]);
    eventually(LONG, "the block holds again", || {
        status().0["state"] == "protected"
    });
    assert!(status().1.starts_with("PROTECTED  "));
}

fn credentials() -> String {
    format!(
        "http://169.254.170.2/v2/credentials/{}",
        lab::imds::CREDENTIALS_ID
    )
}
