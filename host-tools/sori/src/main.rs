//! The `sori` command.
//!
//! One module per command under `commands`. They share `audio` (any file to mono samples),
//! `frontend` (to feature rows), `hearing` (to a verdict), `batch` (many files on all cores),
//! `clips` (folders to feature rows), `evaluation` (statistics of many verdicts), `package` (any
//! package to aligned bytes), `onnx` (float networks, if the build supports them), `backend` (the
//! instruction set that runs a network), `memory_plan` (the cost of less memory), `stopwatch`
//! (timing), `signing_key` (the key that signs packages), `uf2` (programs for a boot loader's
//! drive), `output` (atomic files, tables) and `exit` (exit codes).
#![forbid(unsafe_code)]

mod audio;
mod backend;
mod batch;
mod clips;
mod commands;
mod confusion;
mod evaluation;
mod exit;
mod frontend;
mod hearing;
mod memory_plan;
#[cfg(feature = "microphone")]
mod microphone;
mod npy;
mod onnx;
mod output;
mod package;
mod pcm;
mod signing_key;
mod stopwatch;
mod uf2;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// Name the genre of music; build, inspect and deploy networks that do.
#[derive(Debug, Parser)]
#[command(
    name = "sori",
    version,
    after_help = "Exit codes: 0 success, 1 runtime error, 2 usage error, 3 gate failed, 4 device not found, 5 package incompatible"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    backend: backend::Choice,
}

fn main() -> ExitCode {
    let Cli { command, backend } = Cli::parse();
    match command.run(backend) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
