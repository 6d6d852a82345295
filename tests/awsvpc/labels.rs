//! What only Docker's labels tell of.

use super::*;
use lab::docker_files::Container;
use lab::imds::IMDS;
use lab::task::{Eni, Plan};

/// With an interface of its own, and nothing on the host that says whose it is.
fn alone_with_docker(lab: &Lab) -> Task {
    let mut task = lab.task(Plan {
        bridged: false,
        eni: Eni::Macvlan,
        blackholes: false,
        ..Plan::default()
    });
    task.bind_handle(&lab.host);
    task
}

/// The container that Docker would list for it.
fn container(task: &Task, name: &str) -> Container {
    let arn = format!("arn:aws:ecs:eu-central-1:123456789012:task/lab/{}", task.id);
    Container {
        id: format!("{0}{0}", task.id),
        labels: serde_json::json!({
            "com.amazonaws.ecs.container-name": name,
            "com.amazonaws.ecs.task-arn": arn,
        }),
        sandbox_key: format!("/var/run/docker/netns/{}", task.sandbox()),
    }
}

#[test]
fn a_task_is_known_by_dockers_labels_and_an_unrelated_container_left_alone() {
    let lab = Lab::new();
    let docker = lab.docker_files();
    let (task, stranger) = (alone_with_docker(&lab), alone_with_docker(&lab));
    docker.add(&container(&task, "~internal~ecs~pause"));
    docker.add(&container(&stranger, "app"));
    let before = [&task, &stranger].map(|task| everything(&task.ns));
    assert!(task.ns.role_credentials_v1(IMDS).is_ok());
    let mut running = daemon(&lab);
    let found = wait_until_held(&lab, &task);
    assert_eq!(found["id"], task.id, "{found}");
    assert!(task.ns.role_credentials_v1(IMDS).is_err());
    // One that the port tells of has its name from there.
    let mut bridged = lab.task(Plan::default());
    docker.add(&container(&bridged, "~internal~ecs~pause"));
    bridged.bind_handle(&lab.host);
    eventually(LONG, "the task has its id", || {
        listed(&json(&lab, "status").0, &bridged).filter(|found| found["id"] == bridged.id)
    });
    let (status, _) = json(&lab, "status");
    assert_eq!(listed(&status, &stranger), None, "{status}");
    assert_eq!(everything(&stranger.ns), before[1]);
    let (check, _) = json(&lab, "check");
    assert_eq!(listed(&check, &task).unwrap()["id"], task.id, "{check}");
    running.terminate();
    lab.netguard(["release"]).run();
    assert_eq!([&task, &stranger].map(|task| everything(&task.ns)), before);
    bridged.stop(&lab.host);
    task.stop(&lab.host);
    stranger.stop(&lab.host);
}

#[test]
fn what_is_no_file_of_dockers_is_said_once_and_changes_nothing() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1s\"\n");
    let docker = lab.docker_files();
    let task = alone_with_docker(&lab);
    let container = container(&task, "~internal~ecs~pause");
    docker.write(&container.id, "{\"message\":\"out of order\"}");
    let before = everything(&task.ns);
    let daemon = daemon(&lab);
    let complaint = "config.v2.json is not what Docker writes: missing field `Config`";
    daemon.wait_for_log(complaint, LONG);
    let verified = || json(&lab, "status").0["verification"]["last"].clone();
    for _ in 0..3 {
        let last = verified();
        eventually(LONG, "everything is verified again", || verified() != last);
    }
    let log = daemon.log();
    assert_eq!(log.matches(complaint).count(), 1, "{log}");
    assert_eq!(everything(&task.ns), before);
    docker.add(&container);
    wait_until_held(&lab, &task);
    task.stop(&lab.host);
}

/// Docker writes down the network namespace of a container after that has started, and nothing reports it: no
/// verification is due within an hour.
#[test]
fn a_task_is_known_soon_after_docker_has_written_it_down() {
    let lab = Lab::new();
    lab.write("config.toml", "[verify]\ninterval = \"1h\"\n");
    let docker = lab.docker_files();
    let daemon = daemon(&lab);
    let task = alone_with_docker(&lab);
    std::thread::sleep(Duration::from_millis(500));
    docker.add(&container(&task, "~internal~ecs~pause"));
    wait_until_held(&lab, &task);
    drop(daemon);
    task.stop(&lab.host);
}
