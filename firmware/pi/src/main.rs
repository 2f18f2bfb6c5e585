//! The `sori-pi` command.
#![forbid(unsafe_code)]

mod commands;
mod man;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::Cli::parse().run()
}
