//! `cargo xtask ci`: every check, the same on a laptop and in CI.
//!
//! Each step prints its title and time; a failing one prints the command that
//! repeats it alone. Nothing is skipped: what cannot run fails and says why.
#![forbid(unsafe_code)]

mod ci;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  ci     every check that fits into half an hour (what .ci/run runs)
  qemu   only the tests on emulated processors";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let result = match command.as_str() {
        "ci" => ci::all(),
        "qemu" => ci::qemu(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
