//! One module per command.

mod completions;
mod features;
mod quantize;

use anyhow::Result;
use clap::Subcommand;

/// What `sori` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the front end's int8 rows of audio files as .npy, for training
    Features(features::Features),
    /// Turn a trained MobileNetV2 (ONNX) into an int8 package
    Quantize(quantize::Quantize),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Features(command) => command.run(),
            Self::Quantize(command) => command.run(),
            Self::Completions(command) => command.run(),
        }
    }
}
