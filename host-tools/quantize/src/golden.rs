//! Golden vectors: made once when a package is built, reproduced by every target.

use anyhow::{Result, ensure};
use sori_dsp::FrontEnd;
use sori_listener::{Memory, Mismatch, Verified};
use sori_nn::{Network, Prepared};
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
    let mut arena = aligned_arena(package, stripe);
    let mut network = Network::new(package, bytes(&mut arena), stripe)?;
    let mut logits = Vec::new();
    network.push(features, &mut |row| logits.extend_from_slice(row));
    network.flush(&mut |row| logits.extend_from_slice(row));
    Ok(logits)
}

/// An arena on the heap; `u32` gives it the alignment.
fn aligned_arena<'p>(prepared: impl Into<Prepared<'p>>, stripe: usize) -> Vec<u32> {
    vec![0; Network::arena_bytes(prepared, stripe).div_ceil(size_of::<u32>())]
}

fn bytes(arena: &mut [u32]) -> &mut [u8] {
    bytemuck::cast_slice_mut(arena)
}

/// The stripe heights, in rows, with which [`verify`] runs the network.
pub const VERIFIED_STRIPES: [usize; 3] = [1, 7, 128];

/// Recomputes the golden vectors with several stripe heights and
/// compares every bit, on the backend that the package was prepared for.
///
/// # Errors
/// The first difference.
pub fn verify<'p>(prepared: impl Into<Prepared<'p>>) -> Result<Verified, Mismatch> {
    let prepared = prepared.into();
    let mel = prepared.package().mel();
    let frontend_len = mel.map_or(0, |mel| FrontEnd::workspace_len(&mel));
    let mut frontend = vec![0; frontend_len];
    let mut verified = Verified {
        feature_rows: 0,
        output_rows: 0,
    };
    for stripe in VERIFIED_STRIPES {
        let mut arena = aligned_arena(&prepared, stripe);
        let memory = Memory {
            frontend: &mut frontend,
            arena: bytes(&mut arena),
        };
        verified = sori_listener::verify(&prepared, memory, stripe)?;
    }
    Ok(verified)
}
