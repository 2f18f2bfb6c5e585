//! Golden vectors: made once when a package is built, reproduced by every target.

use anyhow::{Result, ensure};
use sori_dsp::FrontEnd;
use sori_nn::Network;
use sori_package::write::GoldenSpec;
use sori_package::{MelContract, Package};

/// Seconds of golden audio.
const SECONDS: f64 = 1.5;
/// Output rows that golden feature rows give, where there is no audio.
const ROWS_WITHOUT_AUDIO: usize = 128;

/// Runs the package, which has no golden vectors yet, over made-up input.
pub(crate) fn make(package: &Package<'_>) -> Result<GoldenSpec> {
    let audio = package.mel().map(|mel| audio(&mel));
    let features = match (&audio, package.mel()) {
        (Some(audio), Some(mel)) => features(&mel, audio)?,
        _ => noise(ROWS_WITHOUT_AUDIO * package.input().row_len()),
    };
    let logits = logits(package, &features, 8)?;
    ensure!(
        !logits.is_empty(),
        "the network produces no output row for its golden input"
    );
    Ok(GoldenSpec {
        audio,
        features,
        logits,
    })
}

/// A rising tone over soft noise with a pause: every band and the level rule have work.
fn audio(mel: &MelContract<'_>) -> Vec<i16> {
    let samples = (SECONDS * f64::from(mel.sample_rate_hz)) as i32;
    let samples = samples.max(4 * mel.window_samples as i32);
    let hiss = noise(samples as usize);
    let mut phase = 0i32;
    (0..samples)
        .zip(hiss)
        .map(|(n, hiss)| {
            phase = phase.wrapping_add(1 << 23).wrapping_add(n << 15);
            // A triangle wave of the phase's upper half.
            let triangle = ((phase >> 16).abs() - (1 << 14)) / 2;
            let pause = n > samples / 2 && n < samples / 2 + samples / 8;
            (if pause { 0 } else { triangle } + i32::from(hiss)) as i16
        })
        .collect()
}

/// The same always.
pub(crate) fn noise(len: usize) -> Vec<i8> {
    let mut state = 20_260_101u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as i8
        })
        .collect()
}

fn features(mel: &MelContract<'_>, audio: &[i16]) -> Result<Vec<i8>> {
    let samples: Vec<i32> = audio.iter().map(|&x| sori_dsp::from_i16(x)).collect();
    let mut workspace = vec![0; FrontEnd::workspace_len(mel)];
    let mut frontend = FrontEnd::new(mel, &mut workspace)?;
    let mut rows = Vec::new();
    frontend.push(&samples, &mut |row| rows.extend_from_slice(row.features));
    Ok(rows)
}

/// Logits after each output row, the flush included.
pub(crate) fn logits(package: &Package<'_>, features: &[i8], stripe: usize) -> Result<Vec<i8>> {
    // `u32` gives the arena its alignment.
    let mut arena = vec![0u32; Network::arena_bytes(package, stripe).div_ceil(size_of::<u32>())];
    let mut network = Network::new(package, bytemuck::cast_slice_mut(&mut arena), stripe)?;
    let mut logits = Vec::new();
    network.push(features, &mut |row| logits.extend_from_slice(row));
    network.flush(&mut |row| logits.extend_from_slice(row));
    Ok(logits)
}
