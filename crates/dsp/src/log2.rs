//! Base-2 logarithm of integers, Q16.

/// log2(1 + i/128) as Q16, by repeated squaring in integers.
static MANTISSA_Q16: [u32; 129] = {
    let mut table = [0; 129];
    let mut i = 0;
    while i < 128 {
        let mut x: u128 = (128 + i as u128) << 53; // Q60
        let mut bits = 0u64;
        let mut n = 0;
        while n < 24 {
            x = (x * x) >> 60;
            bits <<= 1;
            if x >> 61 != 0 {
                x >>= 1;
                bits |= 1;
            }
            n += 1;
        }
        table[i] = ((bits + 128) >> 8) as u32;
        i += 1;
    }
    table[128] = 1 << 16;
    table
};

/// log2(x) as Q16, within 3·10⁻⁵; none for 0.
pub(crate) fn log2_q16(x: u64) -> Option<i32> {
    let exponent = x.checked_ilog2()?;
    // The leading one is at bit 63; 7 bits index the table and 16 interpolate.
    let normalised = x << (63 - exponent);
    let index = (normalised >> 56) as usize & 0x7f;
    let fraction = (normalised >> 40) as u32 & 0xffff;
    let (low, high) = (MANTISSA_Q16[index], MANTISSA_Q16[index + 1]);
    let mantissa = low + (((high - low) * fraction + (1 << 15)) >> 16);
    Some(((exponent << 16) + mantissa) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, powers of two and their neighbours, and the largest.
    #[test]
    fn the_logarithm_is_within_its_stated_error() {
        let around_powers = (0..64).flat_map(|n| [(1u64 << n) - 1, 1 << n, (1 << n) + 1]);
        for x in (1..5000).chain(around_powers.skip(1)).chain([u64::MAX]) {
            let got = f64::from(log2_q16(x).expect("x is not 0")) / 65536.0;
            let error = (got - (x as f64).log2()).abs();
            assert!(error < 3e-5, "log2({x}) = {got}, off by {error}");
        }
        assert_eq!(log2_q16(0), None);
    }
}
