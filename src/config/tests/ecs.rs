use std::path::Path;

use super::*;
use crate::config::files::{DEFAULT_CONFIG, DEFAULT_VAR_CONFIG, EcsPaths};
use proptest::prelude::*;

fn inputs(etc: &str) -> EcsInputs {
    EcsInputs {
        config: (DEFAULT_CONFIG.into(), FileText::Text(etc.to_owned())),
        var_config: None,
        json: ("/etc/ecs/ecs.config.json".into(), FileText::Absent),
        ecs_init_present: true,
        environment: vec![DEFAULT_CONFIG.into()],
    }
}

#[test]
fn the_companions_of_the_systems_config_are_the_systems() {
    let paths = EcsPaths::beside(Path::new("/etc/ecs/ecs.config"));
    assert_eq!(paths, EcsPaths::default());
    assert_eq!(paths.json, Path::new("/etc/ecs/ecs.config.json"));
    assert_eq!(
        paths.var_config.as_deref(),
        Some(Path::new("/var/lib/ecs/ecs.config"))
    );
}

#[test]
fn a_config_on_trial_is_not_mixed_with_the_hosts() {
    let paths = EcsPaths::beside(Path::new("/tmp/x/my.config"));
    assert_eq!(paths.json, Path::new("/tmp/x/ecs.config.json"));
    assert_eq!((paths.var_config, paths.root), (None, None));
}

#[test]
fn files_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("ecs.config");
    std::fs::write(&config, "ECS_CLUSTER=a\nECS_AWSVPC_BLOCK_IMDS=true\n").unwrap();
    std::fs::write(
        dir.path().join("ecs.config.json"),
        "{\"TaskCPUMemLimit\": false}",
    )
    .unwrap();
    let got = resolve(&EcsInputs::read(&EcsPaths::beside(&config)));
    assert!(got.block_imds.effective);
    assert_eq!(
        got.block_imds.source,
        Source::File {
            path: config,
            line: 2
        }
    );
    assert!(!got.task_cpu_mem_limit.effective);
    assert!(got.unreadable.is_empty());
}

#[test]
fn an_unreadable_file_is_named_and_the_rest_goes_on() {
    let got = resolve(&EcsInputs {
        config: (
            DEFAULT_CONFIG.into(),
            FileText::Unreadable("is binary".into()),
        ),
        var_config: Some((
            DEFAULT_VAR_CONFIG.into(),
            FileText::Text("ECS_AWSVPC_BLOCK_IMDS=1".into()),
        )),
        json: (
            "/etc/ecs/ecs.config.json".into(),
            FileText::Text("{".into()),
        ),
        ecs_init_present: true,
        environment: vec![DEFAULT_CONFIG.into()],
    });
    assert!(got.block_imds.effective);
    let named: Vec<_> = got
        .unreadable
        .iter()
        .map(|u| (u.path.to_str().unwrap(), u.reason.as_str()))
        .collect();
    assert_eq!(named[0], (DEFAULT_CONFIG, "is binary"));
    assert!(named[1].1.starts_with("is not valid JSON"), "{named:?}");
}

#[test]
fn a_wish_that_cannot_be_read_is_wanted() {
    let wanted = |value: &str| {
        let got = resolve(&inputs(&format!("ECS_AWSVPC_BLOCK_IMDS={value}")));
        (got.block_imds.effective, got.block_imds.wanted())
    };
    assert_eq!(wanted("true"), (true, true));
    assert_eq!(wanted("\"true\""), (false, true));
    assert_eq!(wanted("§"), (false, true));
    assert_eq!(wanted("\"no\""), (false, false));
    assert_eq!(wanted(""), (false, false));
}

#[test]
fn the_reason_of_a_wish_is_the_line_that_was_written() {
    let got = resolve(&inputs("\nECS_AWSVPC_BLOCK_IMDS=yes"));
    assert_eq!(
        got.block_imds.wish_source().to_string(),
        "/etc/ecs/ecs.config:2"
    );
    assert_eq!(
        got.block_imds.source.to_string(),
        "default of the ECS agent"
    );
    assert_eq!(
        got.task_iam_role.wish_source().to_string(),
        "default of ecs-init"
    );
}

#[test]
fn the_report_is_json() {
    let got = resolve(&inputs(
        "ECS_AWSVPC_BLOCK_IMDS=\"true\"\nECS_EXTERNAL=true\n",
    ));
    let part = (
        &got.block_imds,
        &got.task_eni.source,
        &got.task_iam_role.source,
        &got.traps,
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&part).unwrap());
}

