use std::fs;
use std::path::Path;

use super::*;
use crate::guarantee::Guarantee;

const NOTHING: &Remembered = &Remembered {
    ecs: Last::Never,
    settings: Last::Never,
};

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
fn asked(paths: &InputPaths, text: &str) -> Remembered {
    fs::write(&paths.ecs.config, text).unwrap();
    let inputs = Inputs::read_or_keep(paths, None, NOTHING);
    assert_eq!(inputs.warnings, [""; 0]);
    inputs.remembered()
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
            let first = Inputs::read_or_keep(&paths, None, &asked);
            assert_eq!(blocks(&first), expected, "{text}");
            assert_eq!(first.remembered(), asked);
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
            let second = Inputs::read_or_keep(&paths, Some(&first), &asked);
            assert_eq!(second, first);
        }
    }
}

#[test]
fn of_another_file_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let asked = asked(&paths(other.path()), "ECS_AWSVPC_BLOCK_IMDS=true\n");
    let inputs = Inputs::read_or_keep(&paths(dir.path()), None, &asked);
    assert!(!blocks(&inputs));
    assert_eq!(
        (inputs.remembered().ecs, inputs.warnings),
        (Last::Never, vec![])
    );
}

#[test]
fn a_wish_that_never_was_known_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    fs::write(&paths.ecs.config, "\0").unwrap();
    let inputs = Inputs::read_or_keep(&paths, None, NOTHING);
    assert!(blocks(&inputs));
    assert_eq!(inputs.remembered().ecs, Last::Unknown);
    fs::remove_file(&paths.ecs.config).unwrap();
    let inputs = Inputs::read_or_keep(&paths, Some(&inputs), NOTHING);
    assert!(blocks(&inputs), "removed, it is no better known");
    fs::write(&paths.ecs.config, "ECS_CLUSTER=x\n").unwrap();
    let inputs = Inputs::read_or_keep(&paths, Some(&inputs), NOTHING);
    assert!(!blocks(&inputs));
}

#[test]
fn what_is_remembered_is_what_ecs_config_says_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    fs::write(&paths.settings, "[imds]\nblock = \"never\"\n").unwrap();
    let asked = asked(&paths, "ECS_AWSVPC_BLOCK_IMDS=true\n");
    fs::remove_file(&paths.ecs.config).unwrap();
    let never = Inputs::read_or_keep(&paths, None, &asked);
    assert!(!blocks(&never), "config.toml decides");
    fs::write(&paths.settings, "# the defaults\n").unwrap();
    assert!(blocks(&Inputs::read_or_keep(&paths, None, &asked)));
}

const SETTINGS: &str = "[imds]\nblock = \"always\"\nhost_tasks = true\ninterfaces = [\"mybr+\"]\n";

/// What makes of config.toml something that says nothing: deleted, emptied, broken.
fn spoil_settings(paths: &InputPaths) -> [Box<dyn Fn() + '_>; 4] {
    let write = |text: &'static str| move || fs::write(&paths.settings, text).unwrap();
    [
        Box::new(|| fs::remove_file(&paths.settings).unwrap()),
        Box::new(write("")),
        Box::new(write(" \n")),
        Box::new(write("[imds\nblock = \"never\"\n")),
    ]
}

#[test]
fn the_last_good_settings_stay_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    for spoil in spoil_settings(&paths) {
        fs::write(&paths.settings, SETTINGS).unwrap();
        let good = Inputs::read_or_keep(&paths, None, NOTHING);
        spoil();
        let running = Inputs::read_or_keep(&paths, Some(&good), NOTHING);
        let restarted = Inputs::read_or_keep(&paths, None, &good.remembered());
        for inputs in [&running, &restarted] {
            assert_eq!(inputs.settings, good.settings);
            assert_eq!(inputs.remembered(), good.remembered());
            assert!(blocks(inputs) && !inputs.unknown().contains(&Guarantee::ImdsBlock));
            let warning = inputs.warnings.join("");
            assert!(
                warning.contains("config.toml") && warning.contains("in force"),
                "{warning}"
            );
        }
        assert_eq!(running, restarted);
        fs::write(&paths.settings, "# the defaults\n").unwrap();
        let reset = Inputs::read_or_keep(&paths, Some(&running), NOTHING);
        assert_eq!(
            (reset.settings, reset.warnings),
            (Settings::default(), vec![])
        );
    }
    // Of another file nothing is kept.
    let good = Inputs::read_or_keep(&paths, None, NOTHING).remembered();
    let other = InputPaths {
        settings: dir.path().join("other.toml"),
        ..paths.clone()
    };
    let inputs = Inputs::read_or_keep(&other, None, &good);
    assert_eq!(
        (inputs.settings, inputs.warnings),
        (Settings::default(), vec![])
    );
}

