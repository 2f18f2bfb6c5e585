//! Runs an audio file through the whole chain, as a device would hear it.

use std::path::Path;

use anyhow::{Context as _, Result};
use sori_listener::{Clip, ClipSummary, Listener, Memory, Verdict};
use sori_nn::{Network, Prepared};
use sori_package::MelContract;

use crate::{audio, frontend};

/// The result for one file.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) clip: Clip,
    pub(crate) seconds: f64,
    /// Warnings about the file.
    pub(crate) warnings: Vec<String>,
}

/// The memory that a listener borrows.
pub(crate) struct Workspace {
    frontend: Vec<i32>,
    /// `u32` gives the arena its alignment.
    arena: Vec<u32>,
}

impl Workspace {
    pub(crate) fn new(prepared: &Prepared<'_>, mel: &MelContract<'_>) -> Self {
        let words = Network::arena_bytes(prepared, 1).div_ceil(size_of::<u32>());
        Self {
            frontend: vec![0; Listener::frontend_len(mel, mel.sample_rate_hz)],
            arena: vec![0; words],
        }
    }

    /// A listener at the start of a stream.
    pub(crate) fn listener<'p, 'a>(
        &'a mut self,
        prepared: &Prepared<'p>,
        rate_hz: u32,
    ) -> Result<Listener<'p, 'a>> {
        if let Some(mel) = prepared.package().mel() {
            let len = Listener::ample_frontend_len(&mel, rate_hz);
            self.frontend.resize(len, 0);
        }
        let memory = Memory {
            frontend: &mut self.frontend,
            arena: bytemuck::cast_slice_mut(&mut self.arena),
        };
        Ok(Listener::new(prepared, memory, rate_hz)?)
    }
}

/// Decodes a file and listens to all of it.
pub(crate) fn hear(path: &Path, prepared: &Prepared<'_>, mel: &MelContract<'_>) -> Result<Heard> {
    let mut workspace = Workspace::new(prepared, mel);
    let mut listener = workspace
        .listener(prepared, mel.sample_rate_hz)
        .context("the listener")?;
    let mut summary = ClipSummary::new(prepared.package());
    let decoded = audio::stream(path, mel.sample_rate_hz, &mut |samples| {
        listener.push(samples, &mut |event| summary.observe(&event));
    })?;
    listener.finish(&mut |event| summary.observe(&event));
    let clip = summary.clip();
    if clip.rows == 0 {
        return Err(frontend::too_short(path, mel));
    }
    Ok(Heard {
        clip,
        seconds: decoded.frames as f64 / f64::from(decoded.rate_hz),
        warnings: decoded.warnings,
    })
}

/// A verdict's name.
pub(crate) fn name<'l>(verdict: Verdict, labels: &[&'l str]) -> &'l str {
    match verdict {
        Verdict::Silence => "silence",
        Verdict::Unknown => "unknown",
        Verdict::Label(label) => labels.get(usize::from(label)).copied().unwrap_or("?"),
    }
}

/// A Q15 probability as a fraction.
pub(crate) fn fraction(probability_q15: u16) -> f64 {
    f64::from(probability_q15) / f64::from(1 << 15)
}

/// A level in 1/256 dB as dB.
pub(crate) fn decibels(level_q8: i32) -> f64 {
    f64::from(level_q8) / 256.0
}