/// A file cannot write to the terminal of its reader, or fill the journal.
#[test]
fn foreign_text_is_tame() {
    let long = "x".repeat(100_000);
    for text in [
        format!("ECS_AWSVPC_BLOCK_IMDS=\u{1b}[2J\u{7}{long}"),
        format!("export ECS_CLUSTER=\u{1b}]0;{long}"),
        format!("ECS_AWSVPC_BLOCK_IMDS{long}=1\nECS_CLUSTER \u{202e}{long}"),
        format!("ECS_CLUSTER\u{b}=\u{1b}{long}\necs_cluster=\u{1b}{long}"),
        format!("ECS_CLUSTER=\u{1b}{long}\nECS_CLUSTER=\u{1b}\u{9b}{long}"),
        format!("#ECS_AWSVPC_BLOCK_IMDS=\u{1b}{long}\n\u{1b}{long}=ECS_EXTERNAL="),
    ] {
        for trap in resolve(&inputs(&text)).traps {
            assert!(!trap.message.chars().any(char::is_control), "{trap:?}");
            assert!(trap.message.chars().count() < 700, "{trap:?}");
        }
    }
}

/// What this thread has had of a processor, in nanoseconds (Documentation/scheduler/sched-stats.rst): other
/// programs do not count.
fn used() -> u64 {
    // It is summed up when the thread gives the processor away.
    std::thread::sleep(std::time::Duration::from_micros(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Four times as much costs about four times as much, whatever is in it; a cost that grows with the square of the
/// length would be sixteen times as much.
#[test]
fn the_cost_of_a_file_grows_as_its_length() {
    const LENGTH: usize = 256 * 1024;
    let cheapest = |read: &dyn Fn()| {
        let cost = |_| {
            let before = used();
            read();
            used() - before
        };
        (0..3).map(cost).min().unwrap().max(1)
    };
    let grows = |what: &str, resolve_of: &dyn Fn(usize) -> EcsConfig| {
        let [small, large] = [LENGTH / 4, LENGTH]
            .map(|length| cheapest(&|| assert!(resolve_of(length).traps.len() <= 100, "{what}")));
        assert!(large / small < 10, "{what}: {small} ns, {large} ns");
    };
    let fill = |piece: &str, length: usize| piece.repeat(length / piece.len());
    for piece in [
        "#ECS_EXTERNAL=1\n",
        "ECS_CLUSTR=1\n",
        "ECS_A=1\n",
        "E",
        "ECS_EXTERNAL=x\n",
        "ECS_EXTERNAL\n",
        "=",
        "\"",
        "\\",
    ] {
        grows(piece, &|length| resolve(&inputs(&fill(piece, length))));
    }
    for piece in ["\"External\":1,\n", "\"Externl\":1,\n", "\n"] {
        grows(piece, &|length| {
            let mut all = inputs("");
            all.json.1 = FileText::Text(format!("{{{}\"x\":1}}", fill(piece, length)));
            resolve(&all)
        });
    }
}

proptest! {
    #[test]
    fn takes_anything(etc in "(?s).{0,200}", var in "(?s).{0,80}", json in "(?s).{0,80}") {
        let mut all = inputs(&etc);
        all.var_config = Some((DEFAULT_VAR_CONFIG.into(), FileText::Text(var)));
        all.json.1 = FileText::Text(json);
        resolve(&all);
    }

    #[test]
    fn lines_in_any_order_name_the_line_that_decided(
        lines in proptest::collection::vec(
            "(export |#|)(ECS_AWSVPC_BLOCK_IMDS|ECS_SKIP_LOCALHOST_TRAFFIC_FILTER|ECS_CLUSTER)( |)=( |\"|)(true|false|0|yes|)(\"|\\\\|\r|)",
            0..8)
    ) {
        let text = lines.join("\n");
        let got = resolve(&inputs(&text));
        for setting in got.settings() {
            if let Source::File { line, .. } = &setting.source {
                prop_assert!(lines[line - 1].contains(setting.variable), "{:?}", setting);
            }
            // Parsed and not overridden: wish and effect agree.
            match setting.wish {
                Wish::On => prop_assert!(setting.effective),
                Wish::Off => prop_assert!(!setting.effective),
                Wish::Unset | Wish::Unreadable { .. } => {}
            }
        }
        for trap in &got.traps {
            prop_assert!(trap.line >= 1 && trap.line <= lines.len(), "{:?}", trap);
        }
    }
}
