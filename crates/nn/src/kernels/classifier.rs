use sori_package::Classifier;

/// Channels whose sums over frequency stay in registers.
const LANES: usize = 32;

/// What one row `[width][channels]` adds to each class' total: the sum over frequency,
/// then the fully connected layer, nothing rounded.
pub(crate) fn row_totals(classifier: &Classifier<'_>, row: &[i8], totals: &mut [i32]) {
    let channels = usize::from(classifier.input.channels);
    let zero = i32::from(classifier.input.width) * i32::from(classifier.input_zero_point);
    totals.copy_from_slice(classifier.kernel.bias);
    for start in (0..channels).step_by(LANES) {
        let lanes = LANES.min(channels - start);
        let mut sums = [-zero; LANES];
        for pixel in row.chunks_exact(channels) {
            for (sum, &q) in sums.iter_mut().zip(&pixel[start..][..lanes]) {
                *sum += i32::from(q);
            }
        }
        let weights = classifier.kernel.weights.chunks_exact(channels);
        for (total, weights) in totals.iter_mut().zip(weights) {
            let products = weights[start..][..lanes].iter().zip(&sums);
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
