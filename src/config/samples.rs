//! A table: samples of ecs.config, and what the ECS software makes of each.
//!
//! A sample is a host: its files, whether ecs-init is on it, the settings that are expected to differ from those
//! of a host with an empty ecs.config, and the traps. Everything a sample does not mention is checked too: it
//! must be as on the empty host.

use std::path::PathBuf;

use super::ecs::{EcsConfig, Wish};
use super::trap::TrapKind::{self, *};
use super::{EcsInputs, EcsPaths, FileText, resolve};

const ETC: &str = "/etc/ecs/ecs.config";
const VAR: &str = "/var/lib/ecs/ecs.config";
const JSON: &str = "/etc/ecs/ecs.config.json";

const BLOCK: &str = "ECS_AWSVPC_BLOCK_IMDS";
const ROLE: &str = "ECS_ENABLE_TASK_IAM_ROLE";
const ROLE_HOST: &str = "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST";
const SKIP: &str = "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER";
const OFFHOST: &str = "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS";
const ENI: &str = "ECS_ENABLE_TASK_ENI";
const LIMIT: &str = "ECS_ENABLE_TASK_CPU_MEM_LIMIT";
const EXTERNAL: &str = "ECS_EXTERNAL";

const ON: Wish = Wish::On;
const OFF: Wish = Wish::Off;
const UNSET: Wish = Wish::Unset;
/// Not understood, and a person would mean "on" by it.
const LIKELY_ON: Wish = Wish::Unreadable { likely: true };
/// Not understood, and a person would mean "off" by it.
const LIKELY_OFF: Wish = Wish::Unreadable { likely: false };

/// A variable: what the ECS software makes of it, what the operator wants, where the effective value is from.
type Expected = (&'static str, bool, Wish, &'static str);

struct Sample {
    name: &'static str,
    etc: &'static [u8],
    var: &'static [u8],
    json: &'static [u8],
    ecs_init: bool,
    /// The text of ecs-init's unit.
    unit: Option<&'static str>,
    /// Another JSON file.
    other: (&'static str, &'static [u8]),
    settings: &'static [Expected],
    traps: &'static [TrapKind],
}

/// ecs.config on a host with ecs-init.
const fn etc(
    name: &'static str,
    etc: &'static [u8],
    settings: &'static [Expected],
    traps: &'static [TrapKind],
) -> Sample {
    Sample {
        name,
        etc,
        var: b"",
        json: b"",
        ecs_init: true,
        unit: None,
        other: ("", b""),
        settings,
        traps,
    }
}

impl Sample {
    const fn var(self, var: &'static [u8]) -> Self {
        Self { var, ..self }
    }

    const fn json(self, json: &'static [u8]) -> Self {
        Self { json, ..self }
    }

    const fn other(self, path: &'static str, json: &'static [u8]) -> Self {
        Self {
            other: (path, json),
            ..self
        }
    }

