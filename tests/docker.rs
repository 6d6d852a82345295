//! A real Docker daemon beside the guard: real containers, real restarts.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

#[allow(dead_code, reason = "each test uses a part of the lab")]
mod lab;

use std::time::Duration;

use lab::Lab;
use lab::docker::{Docker, Programs};
use lab::imds::ROLE;
use lab::wait::eventually;

const URL: &str = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
const TIME: Duration = Duration::from_secs(20);

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
    daemon.wait_for_log("keeping the rules", TIME);
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
        eventually(TIME, "the daemon re-tops its rules", || {
            daemon.log()[seen..].contains("imds-block: 3 rules displaced, put right")
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

fn credentials() -> String {
    format!(
        "http://169.254.170.2/v2/credentials/{}",
        lab::imds::CREDENTIALS_ID
    )
}
