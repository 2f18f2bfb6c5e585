//! Golden vectors: made once when a package is built, reproduced by every target.

use anyhow::{Context as _, Result, ensure};
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
        "the network gives no output row for its golden input"
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

fn noise(len: usize) -> Vec<i8> {
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
fn aligned_arena(package: &Package<'_>, stripe: usize) -> Vec<u32> {
    vec![0; Network::arena_bytes(package, stripe).div_ceil(size_of::<u32>())]
}

fn bytes(arena: &mut [u32]) -> &mut [u8] {
    bytemuck::cast_slice_mut(arena)
}

/// What [`verify`] compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Feature rows computed from the golden audio; 0 for packages without audio.
    pub feature_rows: usize,
    /// Output rows, for each of the stripes.
    pub output_rows: usize,
    /// Stripes the network ran with.
    pub stripes: [usize; 3],
}

/// Computes the golden vectors again and compares every bit.
///
/// # Errors
/// Says where the first difference is.
pub fn verify(package: &Package<'_>) -> Result<Verified> {
    let golden = package
        .golden()
        .context("the package has no golden vectors: quantize the model again")?;
    let row_len = package.input().row_len();
    let mut feature_rows = 0;
    if let (Some(audio), Some(mel)) = (golden.audio, package.mel()) {
        let computed = features(&mel, audio)?;
        feature_rows = computed.len() / row_len;
        equal("feature row", &computed, golden.features, row_len)?;
    }
    let classes = package.classifier().classes;
    let stripes = [1, 7, 128];
    for stripe in stripes {
        let computed = logits(package, golden.features, stripe)?;
        equal("logits of output row", &computed, golden.logits, classes)
            .with_context(|| format!("with stripes of {stripe} rows"))?;
    }
    Ok(Verified {
        feature_rows,
        output_rows: golden.logits.len() / classes,
        stripes,
    })
}

fn equal(what: &str, computed: &[i8], golden: &[i8], row_len: usize) -> Result<()> {
    ensure!(
        computed.len() == golden.len(),
        "{} {what}s were computed and the package has {}: this build computes other bits than the one that made the package",
        computed.len() / row_len,
        golden.len() / row_len
    );
    if let Some(at) = computed.iter().zip(golden).position(|(a, b)| a != b) {
        anyhow::bail!(
            "{what} {} differs at position {}: {} instead of {}: this build computes other bits than the one that made the package",
            at / row_len,
            at % row_len,
            computed[at],
            golden[at]
        );
    }
    Ok(())
}