    const fn unit(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    const fn without_ecs_init(self) -> Self {
        Self {
            ecs_init: false,
            ..self
        }
    }

    fn resolve(&self) -> EcsConfig {
        let text = |bytes: &[u8]| match bytes {
            b"" => FileText::Absent,
            bytes => FileText::from_bytes(bytes),
        };
        let paths = EcsPaths::default();
        let (config, var) = (text(self.etc), text(self.var));
        let texts: Vec<&str> = [&config, &var].iter().filter_map(|t| t.text()).collect();
        let read = |path: PathBuf| match path.to_str() {
            Some(JSON) => (path, text(self.json)),
            Some(other) if other == self.other.0 => (path, text(self.other.1)),
            _ => (path, FileText::Absent),
        };
        let candidates = paths.json(&texts, self.ecs_init);
        let none = (candidates[0].clone(), FileText::Absent);
        let mut json = candidates.into_iter().map(read);
        resolve(&EcsInputs {
            json: json
                .find(|(_, text)| *text != FileText::Absent)
                .unwrap_or(none),
            config: (ETC.into(), config),
            var_config: Some((VAR.into(), var)),
            ecs_init_present: self.ecs_init,
            environment: paths.environment(self.unit),
        })
    }
}

const INIT: &str = "default of ecs-init";
const AGENT: &str = "default of the ECS agent";
const ETC1: &str = "/etc/ecs/ecs.config:1";
const ETC2: &str = "/etc/ecs/ecs.config:2";
const VAR1: &str = "/var/lib/ecs/ecs.config:1";
const JSON1: &str = "/etc/ecs/ecs.config.json:1";

const BLOCKED: &[Expected] = &[(BLOCK, true, ON, ETC1)];
const BLOCKED_2: &[Expected] = &[(BLOCK, true, ON, ETC2)];
const OPEN: &[Expected] = &[(BLOCK, false, OFF, ETC1)];
const AMAZON_LINUX: &str = "[Service]\nEnvironmentFile=-/etc/ecs/ecs.config\n";
const GENERIC: &str =
    "[Service]\nEnvironmentFile=-/var/lib/ecs/ecs.config\nEnvironmentFile=-/etc/ecs/ecs.config\n";
const SUSE: &str = "[Service]\nExecStart=/usr/sbin/amazon-ecs-init start\n";

/// The ECS software does not block, the operator most likely wanted it.
const MISREAD: &[Expected] = &[(BLOCK, false, LIKELY_ON, AGENT)];

#[rustfmt::skip]
const SAMPLES: &[Sample] = &[
    // Nothing.
    etc("absent", b"", &[], &[]),
    etc("empty, as on the AMI", b"\n", &[], &[]),
    etc("only blanks", b" \t\r\n\n  ", &[], &[]),
    etc("other variables", b"ECS_CLUSTER=prod\nECS_LOGLEVEL=debug\nHTTP_PROXY=http://p:3128\nNO_PROXY=169.254.169.254,169.254.170.2\n", &[], &[]),
    etc("without ecs-init, the agent's defaults", b"ECS_CLUSTER=prod\n",
        &[(ROLE, false, UNSET, AGENT), (ROLE_HOST, false, UNSET, AGENT), (ENI, false, UNSET, AGENT)], &[]).without_ecs_init(),

    // Go's boolean spellings.
    etc("true", b"ECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED, &[]),
    etc("True", b"ECS_AWSVPC_BLOCK_IMDS=True\n", BLOCKED, &[]),
    etc("TRUE", b"ECS_AWSVPC_BLOCK_IMDS=TRUE\n", BLOCKED, &[]),
    etc("t", b"ECS_AWSVPC_BLOCK_IMDS=t\n", BLOCKED, &[]),
    etc("T", b"ECS_AWSVPC_BLOCK_IMDS=T\n", BLOCKED, &[]),
    etc("1", b"ECS_AWSVPC_BLOCK_IMDS=1\n", BLOCKED, &[]),
    etc("false", b"ECS_AWSVPC_BLOCK_IMDS=false\n", OPEN, &[]),
    etc("False", b"ECS_AWSVPC_BLOCK_IMDS=False\n", OPEN, &[]),
    etc("FALSE", b"ECS_AWSVPC_BLOCK_IMDS=FALSE\n", OPEN, &[]),
    etc("f", b"ECS_AWSVPC_BLOCK_IMDS=f\n", OPEN, &[]),
    etc("F", b"ECS_AWSVPC_BLOCK_IMDS=F\n", OPEN, &[]),
    etc("0", b"ECS_AWSVPC_BLOCK_IMDS=0\n", OPEN, &[]),

    // What is no boolean for Go.
    etc("tRUE", b"ECS_AWSVPC_BLOCK_IMDS=tRUE\n", MISREAD, &[NotABoolean]),
    etc("yes", b"ECS_AWSVPC_BLOCK_IMDS=yes\n", MISREAD, &[NotABoolean]),
    etc("on", b"ECS_AWSVPC_BLOCK_IMDS=on\n", MISREAD, &[NotABoolean]),
    etc("enabled", b"ECS_AWSVPC_BLOCK_IMDS=enabled\n", MISREAD, &[NotABoolean]),
    etc("1.0", b"ECS_AWSVPC_BLOCK_IMDS=1.0\n", MISREAD, &[NotABoolean]),
    etc("gibberish", b"ECS_AWSVPC_BLOCK_IMDS=%!x\n", MISREAD, &[NotABoolean]),
    etc("a template that was not filled in", b"ECS_AWSVPC_BLOCK_IMDS=${BLOCK_IMDS}\n", MISREAD, &[NotABoolean]),
    etc("a full-width letter", "ECS_AWSVPC_BLOCK_IMDS=ｔrue\n".as_bytes(), MISREAD, &[NotABoolean]),
    etc("a closing semicolon", b"ECS_AWSVPC_BLOCK_IMDS=true;\n", MISREAD, &[NotABoolean]),
    etc("two equals", b"ECS_AWSVPC_BLOCK_IMDS==true\n", MISREAD, &[NotABoolean]),
    etc("no", b"ECS_AWSVPC_BLOCK_IMDS=no\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[NotABoolean]),
    etc("off", b"ECS_AWSVPC_BLOCK_IMDS=off\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[NotABoolean]),

    // Quotes: the agent keeps them.
    etc("double quotes", b"ECS_AWSVPC_BLOCK_IMDS=\"true\"\n", MISREAD, &[QuotedBoolean]),
    etc("single quotes", b"ECS_AWSVPC_BLOCK_IMDS='true'\n", MISREAD, &[QuotedBoolean]),
    etc("an open quote", b"ECS_AWSVPC_BLOCK_IMDS=\"true\n", MISREAD, &[NotABoolean]),
    etc("quoted yes", b"ECS_AWSVPC_BLOCK_IMDS=\"yes\"\n", MISREAD, &[NotABoolean]),
    etc("quoted false", b"ECS_AWSVPC_BLOCK_IMDS=\"false\"\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[QuotedBoolean]),
    etc("quoted nothing", b"ECS_AWSVPC_BLOCK_IMDS=\"\"\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[QuotedBoolean]),
    etc("the whole assignment in quotes", b"\"ECS_AWSVPC_BLOCK_IMDS=true\"\n", MISREAD, &[QuotedName]),
    etc("the whole assignment in quotes, off", b"'ECS_AWSVPC_BLOCK_IMDS=false'\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[QuotedName]),
    etc("quotes switch task roles off", b"ECS_ENABLE_TASK_IAM_ROLE=\"true\"\n", &[(ROLE, false, LIKELY_ON, AGENT)], &[QuotedBoolean]),

    // Blanks and line ends.
    etc("CRLF", b"ECS_CLUSTER=a\r\nECS_AWSVPC_BLOCK_IMDS=true\r\n", BLOCKED_2, &[]),
    etc("no line end", b"ECS_AWSVPC_BLOCK_IMDS=true", BLOCKED, &[]),
    etc("blanks around the line", b"\t ECS_AWSVPC_BLOCK_IMDS=true \t\n", BLOCKED, &[]),
    etc("a blank after =", b"ECS_AWSVPC_BLOCK_IMDS= true\n", BLOCKED, &[]),
    etc("a no-break space after =", "ECS_AWSVPC_BLOCK_IMDS=\u{a0}true\u{3000}\n".as_bytes(), BLOCKED, &[]),
    etc("a blank before =", b"ECS_AWSVPC_BLOCK_IMDS =true\n", MISREAD, &[BlankBeforeEquals]),
    etc("blanks on both sides of =", b"ECS_AWSVPC_BLOCK_IMDS = true\n", MISREAD, &[BlankBeforeEquals]),
    etc("a no-break space before =", "ECS_AWSVPC_BLOCK_IMDS\u{a0}=true\n".as_bytes(), MISREAD, &[BlankBeforeEquals]),
    etc("a zero-width space in the value", "ECS_AWSVPC_BLOCK_IMDS=true\u{200b}\n".as_bytes(), MISREAD, &[NotABoolean]),
    etc("a byte order mark", b"\xef\xbb\xbfECS_AWSVPC_BLOCK_IMDS=true\n", MISREAD, &[ByteOrderMark]),
    etc("a byte order mark before another line", b"\xef\xbb\xbf# x\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[]),
    etc("old Mac line ends", b"ECS_CLUSTER=a\rECS_AWSVPC_BLOCK_IMDS=true\r", MISREAD, &[BuriedKey]),
    etc("echo without -e", b"ECS_CLUSTER=a\\nECS_AWSVPC_BLOCK_IMDS=true\n", MISREAD, &[BuriedKey]),
    etc("two on one line", b"ECS_CLUSTER=a ECS_AWSVPC_BLOCK_IMDS=true\n", MISREAD, &[BuriedKey]),
    etc("another one behind it", b"ECS_AWSVPC_BLOCK_IMDS=true ECS_CLUSTER=a\n", MISREAD, &[NotABoolean]),
    etc("a continuation is none for the agent", b"ECS_CLUSTER=a \\\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[]),
    etc("bytes that are no UTF-8", b"ECS_CLUSTER=\xff\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[NotUtf8]),

    // Keys.
    etc("export", b"export ECS_AWSVPC_BLOCK_IMDS=true\n", MISREAD, &[ExportPrefix]),
    etc("small letters", b"ecs_awsvpc_block_imds=true\n", MISREAD, &[LowercaseKey]),
    etc("misspelt", b"ECS_AWSVPC_BLOCK_IDMS=true\n", MISREAD, &[Misspelt]),
    etc("without the prefix", b"AWSVPC_BLOCK_IMDS=true\n", MISREAD, &[Misspelt]),
    etc("nearly another name", b"ECS_BLOCK_IMDS=true\n", MISREAD, &[Misspelt]),
    etc("unknown, near to none", b"ECS_MY_OWN_THING=true\n", &[], &[]),
    etc("a colon", b"ECS_AWSVPC_BLOCK_IMDS: true\n", MISREAD, &[NoEquals]),
    etc("no = at all", b"ECS_AWSVPC_BLOCK_IMDS true\n", MISREAD, &[NoEquals]),
    etc("the dead one", b"ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME=eth1\n", &[], &[DeadVariable]),
    etc("no name", b"=true\n", &[], &[NoName]),
    etc("no name beside a block", b"=\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[NoName]),

    // What is nearly the block's name: a wish that cannot be read.
    etc("near: a blank, and off", b"ECS_AWSVPC_BLOCK_IMDS = false\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[BlankBeforeEquals]),
    etc("near: a colon without a blank", b"ECS_AWSVPC_BLOCK_IMDS:true\n", MISREAD, &[NoEquals]),
    etc("near: a colon, and off", b"ECS_AWSVPC_BLOCK_IMDS: no\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[NoEquals]),
    etc("near: the name alone", b"ECS_AWSVPC_BLOCK_IMDS\n", MISREAD, &[NoEquals]),
    etc("near: a letter short", b"ECS_AWSVPC_BLOCK_IMD=true\n", MISREAD, &[Misspelt]),
    etc("near: export, and off", b"export ECS_AWSVPC_BLOCK_IMDS=0\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[ExportPrefix]),
    etc("near: buried, and off", b"ECS_CLUSTER=a\\nECS_AWSVPC_BLOCK_IMDS=false\\nECS_LOGLEVEL=info\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[BuriedKey]),
    etc("near: in /var/lib", b"", MISREAD, &[ExportPrefix]).var(b"export ECS_AWSVPC_BLOCK_IMDS=true\n"),
    etc("near: above the real one", b"export ECS_AWSVPC_BLOCK_IMDS=true\nECS_AWSVPC_BLOCK_IMDS=false\n", &[(BLOCK, false, OFF, ETC2)], &[ExportPrefix]),
    etc("near: below the real one", b"ECS_AWSVPC_BLOCK_IMDS=false\nexport ECS_AWSVPC_BLOCK_IMDS=true\n", &[(BLOCK, false, LIKELY_ON, ETC1)], &[ExportPrefix]),
    etc("near: below the real one, which blocks", b"ECS_AWSVPC_BLOCK_IMDS=true\nexport ECS_AWSVPC_BLOCK_IMDS=false\n", BLOCKED, &[ExportPrefix]),
    etc("near: in a file that counts more", b"export ECS_AWSVPC_BLOCK_IMDS=true\n", &[(BLOCK, false, LIKELY_ON, VAR1)], &[ExportPrefix]).var(b"ECS_AWSVPC_BLOCK_IMDS=false\n"),
    etc("near: in a file that counts less", b"ECS_AWSVPC_BLOCK_IMDS=false\n", OPEN, &[ExportPrefix]).var(b"export ECS_AWSVPC_BLOCK_IMDS=true\n"),

    // Comments.
    etc("commented out", b"#ECS_AWSVPC_BLOCK_IMDS=true\n", &[], &[CommentedKey]),
    etc("commented out with a blank", b"# ECS_AWSVPC_BLOCK_IMDS=true\n", &[], &[CommentedKey]),
    etc("an example above the real one", b"#ECS_AWSVPC_BLOCK_IMDS=false\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[]),
    etc("prose", b"# set ECS_AWSVPC_BLOCK_IMDS=true to block\n", &[], &[]),
    etc("commented out, of no interest here", b"#ECS_CLUSTER=a\n", &[], &[]),
    etc("an inline comment", b"ECS_AWSVPC_BLOCK_IMDS=true # security\n", MISREAD, &[InlineComment]),
    etc("an inline comment behind false", b"ECS_AWSVPC_BLOCK_IMDS=false # for now\n", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[InlineComment]),
    etc("an inline comment behind quotes", b"ECS_AWSVPC_BLOCK_IMDS=\"true\" # security\n", MISREAD, &[InlineComment]),

    // Duplicates: the last one wins.
    etc("appended", b"ECS_AWSVPC_BLOCK_IMDS=false\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[DuplicateKey]),
    etc("appended the other way", b"ECS_AWSVPC_BLOCK_IMDS=true\nECS_AWSVPC_BLOCK_IMDS=false\n", &[(BLOCK, false, OFF, ETC2)], &[DuplicateKey]),
    etc("the same twice", b"ECS_AWSVPC_BLOCK_IMDS=true\nECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED_2, &[]),
    etc("an empty one wins too", b"ECS_AWSVPC_BLOCK_IMDS=true\nECS_AWSVPC_BLOCK_IMDS=\n", &[], &[DuplicateKey]),
    etc("an unreadable one wins too", b"ECS_AWSVPC_BLOCK_IMDS=true\nECS_AWSVPC_BLOCK_IMDS=\"true\"\n", MISREAD, &[QuotedBoolean, DuplicateKey]),

    // Empty values.
    etc("empty is unset", b"ECS_AWSVPC_BLOCK_IMDS=\n", &[], &[]),
    etc("empty hides ecs-init's default", b"ECS_ENABLE_TASK_IAM_ROLE=\n", &[(ROLE, false, UNSET, AGENT)], &[EmptyValue]),
    etc("empty hides nothing without ecs-init", b"ECS_ENABLE_TASK_IAM_ROLE=\n",
        &[(ROLE, false, UNSET, AGENT), (ROLE_HOST, false, UNSET, AGENT), (ENI, false, UNSET, AGENT)], &[]).without_ecs_init(),

    // The others.
    etc("task roles off", b"ECS_ENABLE_TASK_IAM_ROLE=false\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=0\n",
        &[(ROLE, false, OFF, ETC1), (ROLE_HOST, false, OFF, ETC2)], &[]),
    etc("task roles on without ecs-init", b"ECS_ENABLE_TASK_IAM_ROLE=true\nECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=true\n",
        &[(ROLE, true, ON, ETC1), (ROLE_HOST, true, ON, ETC2), (ENI, false, UNSET, AGENT)], &[]).without_ecs_init(),
    etc("no task cgroups", b"ECS_ENABLE_TASK_CPU_MEM_LIMIT=false\n", &[(LIMIT, false, OFF, ETC1)], &[]),
    etc("task cgroups, unreadable", b"ECS_ENABLE_TASK_CPU_MEM_LIMIT=no\n", &[(LIMIT, true, LIKELY_OFF, AGENT)], &[NotABoolean]),

    // What ecs-init reads, through systemd.
    etc("systemd: quotes are fine", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=\"true\"\nECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS='1'\n",
        &[(SKIP, true, ON, ETC1), (OFFHOST, true, ON, ETC2)], &[]),
    etc("systemd: blanks around = are fine", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER = true\r\n", &[(SKIP, true, ON, ETC1)], &[]),
    etc("systemd: blanks in quotes are not", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=\" true\"\n", &[(SKIP, false, LIKELY_ON, INIT)], &[NotABoolean]),
    etc("systemd: a comment", b"#ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[CommentedKey]),
    etc("systemd: a semicolon comment", b"; ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[CommentedKey]),
    etc("systemd: an inline comment is none", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true # x\n", &[(SKIP, false, LIKELY_ON, INIT)], &[InlineComment]),
    etc("systemd: export", b"export ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[ExportPrefix]),
    etc("systemd: a continued value", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=tr\\\nue\n", &[(SKIP, true, ON, ETC1)], &[]),
    etc("systemd: swallowed by a continuation", b"ECS_CLUSTER=a \\\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[SwallowedLine]),
    etc("systemd: swallowed by a comment", b"# a \\\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[SwallowedLine]),
    etc("systemd: swallowed by an open quote", b"ECS_CLUSTER=\"a\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[SwallowedLine]),
    etc("systemd: no UTF-8, nothing is read", b"ECS_CLUSTER=\xff\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[], &[NotUtf8]),
    etc("systemd: no UTF-8 in a comment", b"# \xff\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n", &[(SKIP, true, ON, ETC2)], &[NotUtf8]),
    etc("systemd: yes", b"ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=yes\n", &[(OFFHOST, false, LIKELY_ON, INIT)], &[NotABoolean]),
    etc("systemd: empty", b"ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=\n", &[], &[]),
    etc("systemd: twice", b"ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=true\nECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS=false\n", &[(OFFHOST, false, OFF, ETC2)], &[DuplicateKey]),
    etc("systemd: not from /var/lib", b"", &[], &[NotReadThere]).var(b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n"),

    // ECS_EXTERNAL, which both read.
    etc("external", b"ECS_EXTERNAL=true\n",
        &[(EXTERNAL, true, ON, ETC1), (ENI, false, UNSET, "forced by ECS_EXTERNAL=true (/etc/ecs/ecs.config:1)")], &[]),
    etc("external beats task ENI", b"ECS_EXTERNAL=true\nECS_ENABLE_TASK_ENI=true\n",
        &[(EXTERNAL, true, ON, ETC1), (ENI, false, ON, "forced by ECS_EXTERNAL=true (/etc/ecs/ecs.config:1)")], &[]),
    etc("external, for the agent only", b"ECS_EXTERNAL=1\n", &[(EXTERNAL, true, ON, ETC1)], &[ReadersDisagree]),
    etc("external, for ecs-init only", b"ECS_EXTERNAL=\"true\"\n",
        &[(EXTERNAL, false, LIKELY_ON, AGENT), (ENI, false, UNSET, "forced by ECS_EXTERNAL=true (/etc/ecs/ecs.config:1)")],
        &[QuotedBoolean, ReadersDisagree]),
    etc("external without ecs-init forces nothing", b"ECS_EXTERNAL=true\nECS_ENABLE_TASK_ENI=true\n",
        &[(EXTERNAL, true, ON, ETC1), (ENI, true, ON, ETC2), (ROLE, false, UNSET, AGENT), (ROLE_HOST, false, UNSET, AGENT)], &[]).without_ecs_init(),

    // Precedence between the files.
    etc("/var/lib alone", b"", &[(BLOCK, true, ON, VAR1)], &[]).var(b"ECS_AWSVPC_BLOCK_IMDS=true\n"),
    etc("/etc beats /var/lib", b"ECS_AWSVPC_BLOCK_IMDS=false\n", OPEN, &[]).var(b"ECS_AWSVPC_BLOCK_IMDS=true\n"),
    etc("an empty value in /etc too", b"ECS_AWSVPC_BLOCK_IMDS=\n", &[], &[]).var(b"ECS_AWSVPC_BLOCK_IMDS=true\n"),
    etc("an unreadable value in /etc too", b"ECS_AWSVPC_BLOCK_IMDS=nope\n", MISREAD, &[NotABoolean]).var(b"ECS_AWSVPC_BLOCK_IMDS=true\n"),
    etc("/var/lib beats ecs-init", b"", &[(ROLE, false, OFF, VAR1)], &[]).var(b"ECS_ENABLE_TASK_IAM_ROLE=false\n"),

    // JSON.
    etc("JSON alone", b"", &[(BLOCK, true, ON, JSON1)], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON 1", b"", &[(BLOCK, true, ON, JSON1)], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": 1}"),
    etc("JSON 0", b"", &[(BLOCK, false, OFF, JSON1)], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": 0}"),
    etc("JSON null", b"", &[], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": null}"),
    etc("JSON in other capitals", b"", &[(BLOCK, true, ON, JSON1)], &[]).json(b"{\"awsvpcblockinstancemetdata\": true}"),
    etc("JSON twice", b"", &[(BLOCK, false, OFF, JSON1)], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": true, \"AWSVPCBlockInstanceMetdata\": false}"),
    etc("JSON in quotes", b"", MISREAD, &[JsonInvalid]).json(b"{\"AWSVPCBlockInstanceMetdata\": \"true\"}"),
    etc("JSON spelt right", b"", MISREAD, &[Misspelt]).json(b"{\"AWSVPCBlockInstanceMetadata\": true}"),
    etc("JSON with a variable's name", b"", MISREAD, &[Misspelt]).json(b"{\"ECS_AWSVPC_BLOCK_IMDS\": true}"),
    etc("JSON below ecs.config", b"ECS_AWSVPC_BLOCK_IMDS=false\n", OPEN, &[JsonShadowed]).json(b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON the same as ecs.config", b"ECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED, &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON under an empty value", b"ECS_AWSVPC_BLOCK_IMDS=\n", &[(BLOCK, true, ON, JSON1)], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON under an unreadable value", b"ECS_AWSVPC_BLOCK_IMDS=no\n", &[(BLOCK, true, LIKELY_OFF, JSON1)], &[NotABoolean]).json(b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON below ecs-init's default", b"", &[(ENI, true, OFF, INIT)], &[JsonShadowed]).json(b"{\"TaskENIEnabled\": false}"),
    etc("JSON above the agent's default", b"", &[(LIMIT, false, OFF, JSON1)], &[]).json(b"{\"TaskCPUMemLimit\": false}"),
    etc("JSON wins over a plain false", b"ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false\n", &[(ROLE_HOST, true, ON, JSON1)], &[JsonWins])
        .json(b"{\"TaskIAMRoleEnabledForNetworkHost\": true}"),
    etc("JSON, a plain boolean takes no 1", b"", &[(ROLE_HOST, true, LIKELY_ON, INIT)], &[JsonInvalid]).json(b"{\"TaskIAMRoleEnabledForNetworkHost\": 1}"),
    etc("JSON is blank", b"ECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED, &[]).json(b" \n"),
    etc("JSON is broken", b"ECS_AWSVPC_BLOCK_IMDS=true\n", BLOCKED, &[JsonInvalid]).json(b"{\"Cluster\": \"a\","),
    etc("JSON is a list", b"", &[], &[JsonInvalid]).json(b"[true]"),
    etc("JSON spelt right, and off", b"", &[(BLOCK, false, LIKELY_OFF, AGENT)], &[Misspelt]).json(b"{\"AWSVPCBlockInstanceMetadata\": false}"),
    etc("JSON null after true is unset", b"", &[], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": true, \"AWSVPCBlockInstanceMetdata\": null}"),
    etc("JSON null twice", b"", &[], &[]).json(b"{\"AWSVPCBlockInstanceMetdata\": null, \"AWSVPCBlockInstanceMetdata\": null}"),
    etc("JSON null after a plain true is nothing", b"ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=false\n", &[(ROLE_HOST, true, ON, JSON1)], &[JsonWins])
        .json(b"{\"TaskIAMRoleEnabledForNetworkHost\": true, \"TaskIAMRoleEnabledForNetworkHost\": null}"),
    etc("JSON refused above a good one", b"", MISREAD, &[JsonInvalid]).json(b"{\"AWSVPCBlockInstanceMetdata\": \"x\", \"AWSVPCBlockInstanceMetdata\": false}"),
    etc("JSON with a long s", b"", &[(BLOCK, true, ON, JSON1)], &[]).json("{\"AWSVPCBlockIn\u{17f}tanceMetdata\": true}".as_bytes()),
    etc("JSON with a Kelvin sign", b"", &[(BLOCK, true, ON, JSON1)], &[]).json("{\"AWSVPCBloc\u{212a}InstanceMetdata\": true}".as_bytes()),

    // Where the agent's JSON file is.
    etc("JSON in /etc/ecs, and not there", b"ECS_AGENT_CONFIG_FILE_PATH=/etc/ecs/other.json\n", &[], &[]),
    etc("JSON in /etc/ecs", b"ECS_AGENT_CONFIG_FILE_PATH=/etc/ecs/other.json\n", &[(BLOCK, true, ON, "/etc/ecs/other.json:1")], &[])
        .other("/etc/ecs/other.json", b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON in /var/cache/ecs, named in /var/lib", b"", &[(BLOCK, true, ON, "/var/cache/ecs/other.json:1")], &[])
        .var(b"ECS_AGENT_CONFIG_FILE_PATH=/var/cache/ecs/other.json\n").other("/var/cache/ecs/other.json", b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON that the container does not see", b"ECS_AGENT_CONFIG_FILE_PATH=/opt/other.json\n", &[], &[JsonElsewhere])
        .other("/opt/other.json", b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON named by nothing", b"ECS_AGENT_CONFIG_FILE_PATH=\n", &[(BLOCK, true, ON, "/etc/ecs_container_agent/config.json:1")], &[JsonElsewhere])
        .json(b"{\"AWSVPCBlockInstanceMetdata\": false}").other("/etc/ecs_container_agent/config.json", b"{\"AWSVPCBlockInstanceMetdata\": true}"),
    etc("JSON without ecs-init", b"",
        &[(BLOCK, true, ON, "/etc/ecs_container_agent/config.json:1"), (ROLE, false, UNSET, AGENT), (ROLE_HOST, false, UNSET, AGENT), (ENI, false, UNSET, AGENT)], &[])
        .other("/etc/ecs_container_agent/config.json", b"{\"AWSVPCBlockInstanceMetdata\": true}").without_ecs_init(),

    // ECS Anywhere: the generic unit reads both files, the one of SUSE none.
    etc("anywhere: external in /var/lib", b"",
        &[(EXTERNAL, true, ON, VAR1), (ENI, false, UNSET, "forced by ECS_EXTERNAL=true (/var/lib/ecs/ecs.config:1)")], &[])
        .var(b"ECS_EXTERNAL=true\n").unit(GENERIC),
    etc("anywhere: ecs-init's variables in /var/lib", b"", &[(SKIP, true, ON, VAR1)], &[]).var(b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n").unit(GENERIC),
    etc("anywhere: /etc beats /var/lib", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=false\n", &[(SKIP, false, OFF, ETC1)], &[])
        .var(b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n").unit(GENERIC),
    etc("anywhere: Amazon Linux's unit does not read /var/lib", b"", &[(EXTERNAL, true, ON, VAR1)], &[]).var(b"ECS_EXTERNAL=true\n").unit(AMAZON_LINUX),
    etc("anywhere: SUSE's unit reads nothing", b"ECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\nECS_EXTERNAL=true\n", &[(EXTERNAL, true, ON, ETC2)], &[NotReadThere]).unit(SUSE),

    // Characters.
    etc("a real replacement character hides nothing", "ECS_CLUSTER=\u{fffd}\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n".as_bytes(), &[(SKIP, true, ON, ETC2)], &[]),
    etc("a noncharacter does", "ECS_CLUSTER=\u{fdd0}\nECS_SKIP_LOCALHOST_TRAFFIC_FILTER=true\n".as_bytes(), &[], &[NotUtf8]),
];

type Row = (&'static str, bool, Wish, String);

fn rows(config: &EcsConfig) -> Vec<Row> {
    config
        .settings()
        .map(|s| (s.variable, s.effective, s.wish, s.source.to_string()))
        .to_vec()
}

#[test]
fn every_sample_is_read_as_the_ecs_software_reads_it() {
    let empty = etc("", b"", &[], &[]);
    let mut wrong = Vec::new();
    for sample in SAMPLES {
        let config = sample.resolve();
        let mut expected = rows(&empty.resolve());
        for &(name, effective, wish, source) in sample.settings {
            let row = expected.iter_mut().find(|row| row.0 == name).expect(name);
            *row = (name, effective, wish, source.to_owned());
        }
        for (got, expected) in rows(&config).iter().zip(&expected) {
            if got != expected {
                wrong.push(format!(
                    "{}: expected {expected:?}, got {got:?}",
                    sample.name
                ));
            }
        }
        let mut got: Vec<_> = config.traps.iter().map(|t| t.kind).collect();
        let mut expected = sample.traps.to_vec();
        got.sort();
        expected.sort();
        if got != expected {
            wrong.push(format!(
                "{}: expected traps {expected:?}, got {got:?}",
                sample.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_as_long_as_promised() {
    assert!(SAMPLES.len() >= 60);
    let mut names: Vec<_> = SAMPLES.iter().map(|s| s.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), SAMPLES.len(), "two samples share a name");
}

/// The traps of all samples, so that their language can be read in one place.
#[test]
fn the_messages() {
    let mut lines: Vec<String> = SAMPLES
        .iter()
        .flat_map(|s| s.resolve().traps)
        .map(|t| {
            format!(
                "{}:{}: {:?}: {}",
                t.path.display(),
                t.line,
                t.kind,
                t.message
            )
        })
        .collect();
    lines.sort();
    lines.dedup();
    insta::assert_snapshot!(lines.join("\n"));
}
