use std::fs;
use std::path::Path;

use super::*;
use crate::guarantee::Guarantee;

fn paths(dir: &Path) -> InputPaths {
    InputPaths {
        settings: dir.join("config.toml"),
        ecs: EcsPaths::beside(&dir.join("ecs.config")),
        cloud_init: Some(CloudInitPaths::below(dir)),
    }
}

fn blocks(inputs: &Inputs) -> bool {
    inputs
        .posture(&Facts::default())
        .required()
        .contains(&Guarantee::ImdsBlock)
}

/// What an earlier run of the daemon remembers of this ecs.config.
fn asked(paths: &InputPaths, text: &str) -> Asked {
    fs::write(&paths.ecs.config, text).unwrap();
    let inputs = Inputs::read_or_keep(paths, None, None);
    assert_eq!(inputs.warnings, [""; 0]);
    inputs.asked().unwrap()
}

#[test]
fn what_was_asked_for_stays_while_the_file_is_gone_or_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    for (text, expected) in [
        ("ECS_AWSVPC_BLOCK_IMDS=true\n", true),
        ("ECS_AWSVPC_BLOCK_IMDS=false\n", false),
    ] {
        let asked = asked(&paths, text);
        for spoil in
            [|| None, || Some("ECS_AWSVPC_BLOCK_IMDS=\0")] as [fn() -> Option<&'static str>; 2]
        {
            match spoil() {
                None => fs::remove_file(&paths.ecs.config).unwrap(),
                Some(text) => fs::write(&paths.ecs.config, text).unwrap(),
            }
            let first = Inputs::read_or_keep(&paths, None, Some(&asked));
            assert_eq!(blocks(&first), expected, "{text}");
            assert_eq!(first.asked().as_ref(), Some(&asked));
            let warning = first.warnings.join("");
            assert!(
                warning.contains("stays in force") && warning.contains("ecs.config"),
                "{warning}"
            );
            let reason = &first.posture(&Facts::default()).decisions()[0]
                .reason
                .clone();
            assert!(reason.ends_with("when it was last read"), "{reason}");
            // The next turn of the same process knows it from the last.
            let second = Inputs::read_or_keep(&paths, Some(&first), Some(&asked));
            assert_eq!(second, first);
        }
    }
}

#[test]
fn of_another_file_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let asked = asked(&paths(other.path()), "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let inputs = Inputs::read_or_keep(&paths(dir.path()), None, Some(&asked));
    assert!(!blocks(&inputs));
    assert_eq!((inputs.asked(), inputs.warnings), (None, vec![]));
}

#[test]
fn a_wish_that_never_was_known_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    fs::write(&paths.ecs.config, "\0").unwrap();
    let inputs = Inputs::read_or_keep(&paths, None, None);
    assert!(blocks(&inputs));
    assert_eq!(inputs.asked(), None);
    fs::remove_file(&paths.ecs.config).unwrap();
    let inputs = Inputs::read_or_keep(&paths, Some(&inputs), None);
    assert!(blocks(&inputs), "removed, it is no better known");
    fs::write(&paths.ecs.config, "ECS_CLUSTER=x\n").unwrap();
    let inputs = Inputs::read_or_keep(&paths, Some(&inputs), None);
    assert!(!blocks(&inputs));
}

#[test]
fn what_is_remembered_is_what_ecs_config_says_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    fs::write(&paths.settings, "[imds]\nblock = \"never\"\n").unwrap();
    let asked = asked(&paths, "ECS_AWSVPC_BLOCK_IMDS=true\n");
    fs::remove_file(&paths.ecs.config).unwrap();
    let never = Inputs::read_or_keep(&paths, None, Some(&asked));
    assert!(!blocks(&never), "config.toml decides");
    fs::remove_file(&paths.settings).unwrap();
    assert!(blocks(&Inputs::read_or_keep(&paths, None, Some(&asked))));
}

