use super::*;
use crate::tasks::sandboxes::sound;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn container(number: u8) -> String {
    format!("{number:064x}")
}

fn listed(container: &str, name: &str, arn: &str) -> String {
    format!(
        r#"{{"Id":"{container}","Names":["/x"],"Labels":{{"{NAME}":"{name}","{TASK}":"{arn}"}}}}"#
    )
}

#[test]
fn a_pause_container_tells_its_task() {
    let arn = format!("arn:aws:ecs:eu-central-1:123456789012:task/main/{ID}");
    let list = [
        listed(&container(1), PAUSE, &arn),
        listed(&container(2), "app", &arn),
        listed(&container(3), PAUSE, "a task"),
        format!(r#"{{"Id":"{}"}}"#, container(4)),
    ];
    let list = format!("[{}]", list.join(","));
    let found = pauses(list.as_bytes()).unwrap();
    assert_eq!(found, [(container(1), ID.to_owned())]);
    assert_eq!(pauses(b"[]").unwrap(), []);
}

#[test]
fn a_sandbox_is_the_name_of_dockers_handle() {
    let of = |key: &str| {
        let answer = format!(r#"{{"State":{{}},"NetworkSettings":{{"SandboxKey":"{key}"}}}}"#);
        sandbox(answer.as_bytes()).unwrap()
    };
    let name = "0123456789ab".to_owned();
    assert_eq!(of("/var/run/docker/netns/0123456789ab"), Some(name.clone()));
    assert_eq!(of("/run/docker/netns/0123456789ab"), Some(name));
    for other in [
        "",
        "/var/run/docker/netns/default",
        "/var/run/docker/netns/0123456789a",
        "/var/run/docker/netns/../0123456789ab",
        "/var/run/docker/netns/0123456789ag",
        "/proc/1/ns/net",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
}

#[test]
fn what_is_not_dockers_answer_is_said_and_nothing_more() {
    let arn = format!("arn:aws:ecs:eu-central-1:123456789012:task/main/{ID}");
    let cut_off = format!("[{}", listed(&container(1), PAUSE, &arn));
    let deep = "[".repeat(100_000);
    let odd_ids = [
        "",
        "..",
        "a/../../../images",
        &"g".repeat(64),
        &"0".repeat(65),
    ];
    let odd_ids = odd_ids.map(|id| format!("[{}]", listed(id, PAUSE, &arn)));
    let mut lists = vec!["", "{}", "null", "<html>", "[1]", "[{}]", &cut_off, &deep];
    lists.extend(odd_ids.iter().map(String::as_str));
    lists.push(r#"[{"Id":"","Labels":{"com.amazonaws.ecs.container-name":7}}]"#);
    for list in lists {
        let failure = pauses(list.as_bytes()).unwrap_err();
        assert!(matches!(failure, Failure::Broken(_)), "{list}: {failure}");
    }
    for inspected in ["", "{}", "[]", r#"{"NetworkSettings":{"SandboxKey":null}}"#] {
        assert!(sandbox(inspected.as_bytes()).is_err(), "{inspected}");
    }
    assert!(pauses(b"\xff\xfe").is_err());
}

#[test]
fn only_labels_of_the_right_form_are_taken() {
    let labels = [
        ("0123456789ab", ID),
        ("0123456789ac", "a\nb"),
        ("default", ID),
    ];
    let labels = labels.map(|(sandbox, id)| (sandbox.to_owned(), id.to_owned()));
    let sound: Vec<_> = sound(labels.into()).into_iter().collect();
    assert_eq!(sound, [("0123456789ab".to_owned(), ID.to_owned())]);
}
