//! Pool and fully connected layer: nothing is rounded before the logits, so rows may be
//! weighted first and added up then, or the other way round.
//!
//! `LANES` channels stay in registers at a time; `value` is what a kept activation stands for.

use sori_package::Classifier;

/// What one row `[width][channels]` adds to each class' total: the sum over frequency,
/// then the fully connected layer.
#[inline(always)]
pub(crate) fn row_totals<const LANES: usize>(
    classifier: &Classifier<'_>,
    value: impl Fn(i8) -> i32 + Copy,
    row: &[i8],
    totals: &mut [i32],
) {
    totals.copy_from_slice(classifier.kernel.bias);
    add_row_totals::<LANES>(classifier, value, 0, row, totals);
}

/// Adds what a row of some channels `[width][channels]`, the first of which is number `first` of
/// the classifier's, gives to each class' total.
#[inline(always)]
pub(crate) fn add_row_totals<const LANES: usize>(
    classifier: &Classifier<'_>,
    value: impl Fn(i8) -> i32 + Copy,
    first: usize,
    row: &[i8],
    totals: &mut [i32],
) {
    let channels = row.len() / usize::from(classifier.input.width);
    for start in (0..channels).step_by(LANES) {
        let sums = sums_from::<LANES>(classifier, value, row, start);
        let lanes = LANES.min(channels - start);
        weigh(classifier, first + start, lanes, &sums, totals);
    }
}

/// Adds each channel's sum over frequency of one row to `sums`, `[channels]`.
#[inline(always)]
pub(crate) fn add_sums<const LANES: usize>(
    classifier: &Classifier<'_>,
    value: impl Fn(i8) -> i32 + Copy,
    row: &[i8],
    sums: &mut [i32],
) {
    for (n, sums) in sums.chunks_mut(LANES).enumerate() {
        let row_sums = sums_from::<LANES>(classifier, value, row, n * LANES);
        for (sum, row_sum) in sums.iter_mut().zip(row_sums) {
            *sum += row_sum;
        }
    }
}

/// Totals of `rows` rows from their channels' sums.
#[inline(always)]
pub(crate) fn totals<const LANES: usize>(
    classifier: &Classifier<'_>,
    sums: &[i32],
    rows: usize,
    totals: &mut [i32],
) {
    for (total, &bias) in totals.iter_mut().zip(classifier.kernel.bias) {
        *total = bias * rows as i32;
    }
    for (n, sums) in sums.chunks(LANES).enumerate() {
        let mut lanes = [0; LANES];
        lanes[..sums.len()].copy_from_slice(sums);
        weigh(classifier, n * LANES, sums.len(), &lanes, totals);
    }
}

/// Sums over frequency of the row's channels from `start` on, less the zero point.
#[inline(always)]
fn sums_from<const LANES: usize>(
    classifier: &Classifier<'_>,
    value: impl Fn(i8) -> i32 + Copy,
    row: &[i8],
    start: usize,
) -> [i32; LANES] {
    let channels = row.len() / usize::from(classifier.input.width);
    let zero = i32::from(classifier.input.width) * i32::from(classifier.input_zero_point);
    let lanes = LANES.min(channels - start);
    let mut sums = [-zero; LANES];
    for pixel in row.chunks_exact(channels) {
        let pixel = &pixel[start..][..lanes];
        // Known lengths become vectors.
        match pixel.first_chunk::<LANES>() {
            Some(pixel) => {
                for (sum, &q) in sums.iter_mut().zip(pixel) {
                    *sum += value(q);
                }
            }
            None => {
                for (sum, &q) in sums.iter_mut().zip(pixel) {
                    *sum += value(q);
                }
            }
        }
    }
    sums
}

/// Adds the products of the weights of `lanes` channels from `start` on.
#[inline(always)]
fn weigh<const LANES: usize>(
    classifier: &Classifier<'_>,
    start: usize,
    lanes: usize,
    sums: &[i32; LANES],
    totals: &mut [i32],
) {
    let channels = usize::from(classifier.input.channels);
    let weights = classifier.kernel.weights.chunks_exact(channels);
    // Sums of 16 bits, the usual case, are multiplied in half the space.
    let lost = sums
        .iter()
        .fold(0, |lost, &sum| lost | (sum ^ i32::from(sum as i16)));
    if lost == 0 && lanes == LANES {
        let sums = sums.map(|sum| sum as i16);
        for (total, weights) in totals.iter_mut().zip(weights) {
            let Some(weights) = weights[start..].first_chunk::<LANES>() else {
                continue;
            };
            let mut products = 0;
            for lane in 0..LANES {
                products += i32::from(weights[lane]) * i32::from(sums[lane]);
            }
            *total += products;
        }
    } else {
        for (total, weights) in totals.iter_mut().zip(weights) {
            let products = weights[start..][..lanes].iter().zip(sums);
            *total += products.map(|(&w, &sum)| i32::from(w) * sum).sum::<i32>();
        }
    }
}

/// Logits from the totals of the last `rows` rows.
pub(crate) fn logits(classifier: &Classifier<'_>, totals: &[i32], rows: usize, logits: &mut [i8]) {
    let kernel = classifier.kernel;
    let scales = kernel.multiplier.iter().zip(kernel.shift);
    for ((logit, &total), (&multiplier, &shift)) in logits.iter_mut().zip(totals).zip(scales) {
        let shift = 31 + u32::from(shift);
        // ⌊(⌊p/n⌋ + m/2) / m⌋ = ⌊p/(n·m) + ½⌋: m/2 is whole, so the nested floors are one.
        let mean = (i64::from(total) * i64::from(multiplier)).div_euclid(rows as i64);
        let rounded = (mean + (1 << (shift - 1))) >> shift;
        let value = rounded + i64::from(classifier.activation.zero_point);
        let (min, max) = (classifier.activation.min, classifier.activation.max);
        *logit = value.clamp(min.into(), max.into()) as i8;
    }
}
