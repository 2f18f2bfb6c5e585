//! A contract that validates, over any samples cut anyhow.

use sori_dsp::{Backend, FrontEnd};
use sori_package::{MelContract, MelScale};

use crate::{Input, noise};

pub(crate) fn check(data: &[u8]) {
    let Some((head, samples)) = data.split_first_chunk::<8>() else {
        return;
    };
    let [fft, window, hop, dc, floor, release, scale, step] = *head;
    let fft = 256 << (fft % 4);
    let window_samples = (fft / 128 * (usize::from(window) / 2 + 1)).clamp(2, fft) & !1;
    let window_q31: Vec<i32> = (0..=window_samples / 2)
        .map(|n| i32::MAX / (window_samples as i32 / 2) * n as i32)
        .collect();
    // One band of every bin at full weight is the largest sum; then one bin each.
    let bins = fft as u16 / 2 + 1;
    let band_bins = [0, bins, 0, 1, bins - 1, 1];
    let band_weights_q15 = vec![1 << 15; usize::from(bins) + 2];
    let contract = MelContract {
        sample_rate_hz: 16_000,
        fft,
        window_samples,
        hop_samples: (usize::from(hop) * 9 + 1).min(window_samples),
        bands: 3,
        low_hz: 0.0,
        high_hz: 8_000.0,
        scale: MelScale::Htk,
        dc_shift: 4 + dc % 13,
        reference_release_q16: u32::from(release) << 14,
        reference_floor_q16: i32::from(floor as i8) << 16,
        feature_multiplier: (1 << 30) + (i32::from(scale) << 22),
        feature_shift: 1 + scale % 31,
        feature_top: floor as i8,
        window_q31: &window_q31,
        band_bins: &band_bins,
        band_weights_q15: &band_weights_q15,
    };
    contract.validate().expect("within every bound");
    let samples = Input(samples).samples();
    let mut workspace = vec![0; FrontEnd::workspace_len(&contract)];
    // However the samples are cut, the rows are the same.
    let mut rows = [Vec::new(), Vec::new()];
    let backends = [Backend::SCALAR, Backend::detect()];
    let steps = [usize::from(step) + 1, usize::MAX];
    for ((step, backend), rows) in steps.into_iter().zip(backends).zip(&mut rows) {
        let mut frontend = FrontEnd::new(&contract, &mut workspace)
            .expect("validated above")
            .with_backend(backend);
        // Short inputs still fill a window.
        for _ in 0..window_samples / samples.len().max(1) + 2 {
            for samples in samples.chunks(step) {
                frontend.push(samples, &mut |row| {
                    rows.push((row.features.to_vec(), row.level_dbfs_q8));
                });
            }
        }
    }
    assert_eq!(rows[0], rows[1]);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let loud = [2, 3, 40, 6, 200, 9, 128, 16].into_iter();
    let loud = loud.chain(noise(0x9e37_79b9, 600));
    let quiet = [0, 255, 9, 0, 0, 0, 0, 0].into_iter().chain(noise(3, 600));
    vec![loud.collect(), quiet.collect()]
}
