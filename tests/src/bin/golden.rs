//! Writes `tests/golden` again: `golden contracts`, then, built with those, `golden results`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use sori_conformance::host;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("contracts") => host::write_contracts(),
        Some("results") => host::write_results(),
        _ => {
            eprintln!("usage: golden contracts | golden results");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
