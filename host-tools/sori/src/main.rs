//! The `sori` command.
//!
//! One module per command under `commands`; what they share is `audio` (any file
//! to mono samples), `frontend` (to feature rows), `hearing` (to an answer), `batch`
//! (many of them on all cores), `clips` (folders to feature rows),
//! `evaluation` (what many answers show), `package` (any package to aligned bytes), `onnx` (float networks, where
//! the build has them), `backend`
//! (the instructions that run it), `memory_plan` (what less memory costs), `stopwatch` (how long
//! that takes), `signing_key` (where the key is that signs packages), `uf2` (a program as a board takes it), `output` (files that appear whole or not
//! at all, tables) and `exit` (what the exit code says).
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

/// Names the genre of music; makes, inspects and checks packages.
#[derive(Debug, Parser)]
#[command(
    name = "sori",
    version,
    after_help = "Exit codes: 0 ok, 1 runtime error, 2 usage, 3 gate failed, 4 device not found, 5 package incompatible"
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
