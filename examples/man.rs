//! Writes the man pages of the program and its completions, made from the command line's own
//! definition: `man DIR` fills `DIR/man` and `DIR/completions`. The pages about files, which are
//! written by hand, are in `packaging/man`.

#![allow(clippy::expect_used, reason = "a build step stops where it goes wrong")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Programs of the administrator.
const SECTION: &str = "8";

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).expect("usage: man DIR");
    let dir = PathBuf::from(dir);
    let (pages, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let mut command = ecs_netguard::cli::command().disable_help_subcommand(true);
    command.build();
    write(&command, &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "ecs-netguard", &completions)?;
    }
    Ok(())
}

fn write(command: &Command, dir: &Path) -> std::io::Result<()> {
    let shown = command.get_subcommands();
    for subcommand in shown.filter(|subcommand| !subcommand.is_hide_set()) {
        write(subcommand, dir)?;
    }
    Man::new(command.clone())
        .section(SECTION)
        .generate_to(dir)?;
    Ok(())
}