#[test]
fn an_unset_wish_blocks_until_cloud_init_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    let run = dir.path().join("run/cloud-init");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("enabled"), "").unwrap();
    let read = |settings: &str, ecs: Option<&str>, asked| {
        fs::write(&paths.settings, settings).unwrap();
        match ecs {
            Some(text) => fs::write(&paths.ecs.config, text).unwrap(),
            None => drop(fs::remove_file(&paths.ecs.config)),
        }
        Inputs::read_or_keep(&paths, None, asked)
    };
    let remembered = asked(&paths, "ECS_AWSVPC_BLOCK_IMDS=false\n");
    let unset = read("", Some("ECS_CLUSTER=x\n"), None);
    assert!(blocks(&unset));
    let reason = &unset.posture(&Facts::default()).decisions()[0]
        .reason
        .clone();
    assert!(reason.contains("cloud-init"), "{reason}");
    assert!(blocks(&read("", None, None)), "not written yet");
    assert!(blocks(&read("", None, Some(&remembered))), "removed");
    assert!(!blocks(&read(
        "",
        Some("ECS_AWSVPC_BLOCK_IMDS=false\n"),
        None
    )));
    assert!(!blocks(&read("[imds]\nblock = \"never\"\n", None, None)));
    assert!(paths.files().contains(&run.join("result.json")));
    // What is remembered is what the file says, not what the boot made of it.
    let blocked = unset.asked().unwrap().posture;
    assert!(!blocked.required().contains(&Guarantee::ImdsBlock));

    let result = |name: &str| {
        let text = format!("{{\"v1\": {{\"datasource\": \"{name}\", \"errors\": []}}}}");
        fs::write(run.join("result.json"), text).unwrap();
    };
    result("DataSourceNone");
    let unread = read("", Some("ECS_CLUSTER=x\n"), None);
    assert!(blocks(&unread));
    let reason = &unread.posture(&Facts::default()).decisions()[0]
        .reason
        .clone();
    assert!(reason.contains("without a data source"), "{reason}");
    assert!(paths.files().contains(&run.join("result.json")));
    result("DataSourceEc2Local");
    assert!(!blocks(&read("", Some("ECS_CLUSTER=x\n"), None)));
    assert!(!blocks(&read("", None, None)));
}

/// The inputs of a whole system below a directory, and what writes one of its files.
fn system(root: &Path) -> (InputPaths, impl Fn(&str, &str)) {
    let system = InputPaths {
        ecs: EcsPaths::below(root),
        ..paths(root)
    };
    let write = move |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    (system, write)
}

#[test]
fn the_json_file_that_the_agent_reads_is_read_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let (system, write) = system(dir.path());
    let block = "{\"AWSVPCBlockInstanceMetdata\": true}";
    write("usr/sbin/amazon-ecs-init", "");
    write(
        "etc/ecs/ecs.config",
        "ECS_AGENT_CONFIG_FILE_PATH=/var/cache/ecs/my.json\n",
    );
    assert!(!blocks(&Inputs::read_or_keep(&system, None, None)));
    write("var/cache/ecs/my.json", block);
    assert!(blocks(&Inputs::read_or_keep(&system, None, None)));
    assert!(
        system
            .files()
            .contains(&dir.path().join("var/cache/ecs/my.json"))
    );
    // Set but empty.
    write("etc/ecs/ecs.config", "ECS_AGENT_CONFIG_FILE_PATH=\n");
    assert!(!blocks(&Inputs::read_or_keep(&system, None, None)));
    write("etc/ecs_container_agent/config.json", block);
    assert!(blocks(&Inputs::read_or_keep(&system, None, None)));
}

#[test]
fn the_unit_that_is_there_says_what_ecs_init_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (system, write) = system(dir.path());
    let external = || {
        let inputs = Inputs::read_or_keep(&system, None, None);
        (inputs.ecs.external.effective, inputs.ecs.task_eni.effective)
    };
    write("usr/libexec/amazon-ecs-init", "");
    write("var/lib/ecs/ecs.config", "ECS_EXTERNAL=true\n");
    assert_eq!(external(), (true, true));
    write(
        "lib/systemd/system/ecs.service",
        "[Service]\nEnvironmentFile=-/var/lib/ecs/ecs.config\nEnvironmentFile=-/etc/ecs/ecs.config\n",
    );
    assert_eq!(external(), (true, false));
    // An operator's own unit comes first.
    write("etc/systemd/system/ecs.service", "[Service]\n");
    assert_eq!(external(), (true, true));
}
