//! Man pages and completions are made from the program's own definition, and the pages written by
//! hand name every key there is. Links in the documents lead somewhere, also in the package.

#![allow(clippy::unwrap_used, reason = "test support, as in #[test] functions")]

use std::path::{Path, PathBuf};

use ecs_netguard::config::settings::Settings;

#[test]
fn every_key_of_config_toml_is_in_its_page() {
    let page = include_str!("../packaging/man/ecs-netguard.toml.5");
    let keys = toml::Table::try_from(Settings::default()).unwrap();
    for (table, keys) in keys {
        let section = page.split(&format!(".SH [{table}]\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("[{table}] is missing"));
        let section = section.split("\n.SH ").next().unwrap();
        for (key, default) in keys.as_table().unwrap() {
            let default = default.to_string().replace('"', "\\(dq");
            let line = format!(".BR {key} \" = {default}\"\n");
            assert!(section.contains(&line), "{line}:\n{section}");
        }
    }
}

#[test]
fn every_command_says_what_it_does() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{argument}");
        }
        command.get_subcommands().for_each(check);
    }
    check(&ecs_netguard::cli::command());
}

/// The relative links of a Markdown text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// The headings of a Markdown text as GitHub makes anchors of them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    let anchor = |line: &str| {
        line.trim_start_matches('#')
            .trim()
            .chars()
            .filter_map(kept)
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere_in_the_tree_and_in_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let spec = include_str!("../packaging/rpm/ecs-netguard.spec");
    let mut documents: Vec<PathBuf> = ["README", "CHANGELOG", "SECURITY", "CONTRIBUTING"]
        .map(|name| root.join(name).with_extension("md"))
        .to_vec();
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    documents.extend(docs.map(|entry| entry.unwrap().path()));
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent()
                    .unwrap()
                    .join(file)
                    .canonicalize()
                    .unwrap_or_default()
            };
            let shown = format!("{}: {link}", path.display());
            let found = std::fs::read_to_string(&target);
            let found = found.unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert!(
                anchor.is_empty() || anchors(&found).iter().any(|known| known == anchor),
                "{shown}: no such heading"
            );
            let inside = target.strip_prefix(root).unwrap();
            let packaged = inside.starts_with("docs") || spec.contains(inside.to_str().unwrap());
            assert!(packaged, "{shown} is not in the package");
        }
    }
}
