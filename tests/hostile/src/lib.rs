//! What must hold of everything that reads a stranger's bytes, whatever the bytes.
//!
//! Each [`Target`] is a function that panics where a promise is broken. `tests/replay.rs` runs it on
//! stable Rust over its seeds, its corpus and some thousand mutations of them, always the same ones;
//! `tests/fuzz` hands it to libFuzzer, which looks for others.
#![forbid(unsafe_code)]

mod decider;
mod frontend;
mod http;
mod listener;
mod onnx;
mod package;
mod plan;
mod resampler;
mod signature;
mod text;
mod wav;

/// One reader of bytes, and its promise.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Of its corpus and of its fuzzer.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    /// Longest input that is worth trying, bytes.
    pub longest: usize,
    /// Mutations in a replay, by what one costs.
    pub mutations: usize,
    /// Panics if the promise is broken.
    pub check: fn(&[u8]),
    /// Inputs that are taken as they are meant.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All there are.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "package",
        promise: "Whatever `Package::parse` accepts can be read, run on every backend with one \
                  result, and listened with",
        longest: 8192,
        mutations: 1500,
        check: package::check,
        seeds: package::seeds,
    },
    Target {
        name: "plan",
        promise: "Any network of the family gives one result, whatever the backend, the stripe, the \
                  memory plan and the pieces that rows come in, in exactly the memory it asks for",
        longest: 64,
        mutations: 150,
        check: plan::check,
        seeds: plan::seeds,
    },
    Target {
        name: "frontend",
        promise: "Any samples under any contract that validates give the same rows on every \
                  backend, however they are cut",
        longest: 4096,
        mutations: 300,
        check: frontend::check,
        seeds: frontend::seeds,
    },
    Target {
        name: "resampler",
        promise: "Any samples between any two rates that it accepts come out the same however they \
                  are cut, with and without a table, as many as the rates say",
        longest: 2048,
        mutations: 300,
        check: resampler::check,
        seeds: resampler::seeds,
    },
    Target {
        name: "listener",
        promise: "Any samples at any rate are heard the same however they are cut, and nothing of \
                  one stream is left in the next",
        longest: 4096,
        mutations: 60,
        check: listener::check,
        seeds: listener::seeds,
    },
    Target {
        name: "decider",
        promise: "Any probabilities and levels under any rule name a class that there is, only \
                  after it was probable enough, and silence only in silence",
        longest: 1024,
        mutations: 5000,
        check: decider::check,
        seeds: decider::seeds,
    },
    Target {
        name: "wav",
        promise: "A file or a pipe of any bytes, cut anyhow, gives the same samples, and none \
                  beyond full scale",
        longest: 4096,
        mutations: 5000,
        check: wav::check,
        seeds: wav::seeds,
    },
    Target {
        name: "onnx",
        promise: "Any file is imported or refused, in the memory that its size explains",
        longest: 65_536,
        mutations: 200,
        check: onnx::check,
        seeds: onnx::seeds,
    },
    Target {
        name: "text",
        promise: "Contracts, configurations and the variables above them are read or refused",
        longest: 4096,
        mutations: 1500,
        check: text::check,
        seeds: text::seeds,
    },
    Target {
        name: "signature",
        promise: "Of all files only the one that was signed is accepted",
        longest: 64,
        mutations: 100,
        check: signature::check,
        seeds: signature::seeds,
    },
    Target {
        name: "http",
        promise: "Any bytes on a connection are answered or the connection is closed; nothing is an \
                  internal error, and nothing without the token is shown",
        longest: 8192,
        mutations: 500,
        check: http::check,
        seeds: http::seeds,
    },
];

/// The target of that name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> Target {
    let mut targets = TARGETS.into_iter();
    let found = targets.find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}"))
}

/// Takes parameters from the front of an input.
#[derive(Debug)]
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// The next byte; 0 at the end.
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    /// What is left, as samples.
    fn samples(&self) -> Vec<i32> {
        let words = self.0.as_chunks().0;
        words.iter().map(|&word| i32::from_le_bytes(word)).collect()
    }
}

/// So many words that look like nothing, for seeds; of 0 silence.
fn noise(seed: u32, words: u32) -> impl Iterator<Item = u8> {
    (0..words).flat_map(move |n| n.wrapping_mul(n).wrapping_mul(seed).to_le_bytes())
}
