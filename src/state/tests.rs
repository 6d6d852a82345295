use std::fs;
use std::path::Path;

use super::file::{self, ASIDE, CURRENT, NEW, PREVIOUS, SCHEMA, Unusable};
use super::*;
use crate::guarantee::Guarantee;

fn sample(previous: &str) -> State {
    let mut state = State::empty();
    state.inputs.ecs = Last::Known(Asked {
        path: "/etc/ecs/ecs.config".into(),
        posture: Posture::everything("because"),
    });
    state
        .route_localnet
        .insert("all".into(), previous.to_owned());
    state
}

fn save(dir: &Path, state: State) {
    let mut store = Store::open(dir).0;
    store.state = state;
    assert_eq!(store.save(), None);
    assert!(store.is_saved());
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_checksum_is_the_one_that_everybody_means() {
    // The check value of CRC-32/ISO-HDLC in every catalogue.
    assert_eq!(file::crc32(b"123456789"), 0xCBF4_3926);
}

#[test]
fn what_was_saved_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("made/when/missing");
    save(&below, sample("0"));
    let (store, warning) = Store::open(&below);
    assert_eq!((&store.state, warning), (&sample("0"), None));
    assert!(store.is_saved());
    assert_eq!(names(&below), [CURRENT]);
    save(&below, sample("2"));
    assert_eq!(names(&below), [CURRENT, PREVIOUS]);
    assert_eq!(file::read(&below.join(PREVIOUS)), Ok(sample("0")));
}

/// As version 1 of this program wrote it.
const SCHEMA_1: &str = r#"{
  "schema": 1,
  "crc32": 533041989,
  "state": {
    "machine_id": "3d1219c7c4c5404aaa1f6d2a48adfda4",
    "boot_id": "d54d9cab-f8b3-4069-80ae-6bf8f6da25eb",
    "asked": {
      "path": "/run/t/ecs.config",
      "posture": [
        {"guarantee": "imds-block", "required": true,
         "reason": "ECS_AWSVPC_BLOCK_IMDS=true (/run/t/ecs.config:1)"},
        {"guarantee": "awsvpc-imds-block", "required": true,
         "reason": "ECS_AWSVPC_BLOCK_IMDS=true (/run/t/ecs.config:1)"},
        {"guarantee": "host-imds-block", "required": false,
         "reason": "host_tasks = false under [imds] in config.toml"},
        {"guarantee": "loopback-shield", "required": true,
         "reason": "route_localnet is needed: ECS_ENABLE_TASK_IAM_ROLE=true (/run/t/ecs.config:2)"},
        {"guarantee": "introspection-shield", "required": true,
         "reason": "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=false (default of ecs-init)"},
        {"guarantee": "task-credentials", "required": true,
         "reason": "ECS_ENABLE_TASK_IAM_ROLE=true (/run/t/ecs.config:2)"}
      ]
    },
    "route_localnet": {"all": "0"}
  }
}"#;

#[test]
fn an_upgrade_forgets_neither_what_was_asked_nor_what_the_sysctl_was() {
    let state = file::parse(SCHEMA_1).unwrap();
    assert_eq!(state.route_localnet["all"], "0");
    assert_eq!(state.inputs.settings, Last::Never);
    let Last::Known(asked) = &state.inputs.ecs else {
        panic!("{:?}", state.inputs.ecs);
    };
    assert!(asked.posture.requires(Guarantee::ImdsBlock));
    let mut document: serde_json::Value = serde_json::from_str(SCHEMA_1).unwrap();
    document["state"]["asked"] = serde_json::Value::Null;
    let content = serde_json::to_vec(&document["state"]).unwrap();
    document["crc32"] = file::checksum(1, &content).into();
    let state = file::parse(&document.to_string()).unwrap();
    assert_eq!(state.inputs, Remembered::default());
}

#[test]
fn of_an_earlier_boot_only_the_sysctls_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = sample("0");
    state.boot_id = "an earlier one".into();
    save(dir.path(), state);
    let (store, warning) = Store::open(dir.path());
    assert_eq!(warning, None);
    assert!(!store.is_saved(), "what is on the disk is the old one");
    assert!(store.state.route_localnet.is_empty());
    assert_eq!(store.state.inputs, sample("0").inputs);
}

#[test]
fn of_another_machine_everything_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = sample("0");
    state.machine_id = "another".into();
    for name in [CURRENT, PREVIOUS, ASIDE] {
        fs::write(dir.path().join(name), file::print(&state, SCHEMA).unwrap()).unwrap();
    }
    let (peeked, _) = Store::peek(dir.path());
    assert_eq!(peeked.state, State::empty());
    assert_eq!(names(dir.path()).len(), 3, "a look changes nothing");
    let (mut store, warning) = Store::open(dir.path());
    assert_eq!(store.state, State::empty());
    let warning = warning.unwrap();
    assert!(
        warning.contains("of another machine") && warning.contains(CURRENT),
        "{warning}"
    );
    assert_eq!(store.save(), None);
    assert_eq!(names(dir.path()), [CURRENT], "nothing of the other is left");
}

