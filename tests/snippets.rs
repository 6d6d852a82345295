//! What the snippets of `packaging/snippets` call and write, as `make snippets-check` recorded it
//! (`scripts/snippets/recorded`), is what this program knows: its commands and options, its settings,
//! its place.

use std::fs;
use std::path::Path;

use ecs_netguard::config::settings::Settings;

/// The records, with their names.
fn records() -> Vec<(String, String)> {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/snippets/recorded");
    let files = fs::read_dir(recorded).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    });
    files.collect()
}

/// The lines of each file of that path in a record.
fn written<'a>(text: &'a str, path: &str) -> Vec<String> {
    let header = format!("--- {path}\n");
    let ends = |line: &&'a str| !line.starts_with("--- ") && !line.starts_with("=== ");
    let section = |rest: &'a str| rest.lines().take_while(ends).collect::<Vec<_>>().join("\n");
    text.split(&header).skip(1).map(section).collect()
}

#[test]
fn every_command_that_a_snippet_calls_is_one_of_this_programs() {
    let mut calls = 0;
    for (name, text) in records() {
        let lines = text.lines();
        for line in lines.filter_map(|line| {
            let command = line.strip_prefix("ExecStartPre=/usr/sbin/").unwrap_or(line);
            command.starts_with("ecs-netguard ").then_some(command)
        }) {
            let words = line.split_whitespace();
            let parsed = ecs_netguard::cli::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{name}: {line}: {}", parsed.unwrap_err());
            calls += 1;
        }
    }
    assert!(calls > 20, "{calls}");
}

#[test]
fn every_config_toml_that_a_snippet_writes_has_settings_of_this_program() {
    let mut files = 0;
    for (name, text) in records() {
        for config in written(&text, "/etc/ecs-netguard/config.toml") {
            let errors = Settings::errors(Path::new("config.toml"), &config);
            assert!(errors.is_empty(), "{name}: {config}: {errors:?}");
            files += 1;
        }
    }
    assert!(files > 5, "{files}");
    let inventory = records()
        .into_iter()
        .find(|(name, _)| name.ends_with("ssm.txt"));
    let (_, text) = inventory.unwrap();
    let configs = written(&text, "/etc/ecs-netguard/config.toml");
    let inventories = configs.iter().filter(|config| {
        let settings = Settings::parse(Path::new("config.toml"), config).unwrap();
        let path = "/var/lib/amazon/ssm/i-0123456789abcdef0/inventory/custom/EcsNetguard.json";
        settings.fleet.ssm_inventory.as_deref() == Some(Path::new(path))
    });
    assert_eq!(inventories.count(), 2, "{text}");
}

#[test]
fn the_gate_names_the_program_where_the_package_has_it() {
    let files = include_str!("../packaging/rpm/ecs-netguard.files");
    assert!(files.contains(":/usr/sbin/ecs-netguard\n"));
    let gate = "ExecStartPre=/usr/sbin/ecs-netguard check --require imds-block";
    let mut gates = 0;
    for (name, text) in records() {
        let path = "/etc/systemd/system/ecs.service.d/50-ecs-netguard.conf";
        for file in written(&text, path) {
            assert!(
                file.starts_with(&format!("[Service]\n{gate}")),
                "{name}: {file}"
            );
            gates += 1;
        }
    }
    assert!(gates > 5, "{gates}");
    assert!(include_str!("../packaging/snippets/README.md").contains(gate));
}
