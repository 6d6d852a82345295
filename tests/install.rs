//! What `packaging/install.sh` installs, for `make install` and for all packages: it names its own place, and
//! goes again. Links in the documents lead somewhere, also where they are installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs or uninstalls below `place`, without having built anything.
fn run(action: &str, place: &Path, prefix: &str) {
    let made = tempfile::tempdir().unwrap();
    for name in [
        "ecs-netguard",
        "man/ecs-netguard.8",
        "man/ecs-netguard-run.8",
        "completions/ecs-netguard.bash",
        "completions/_ecs-netguard",
        "completions/ecs-netguard.fish",
        "THIRD-PARTY.txt",
    ] {
        let file = made.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(root.join("packaging/install.sh"))
        .args([action, "all"])
        .arg(made.path())
        .env("DESTDIR", place)
        .env("PREFIX", prefix)
        .env_remove("LICENSES")
        .env_remove("ZSH")
        .status();
    assert!(status.unwrap().success(), "{action}");
}

/// The files below `place`, from there.
fn files(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![place.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let name = path.strip_prefix(place).unwrap();
            found.push(name.to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_installed_is_at_its_place_and_goes_again() {
    let place = tempfile::tempdir().unwrap();
    run("install", place.path(), "/usr/local");
    let all = files(place.path());
    let many = ["/share/doc/", "/systemd/system/"];
    let one_by_one: Vec<&String> = all
        .iter()
        .filter(|name| !many.iter().any(|of| name.contains(of)))
        .collect();
    insta::assert_debug_snapshot!(one_by_one);
    run("uninstall", place.path(), "/usr/local");
    assert_eq!(files(place.path()), Vec::<String>::new());
}

#[test]
fn units_name_the_program_where_it_is_installed() {
    let place = tempfile::tempdir().unwrap();
    run("install", place.path(), "/opt/guard");
    let units = place.path().join("opt/guard/lib/systemd/system");
    let mut all = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd"));
    all.retain(|name| name.ends_with(".service") || name.ends_with(".timer"));
    assert_eq!(files(&units), all);
    for unit in all {
        let text = fs::read_to_string(units.join(&unit)).unwrap();
        assert!(!text.contains("/usr/sbin/ecs-netguard"), "{unit}");
        let starts = text.contains("\nExecStart=/opt/guard/sbin/ecs-netguard ");
        assert_eq!(starts, unit.ends_with(".service"), "{unit}");
    }
}

#[test]
fn a_changed_config_toml_is_neither_replaced_nor_removed() {
    let place = tempfile::tempdir().unwrap();
    run("install", place.path(), "/usr");
    let config = place.path().join("etc/ecs-netguard/config.toml");
    fs::write(&config, "# mine\n").unwrap();
    run("install", place.path(), "/usr");
    run("uninstall", place.path(), "/usr");
    assert_eq!(files(place.path()), ["etc/ecs-netguard/config.toml"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
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
    let place = tempfile::tempdir().unwrap();
    run("install", place.path(), "/usr");
    let packaged = place.path().join("usr/share/doc/ecs-netguard");
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
            assert!(packaged.join(inside).exists(), "{shown} is not installed");
        }
    }
}