#[test]
fn an_ecs_config_that_was_emptied_or_cut_counts_as_gone() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    let asked = asked(&paths, "ECS_CLUSTER=x\nECS_AWSVPC_BLOCK_IMDS=true\n");
    let good = Inputs::read_or_keep(&paths, None, NOTHING);
    for (text, stays) in [
        ("", true),
        (" \n\n", true),
        ("ECS_CLU", true),
        ("ECS_CLUSTER=x\nECS_AWSVPC_BLO", true),
        ("ECS_CLUSTER=x\nECS_AWSVPC_BLOCK_IMDS=", true),
        ("ECS_CLUSTER=x\nECS_AWSVPC_BLOCK_IMDS=tr", true),
        ("ECS_CLUSTER=x\n", false),
        ("ECS_CLUSTER=x", false),
        ("# nothing", false),
        ("ECS_AWSVPC_BLOCK_IMDS=false", false),
    ] {
        fs::write(&paths.ecs.config, text).unwrap();
        let running = Inputs::read_or_keep(&paths, Some(&good), NOTHING);
        let restarted = Inputs::read_or_keep(&paths, None, &asked);
        assert_eq!(
            (blocks(&running), blocks(&restarted)),
            (stays, stays),
            "{text:?}"
        );
        fs::write(&paths.settings, "[imds]\nblock = \"never\"\n").unwrap();
        assert!(
            !blocks(&Inputs::read_or_keep(&paths, None, &asked)),
            "config.toml decides"
        );
        fs::remove_file(&paths.settings).unwrap();
        // Where the block never was asked for it is not asked for now.
        let first = Inputs::read_or_keep(&paths, None, NOTHING);
        assert_eq!(blocks(&first), text.ends_with("tr"), "{text:?}");
        assert!(!first.unknown().contains(&Guarantee::ImdsBlock));
    }
}

#[test]
fn after_the_state_was_lost_what_is_gone_is_unknown_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    let lost = &Remembered::LOST;
    let inputs = Inputs::read_or_keep(&paths, None, lost);
    assert!(blocks(&inputs) && inputs.unknown().contains(&Guarantee::ImdsBlock));
    assert_eq!(&inputs.remembered(), lost, "the next start knows no more");
    assert_eq!(inputs.warnings.len(), 2, "{:?}", inputs.warnings);
    // A file that is there is its own witness; the other one stays unknown.
    fs::write(&paths.ecs.config, "ECS_AWSVPC_BLOCK_IMDS=false\n").unwrap();
    let ecs = Inputs::read_or_keep(&paths, Some(&inputs), lost);
    assert!(blocks(&ecs) && ecs.unknown().contains(&Guarantee::ImdsBlock));
    fs::write(&paths.settings, "# the defaults\n").unwrap();
    let both = Inputs::read_or_keep(&paths, Some(&ecs), lost);
    assert!(!blocks(&both) && !both.unknown().contains(&Guarantee::ImdsBlock));
    assert_eq!(both.warnings, [""; 0]);
    fs::remove_file(&paths.ecs.config).unwrap();
    fs::write(&paths.settings, "[imds]\nblock = \"never\"\n").unwrap();
    let never = Inputs::read_or_keep(&paths, None, lost);
    assert!(!blocks(&never), "config.toml decides");
    let others = never.unknown();
    assert!(
        others.contains(&Guarantee::TaskCredentials) && !others.contains(&Guarantee::ImdsBlock)
    );
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
    let unset = read("", Some("ECS_CLUSTER=x\n"), NOTHING);
    assert!(blocks(&unset));
    let reason = &unset.posture(&Facts::default()).decisions()[0]
        .reason
        .clone();
    assert!(reason.contains("cloud-init"), "{reason}");
    assert!(blocks(&read("", None, NOTHING)), "not written yet");
    assert!(blocks(&read("", None, &remembered)), "removed");
    assert!(!blocks(&read(
        "",
        Some("ECS_AWSVPC_BLOCK_IMDS=false\n"),
        NOTHING
    )));
    assert!(!blocks(&read("[imds]\nblock = \"never\"\n", None, NOTHING)));
    assert!(paths.files().contains(&run.join("result.json")));
    // What is remembered is what the file says, not what the boot made of it.
    let Last::Known(asked) = unset.remembered().ecs else {
        panic!("{unset:?}");
    };
    assert!(!asked.posture.requires(Guarantee::ImdsBlock));

    let result = |name: &str| {
        let text = format!("{{\"v1\": {{\"datasource\": \"{name}\", \"errors\": []}}}}");
        fs::write(run.join("result.json"), text).unwrap();
    };
    result("DataSourceNone");
    let unread = read("", Some("ECS_CLUSTER=x\n"), NOTHING);
    assert!(blocks(&unread));
    let reason = &unread.posture(&Facts::default()).decisions()[0]
        .reason
        .clone();
    assert!(reason.contains("without a data source"), "{reason}");
    assert!(paths.files().contains(&run.join("result.json")));
    result("DataSourceEc2Local");
    assert!(!blocks(&read("", Some("ECS_CLUSTER=x\n"), NOTHING)));
    assert!(!blocks(&read("", None, NOTHING)));
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
    assert!(!blocks(&Inputs::read_or_keep(&system, None, NOTHING)));
    write("var/cache/ecs/my.json", block);
    assert!(blocks(&Inputs::read_or_keep(&system, None, NOTHING)));
    assert!(
        system
            .files()
            .contains(&dir.path().join("var/cache/ecs/my.json"))
    );
    // Set but empty.
    write("etc/ecs/ecs.config", "ECS_AGENT_CONFIG_FILE_PATH=\n");
    assert!(!blocks(&Inputs::read_or_keep(&system, None, NOTHING)));
    write("etc/ecs_container_agent/config.json", block);
    assert!(blocks(&Inputs::read_or_keep(&system, None, NOTHING)));
}

#[test]
fn the_unit_that_is_there_says_what_ecs_init_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (system, write) = system(dir.path());
    let external = || {
        let inputs = Inputs::read_or_keep(&system, None, NOTHING);
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
