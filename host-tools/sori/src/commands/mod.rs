//! One module per command.

#[cfg(not(feature = "quantize"))]
mod absent;
mod bench;
mod classify;
mod compare;
mod completions;
mod deploy;
mod eval;
mod features;
mod flash;
mod inspect;
mod listen;
#[cfg(feature = "quantize")]
mod manifold;
mod plan;
#[cfg(feature = "quantize")]
mod quantize;
mod sign;
mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::backend::Choice;
#[cfg(not(feature = "quantize"))]
use absent::{manifold, quantize};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Name the genre of audio files
    Classify(classify::Classify),
    /// Name the genre of live audio
    Listen(listen::Listen),
    /// Measure accuracy on a folder of labelled audio
    Eval(eval::Eval),
    /// Quantize a trained MobileNetV2 (ONNX) to an int8 package
    Quantize(quantize::Quantize),
    /// Compare two networks on the same clips
    Compare(compare::Compare),
    /// Show a package's layers, memory, mel contract and provenance
    Inspect(inspect::Inspect),
    /// Fit a package into a microcontroller's memory
    Plan(plan::Plan),
    /// Check that this machine computes the bits a package promises
    Verify(verify::Verify),
    /// Sign a package
    Sign(sign::Sign),
    /// Time a package or an ONNX network on this machine
    Bench(bench::Bench),
    /// Write audio files' feature rows as .npy, for training
    Features(features::Features),
    /// Install or update sori-pi, or only its package, over SSH
    Deploy(deploy::Deploy),
    /// Prepare a Raspberry Pi card, or flash a microcontroller
    Flash(flash::Flash),
    /// Print a shell completion script
    Completions(completions::Completions),
}

impl Command {
    pub(crate) fn run(self, backend: Choice) -> Result<()> {
        match self {
            Self::Classify(command) => command.run(backend.one()?),
            Self::Listen(command) => command.run(backend.one()?),
            Self::Eval(command) => command.run(backend.one()?),
            Self::Quantize(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Plan(command) => command.run(),
            Self::Verify(command) => command.run(&backend.several()?),
            Self::Sign(command) => command.run(),
            Self::Bench(command) => command.run(backend.one()?),
            Self::Features(command) => command.run(),
            Self::Deploy(command) => command.run(),
            Self::Flash(command) => command.run(),
            Self::Completions(command) => command.run(),
        }
    }
}
