//! Man pages and completions are made from the program's own definition, and the pages written by
//! hand name every key there is.

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
