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

/// What `sori` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Name the genre of audio files
    Classify(classify::Classify),
    /// Name the genre of sound as it comes in
    Listen(listen::Listen),
    /// Measure accuracy on a folder of labelled audio
    Eval(eval::Eval),
    /// Turn a trained MobileNetV2 (ONNX) into an int8 package
    Quantize(quantize::Quantize),
    /// Run two networks on the same clips and show what changes
    Compare(compare::Compare),
    /// Show what is in a package: layers, sizes, mel contract, provenance; or what a network's ReLUs keep
    Inspect(inspect::Inspect),
    /// Fit a package to a microcontroller's memory: what that costs, and the package
    Plan(plan::Plan),
    /// Check that this machine computes the bits that a package promises
    Verify(verify::Verify),
    /// Sign a package, and make the key for that
    Sign(sign::Sign),
    /// Time a package, or an ONNX network, on this machine
    Bench(bench::Bench),
    /// Write the front end's int8 rows of audio files as .npy, for training
    Features(features::Features),
    /// Bring sori-pi, or only a package, to a Raspberry Pi over ssh
    Deploy(deploy::Deploy),
    /// Put Sori onto a card for a Raspberry Pi, or the firmware onto a microcontroller
    Flash(flash::Flash),
    /// Print a completion script for a shell
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
