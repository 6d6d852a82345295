//! Writes the man pages of the program and its completions, made from the command line's own
//! definition: `man DIR` fills `DIR/man` and `DIR/completions`. The pages about files, which are
//! written by hand, are in `packaging/man`.

#![allow(clippy::expect_used, reason = "a build step stops where it goes wrong")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// Programs of the administrator.
const SECTION: &str = "8";

const EXIT_STATUS: [(&str, &str); 5] = [
    (
        "0",
        "All required guarantees are held, or the command did what it was asked.",
    ),
    (
        "1",
        "A required guarantee is violated; config --check: there are traps.",
    ),
    (
        "2",
        "Usage or configuration error, or another ecs-netguard keeps the rules of this network namespace.",
    ),
    ("3", "Undecided, or it could not be determined."),
    ("4", "The daemon cannot be reached."),
];

const FILES: [(&str, &str); 7] = [
    (
        "/etc/ecs-netguard/config.toml",
        "The daemon's own configuration; see ecs-netguard.toml(5).",
    ),
    (
        "/etc/ecs/ecs.config, /etc/ecs/ecs.config.json",
        "What the ECS agent is configured with; see ecs.config(5).",
    ),
    (
        "/var/lib/ecs-netguard/state.json",
        "What ecs.config asked for, and what the sysctls were before.",
    ),
    (
        "/var/lib/ecs-netguard/events.jsonl",
        "The last events, a JSON document a line.",
    ),
    (
        "/var/lib/ecs-netguard/probe.json",
        "The outcome of the last probe --record.",
    ),
    (
        "/run/ecs-netguard/status.sock",
        "The status socket: HTTP, for root and the group ecs-netguard.",
    ),
    (
        "/run/ecs-netguard/lock",
        "Held by the one run, apply or release.",
    ),
];

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).expect("usage: man DIR");
    let dir = PathBuf::from(dir);
    let (pages, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let command = ecs_netguard::cli::command();
    let mut command = command.mut_subcommand("help", |help| help.hide(true));
    command.build();
    write(&command, &command, &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "ecs-netguard", &completions)?;
    }
    Ok(())
}

fn write(command: &Command, top: &Command, dir: &Path) -> std::io::Result<()> {
    let shown = command.get_subcommands();
    for subcommand in shown.filter(|subcommand| !subcommand.is_hide_set()) {
        write(subcommand, top, dir)?;
    }
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let man = Man::new(command.clone()).section(SECTION);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    list("EXIT STATUS", &EXIT_STATUS.map(owned), &mut page)?;
    list("ENVIRONMENT", &environment(top), &mut page)?;
    list("FILES", &FILES.map(owned), &mut page)?;
    examples(command, &mut page)?;
    let see = "ecs-netguard(8), ecs-netguard.toml(5), ecs.config(5), iptables(8), nft(8)";
    Roff::new()
        .control("SH", ["SEE ALSO"])
        .text([roman(see)])
        .to_writer(&mut page)?;
    fs::write(dir.join(format!("{name}.{SECTION}")), page)
}

fn owned((term, text): (&str, &str)) -> (String, String) {
    (term.to_owned(), text.to_owned())
}

/// The variables that stand for options of every command.
fn environment(top: &Command) -> Vec<(String, String)> {
    let shown = top
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let of = |argument: &clap::Arg| {
        let (name, option) = (argument.get_env()?, argument.get_long()?);
        Some((
            name.to_string_lossy().into_owned(),
            format!("The same as --{option}."),
        ))
    };
    shown.filter_map(of).collect()
}

fn list(title: &str, items: &[(String, String)], page: &mut impl Write) -> std::io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", [title]);
    for (term, text) in items {
        section
            .control("TP", [])
            .text([bold(term)])
            .text([roman(text)]);
    }
    section.to_writer(page)
}

/// The examples at the end of the command's help, as they stand there.
fn examples(command: &Command, page: &mut impl Write) -> std::io::Result<()> {
    let help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let lines = help.lines().skip(1).take_while(|line| !line.is_empty());
    let mut section = Roff::new();
    section.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in lines {
        section.text([roman(line.trim_start())]);
    }
    section.control("fi", []);
    section.to_writer(page)
}
