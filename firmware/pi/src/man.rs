//! Manual pages, made of what `--help` is made of.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// Files and variables, which no help text has room for.
const FILES: [(&str, &str); 3] = [
    (
        "/etc/sori-pi/sori-pi.toml",
        "The configuration; comments explain each key.",
    ),
    (
        "/var/lib/sori-pi/history.sqlite",
        "The service's history, readable by the group sori.",
    ),
    (
        "~/.local/state/sori-pi/history.sqlite",
        "The history of sori-pi run started by hand.",
    ),
];
const ENVIRONMENT: [(&str, &str); 2] = [
    (
        "SORI_PI_SECTION_KEY",
        "Overrides a key of the configuration: SORI_PI_PAGE_LISTEN is listen of [page].",
    ),
    (
        "SORI_LOG",
        "Log level: error, warn, info (the default), debug, trace.",
    ),
];

/// Writes a page for the command and for each of its subcommands.
pub(crate) fn write(command: clap::Command, folder: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    page(&command, folder, true)?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: &clap::Command, folder: &Path, is_root: bool) -> anyhow::Result<()> {
    let man = Man::new(command.clone());
    let path = folder.join(man.get_filename());
    let mut text = Vec::new();
    man.render(&mut text)?;
    if is_root {
        for (title, entries) in [("FILES", &FILES[..]), ("ENVIRONMENT", &ENVIRONMENT[..])] {
            section(title, entries).to_writer(&mut text)?;
        }
    }
    fs::File::create(&path)
        .and_then(|mut file| file.write_all(&text))
        .with_context(|| path.display().to_string())?;
    let shown = |command: &&clap::Command| !command.is_hide_set();
    command
        .get_subcommands()
        .filter(shown)
        .try_for_each(|subcommand| page(subcommand, folder, false))
}

fn section(title: &str, entries: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (term, text) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::commands::Cli;

    #[test]
    fn every_command_has_a_page_and_the_first_says_where_things_are() {
        let folder = tempfile::tempdir().unwrap();
        write(Cli::command(), folder.path()).unwrap();
        let text = |name: &str| {
            let path = folder.path().join(name);
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let first = text("sori-pi.1");
        for part in [".SH NAME", "SH FILES", "/etc/sori-pi/sori", "SORI_LOG"] {
            let part = part.replace('-', "\\-");
            assert!(first.contains(&part), "{part} is not in:\n{first}");
        }
        for name in ["run", "mic-doctor", "export", "field-test-listen"] {
            assert!(text(&format!("sori-pi-{name}.1")).contains(".SH OPTIONS"));
        }
        // It is for whoever makes a package.
        assert!(!folder.path().join("sori-pi-man.1").exists());
    }
}
