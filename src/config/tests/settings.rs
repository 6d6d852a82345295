use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(Path::new("/etc/ecs-netguard/config.toml"), text)
}

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn nothing_means_the_defaults() {
    assert_eq!(parse(""), Ok(Settings::default()));
    assert_eq!(parse("# nothing\n[imds]\n"), Ok(Settings::default()));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Settings::text(&dir.path().join("none")), Ok(None));
}

/// Every key that 0.1.0 had, with another value than its default.
#[test]
fn a_file_of_version_0_1_0_is_read_and_means_the_same() {
    let text = r#"
        [imds]
        block = "always"
        interfaces = ["docker+", "br-+", "ecs-bridge", "podman0"]
        ipv6 = "never"
        awsvpc = "audit"
        host_tasks = true
        host_tasks_cgroup = "ecs"
        [credentials]
        endpoint = "always"
        route_localnet = "bridges"
        open_input = "never"
        [iptables]
        backend = "legacy"
        [seal]
        enabled = false
        [verify]
        interval = "5m"
        [log]
        level = "debug"
        target = "stderr"
        [metrics]
        textfile = "/var/lib/node_exporter/textfile_collector/ecs_netguard.prom"
        [fleet]
        ssm_inventory = "/var/lib/amazon/ssm/i-1/inventory/custom/EcsNetguard.json"
        "#;
    let read = toml::to_string(&parse(text).unwrap()).unwrap();
    for line in text.lines().map(str::trim) {
        assert!(read.lines().any(|of| of == line), "{line} is not in {read}");
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    insta::assert_snapshot!(toml::to_string(&Settings::default()).unwrap(), @r#"
    [imds]
    block = "auto"
    interfaces = ["docker+", "br-+", "ecs-bridge", "fargate-bridge"]
    ipv6 = "auto"
    awsvpc = "auto"
    host_tasks = false
    host_tasks_cgroup = "ecstasks.slice"

    [credentials]
    endpoint = "auto"
    route_localnet = "all"
    open_input = "when-needed"

    [iptables]
    backend = "auto"

    [seal]
    enabled = true

    [edge]
    enabled = true
    raw_frames = "violation"
    allow = []

    [tasks]
    privileged = "name"

    [verify]
    interval = "1m"

    [log]
    level = "info"
    target = "auto"
    format = "text"

    [metrics]
    textfile = ""

    [fleet]
    ssm_inventory = ""
    "#);
}

#[test]
fn every_key_is_read() {
    let settings = parse(
        "[imds]\nblock='always'\ninterfaces=['docker0']\nipv6='never'\nawsvpc='audit'\n\
         host_tasks=true\nhost_tasks_cgroup='a/b.slice'\n\
         [credentials]\nendpoint='never'\nroute_localnet='bridges'\nopen_input='never'\n\
         [iptables]\nbackend='legacy'\n[seal]\nenabled=false\n[edge]\nenabled=false\nraw_frames='accept'\nallow=[]\n[tasks]\nprivileged='undecided'\n[verify]\ninterval='1m 30s'\n[log]\nlevel='trace'\ntarget='stderr'\nformat='json'\n\
         [metrics]\ntextfile='/m/x.prom'\n[fleet]\nssm_inventory='/i/x.json'\n",
    )
    .unwrap();
    let expected = Settings {
        imds: Imds {
            block: Mode::Always,
            interfaces: vec!["docker0".into()],
            ipv6: Mode::Never,
            host_tasks: true,
            host_tasks_cgroup: "a/b.slice".into(),
            awsvpc: Awsvpc::Audit,
        },
        credentials: Credentials {
            endpoint: Mode::Never,
            route_localnet: RouteLocalnet::Bridges,
            open_input: OpenInput::Never,
        },
        seal: Seal { enabled: false },
        edge: Edge {
            enabled: false,
            raw_frames: RawFrames::Accept,
            allow: Vec::new(),
        },
        tasks: Tasks {
            privileged: Privileged::Undecided,
        },
        iptables: Iptables {
            backend: Backend::Legacy,
        },
        verify: Verify {
            interval: Duration::from_secs(90),
        },
        log: Log {
            level: LogLevel::Trace,
            target: LogTarget::Stderr,
            format: LogFormat::Json,
        },
        metrics: Metrics {
            textfile: Some("/m/x.prom".into()),
        },
        fleet: Fleet {
            ssm_inventory: Some("/i/x.json".into()),
        },
    };
    assert_eq!(settings, expected);
}

#[test]
fn what_is_written_is_read_again() {
    let text = toml::to_string(&Settings::default()).unwrap();
    assert_eq!(parse(&text), Ok(Settings::default()));
}

/// One line a bad file, so that the whole language of the errors can be read at once.
#[test]
fn errors_say_where_what_and_how() {
    let bad = [
        "[imds]\nblok = \"auto\"",
        "[metrics]\ntextfile = \"x.prom\"",
        "[fleet]\nssm_inventory = \"/x\"",
        "[imsd]\nblock = \"auto\"",
        "block = \"always\"",
        "[imds]\n\n[verify]\nlevel = \"info\"",
        "[imds]\ncolour = 1",
        "colour = 1",
        "imds = 1",
        "[imds]\nblock = true",
        "[imds]\nblock = \"yes\"",
        "[imds]\nblock = 5",
        "[imds]\ninterfaces = \"docker0\"",
        "[imds]\ninterfaces = [\"docker0\", 5]",
        "[imds]\ninterfaces = []",
        "[imds]\ninterfaces = [\"docker0\",\n  \"docker0\"]",
        "[imds]\ninterfaces = [\"docker 0\"]",
        "[imds]\ninterfaces = [\"docker*\"]",
        "[imds]\ninterfaces = [\"br-0123456789abc+\"]",
        "[imds]\ninterfaces = [\"!docker0\"]",
        "[imds]\ninterfaces = [\"\"]",
        "[imds]\ninterfaces = [\"a\\u001b[2J\"]",
        "[imds]\nhost_tasks = \"yes\"",
        "[imds]\nhost_tasks_cgroup = \"/ecstasks.slice\"",
        "[imds]\nhost_tasks_cgroup = \"a b\"",
        "[edge]\nallow = [\"a b\"]",
        "[edge]\nallow = [\"docker0\"]",
        "[edge]\nallow = [\"br-proxy\"]\n[imds]\ninterfaces = [\"br-proxy0\", \"br-+\"]",
        "[edge]\nallow = [\"proxy0\"]\n[seal]\nenabled = false",
        "[verify]\ninterval = 5",
        "[verify]\ninterval = \"5\"",
        "[verify]\ninterval = \"soon\"",
        "[verify]\ninterval = \"0s\"",
        "[verify]\ninterval = \"2h\"",
        "[credentials]\nroute_localnet = \"bridge\"",
        "[iptables]\nbackend = \"NFT\"",
        "[log]\nlevel = \"verbose\"",
        "[imds\nblock = \"auto\"",
        "[imds]\nblock = auto",
        "[imds]\nblock = \"auto\"\nblock = \"auto\"",
    ];
    insta::assert_snapshot!(bad.map(error).join("\n"));
}

#[test]
fn an_interface_is_allowed_that_nothing_blocks() {
    assert!(parse("[edge]\nallow = [\"proxy0\", \"mesh+\"]").is_ok());
    assert!(parse("[edge]\nallow = [\"proxy0\"]\nenabled = false").is_err());
}

#[test]
fn nothing_to_block_needs_no_interfaces() {
    assert!(parse("[imds]\nblock = \"never\"\ninterfaces = []").is_ok());
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let message = Settings::text(dir.path()).unwrap_err().to_string();
    assert!(
        message.ends_with("is a directory; expected a regular file; correct that; a file with nothing but a comment stands for the defaults"),
        "{message}"
    );
}

proptest! {
    #[test]
    fn takes_any_text(text in "(?s).{0,200}", toml in "[a-z\\[\\]=\"'.,{}# \n]{0,60}") {
        let _ = parse(&text);
        let _ = parse(&toml);
    }

    #[test]
    fn takes_any_value(key in "block|interfaces|ipv6|x", value in "[a-z0-9\"'\\[\\]{},.-]{1,12}") {
        if let Err(e) = parse(&format!("[imds]\n{key} = {value}\n")) {
            let message = e.to_string();
            prop_assert!(message.starts_with("/etc/ecs-netguard/config.toml:"), "{}", message);
            prop_assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn every_interval_within_the_bounds_is_taken(seconds in 1u64..=3600) {
        let settings = parse(&format!("[verify]\ninterval = \"{seconds}s\"")).unwrap();
        prop_assert_eq!(settings.verify.interval, Duration::from_secs(seconds));
    }
}

/// The file that the package installs: it changes nothing, and names every key with its default.
#[test]
fn the_packaged_file_is_the_defaults() {
    let packaged = include_str!("../../../packaging/config.toml");
    assert_eq!(parse(packaged), Ok(Settings::default()));

    // A default stands behind a # alone; an explanation has a blank after it.
    let uncommented: String = packaged
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(char::is_alphabetic))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(parse(&uncommented), Ok(Settings::default()));
    let keys = |table: &toml::Table| -> Vec<String> {
        let inner = table
            .iter()
            .filter_map(|(name, keys)| Some((name, keys.as_table()?)));
        inner
            .flat_map(|(name, keys)| keys.keys().map(move |key| format!("{name}.{key}")))
            .collect()
    };
    let all = toml::Table::try_from(Settings::default()).unwrap();
    assert_eq!(keys(&toml::from_str(&uncommented).unwrap()), keys(&all));
}

#[test]
fn every_error_is_named_at_once() {
    let errors = |text: &str| Settings::errors(Path::new("c.toml"), text);
    let several = errors(
        "[imds]\nblok = 1\nblock = 3\ninterfaces = [\"a b\"]\n[sael]\nenabled = 1\n\
         [verify]\ninterval = \"5h\"\n",
    );
    let lines: Vec<usize> = several.iter().map(SettingsError::line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 8], "{several:?}");
    assert_eq!(errors("[imds]\n"), []);
    assert_eq!(errors("[imds\nx = 1").len(), 1);
}
