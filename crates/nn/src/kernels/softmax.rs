/// 2^(-i/64) for i in 0..=64, Q31, by repeated square roots in integers.
static POWER_Q31: [u32; 65] = {
    // 2^(-1/64) = ((((((1/2)^½)^½)^½)^½)^½)^½, Q62.
    let mut root: u128 = 1 << 61;
    let mut n = 0;
    while n < 6 {
        root = square_root(root << 62);
        n += 1;
    }
    let mut table = [0; 65];
    let mut power: u128 = 1 << 62;
    let mut i = 0;
    while i < table.len() {
        table[i] = ((power + (1 << 30)) >> 31) as u32;
        power = (power * root) >> 62;
        i += 1;
    }
    table
};

const fn square_root(x: u128) -> u128 {
    let mut root = 0;
    let mut bit = 1u128 << 63;
    while bit > 0 {
        if (root + bit) * (root + bit) <= x {
            root += bit;
        }
        bit >>= 1;
    }
    root
}

/// Probabilities (Q15) of int8 logits, integers only.
///
/// `step_q16` is log2(e) times the logits' scale, Q16: how many octaves one step of
/// a logit is worth. The probabilities add up to 32768 within `logits.len()` units.
///
/// ```
/// // A scale of ln 2: one step doubles.
/// let mut p = [0; 3];
/// sori_nn::softmax_q15(&[3, 2, 2], 1 << 16, &mut p);
/// assert_eq!(p, [16384, 8192, 8192]);
/// ```
pub fn softmax_q15(logits: &[i8], step_q16: u32, probabilities: &mut [u16]) {
    let largest = logits.iter().copied().max().unwrap_or(0);
    let power = |logit: i8| {
        let steps = u64::from(largest.abs_diff(logit));
        power_of_half_q31(steps * u64::from(step_q16))
    };
    let total: u64 = logits.iter().map(|&logit| power(logit)).sum();
    for (p, &logit) in probabilities.iter_mut().zip(logits) {
        *p = (((power(logit) << 15) + total / 2) / total.max(1)) as u16;
    }
}

/// 2^-x for x as Q16, Q31.
fn power_of_half_q31(x_q16: u64) -> u64 {
    let octaves = x_q16 >> 16;
    if octaves > 31 {
        return 0;
    }
    let index = (x_q16 >> 10) as usize & 63;
    let fraction = x_q16 & 0x3ff;
    let (high, low) = (u64::from(POWER_Q31[index]), u64::from(POWER_Q31[index + 1]));
    (high - (((high - low) * fraction) >> 10)) >> octaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_the_table_are_rounded_to_the_nearest() {
        for (n, &power) in POWER_Q31.iter().enumerate() {
            let exact = (31.0 - n as f64 / 64.0).exp2();
            let error = f64::from(power) - exact;
            assert!(error.abs() <= 0.501, "{n}: {error}");
        }
    }

    /// Narrow and wide scales, ties, one class, a thousand classes.
    #[test]
    fn the_softmax_is_within_2_units_of_exact() {
        let ramps: [&[i8]; 5] = [
            &[5],
            &[-128, 127],
            &[0; 10],
            &[1, 2, 3, 4, -7],
            &[127, 126, -128],
        ];
        for logits in ramps {
            for step_q16 in [1, 700, 6_000, 40_000, 1 << 16, 1 << 24] {
                let mut ours = vec![0; logits.len()];
                softmax_q15(logits, step_q16, &mut ours);
                let largest = *logits.iter().max().expect("not empty");
                let power = |l: i8| {
                    let steps = f64::from(l) - f64::from(largest);
                    (steps * f64::from(step_q16) / 65_536.0).exp2()
                };
                let total: f64 = logits.iter().map(|&l| power(l)).sum();
                for (&p, &l) in ours.iter().zip(logits) {
                    let exact = power(l) / total * 32_768.0;
                    assert!(
                        (f64::from(p) - exact).abs() < 2.0,
                        "{logits:?} {step_q16}: {p} {exact}"
                    );
                }
            }
        }
    }
}