#[test]
fn a_damaged_file_is_set_aside_and_its_previous_copy_used() {
    let whole = String::from_utf8(file::print(&sample("2"), SCHEMA).unwrap()).unwrap();
    let flipped = whole.replace("\"2\"", "\"3\"");
    let half = whole.get(..whole.len() / 2).unwrap().to_owned();
    for damage in [
        String::new(),
        "{".into(),
        "\0\0\0".into(),
        "[1]".into(),
        flipped,
        half,
    ] {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), sample("0"));
        save(dir.path(), sample("1"));
        fs::write(dir.path().join(CURRENT), &damage).unwrap();
        let (peeked, said) = Store::peek(dir.path());
        assert_eq!(peeked.state, sample("0"), "{damage:?}");
        assert!(said.unwrap().contains("is used instead"));
        assert_eq!(
            names(dir.path()),
            [CURRENT, PREVIOUS],
            "a look changes nothing"
        );
        let (mut store, warning) = Store::open(dir.path());
        assert_eq!(store.state, sample("0"), "{damage:?}");
        let warning = warning.unwrap();
        assert!(
            warning.contains(ASIDE) && warning.contains(PREVIOUS),
            "{warning}"
        );
        assert_eq!(names(dir.path()), [ASIDE, PREVIOUS]);
        assert_eq!(store.save(), None);
        assert_eq!(Store::open(dir.path()).1, None, "said once");
    }
}

#[test]
fn where_no_copy_can_be_used_what_was_asked_for_is_unknown() {
    let damaged = Some(b"{".to_vec());
    let newer = Some(file::print(&sample("0"), SCHEMA + 1).unwrap());
    for (current, previous, said) in [
        (&damaged, &damaged, "is damaged"),
        (&damaged, &None, "is damaged"),
        (&None, &damaged, "is not there"),
        (&newer, &None, "another version of ecs-netguard"),
        (&newer, &newer, "another version of ecs-netguard"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [(CURRENT, current), (PREVIOUS, previous)] {
            text.iter()
                .for_each(|text| fs::write(dir.path().join(name), text).unwrap());
        }
        let (mut store, warning) = Store::open(dir.path());
        let warning = warning.unwrap();
        assert!(
            warning.contains(said) && warning.contains("is unknown"),
            "{warning}"
        );
        assert_eq!(store.state.inputs, Remembered::LOST);
        assert_eq!(store.save(), None);
        let (again, warning) = Store::open(dir.path());
        assert_eq!((again.state.inputs, warning), (Remembered::LOST, None));
    }
    let dir = tempfile::tempdir().unwrap();
    let (first, warning) = Store::open(dir.path());
    assert_eq!((first.state.inputs, warning), (Remembered::default(), None));
}

/// What a kill leaves at each step of a write: the new file in every length, then the names.
#[test]
fn a_kill_at_any_step_of_a_write_leaves_the_old_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (sample("0"), sample("1"));
    save(dir.path(), old.clone());
    let text = file::print(&new, SCHEMA).unwrap();
    let path = |name: &str| dir.path().join(name);
    for length in 0..=text.len() {
        let part = text.get(..length).unwrap();
        if length < text.len() - 1 {
            assert!(matches!(
                file::parse(&String::from_utf8_lossy(part)),
                Err(Unusable::Damaged(_))
            ));
        }
        fs::write(path(NEW), part).unwrap();
        assert_eq!(Store::open(dir.path()).0.state, old);
    }
    fs::hard_link(path(CURRENT), path("state.json.link")).unwrap();
    assert_eq!(Store::open(dir.path()).0.state, old);
    fs::rename(path("state.json.link"), path(PREVIOUS)).unwrap();
    assert_eq!(Store::open(dir.path()).0.state, old);
    // A second attempt meets all that the first one left.
    let mut store = Store::open(dir.path()).0;
    store.state = new.clone();
    assert_eq!(store.save(), None);
    let (store, warning) = Store::open(dir.path());
    assert_eq!((store.state, warning), (new, None));
    assert_eq!(names(dir.path()), [CURRENT, PREVIOUS]);
}

#[test]
fn what_cannot_be_written_is_said_the_same_way_each_time_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("in/the/way");
    fs::write(dir.path().join("in"), "a file").unwrap();
    let mut store = Store::open(&below).0;
    store.state = sample("0");
    let warning = store.save().unwrap();
    assert!(
        warning.starts_with("create ") && warning.contains("in/the/way"),
        "{warning}"
    );
    assert_eq!(store.save().unwrap(), warning);
    assert!(!store.is_saved());
    fs::remove_file(dir.path().join("in")).unwrap();
    assert_eq!(store.save(), None);
    fs::remove_dir_all(&below).unwrap();
    assert!(!store.is_saved(), "another program removed it");
    assert_eq!(store.save(), None);
    assert_eq!(Store::open(&below).0.state, sample("0"));
}

#[test]
fn an_image_takes_nothing_along() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        forget(&dir.path().join("missing")).unwrap(),
        [""; 0].map(PathBuf::from)
    );
    save(dir.path(), sample("0"));
    save(dir.path(), sample("1"));
    fs::write(dir.path().join("of-somebody-else"), "").unwrap();
    assert_eq!(forget(dir.path()).unwrap().len(), 2);
    assert_eq!(names(dir.path()), ["of-somebody-else"]);
}
