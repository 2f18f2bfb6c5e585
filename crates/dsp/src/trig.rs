//! Sines by integer arithmetic at compile time: every target carries the same
//! table, and no generated file has to be trusted.

/// Points of the circle that the tables resolve: the longest FFT.
const CIRCLE: usize = 2048;

/// sin(2π·k / 2048) as Q60, for the first quadrant, by its Taylor series.
const fn sin_q60(k: usize) -> i128 {
    // 2π as Q60; one part in 10^17, far below the tables' 2^-31.
    const TAU_Q60: i128 = 7244019458077122842;
    let x = TAU_Q60 * k as i128 / CIRCLE as i128;
    let square = (x * x) >> 60;
    let mut term = x;
    let mut sum = x;
    let mut n = 1;
    while n < 14 {
        term = -((term * square) >> 60) / ((2 * n) * (2 * n + 1));
        sum += term;
        n += 1;
    }
    sum
}

/// sin and cos around the whole circle, rounded to `bits` fraction bits.
const fn sin_fixed(k: usize, bits: u32) -> i64 {
    let quarter = CIRCLE / 4;
    let (k, negative) = (k % (CIRCLE / 2), (k / (CIRCLE / 2)) % 2 == 1);
    let folded = if k > quarter { CIRCLE / 2 - k } else { k };
    let shift = 60 - bits;
    let rounded = ((sin_q60(folded) + (1 << (shift - 1))) >> shift) as i64;
    if negative { -rounded } else { rounded }
}

/// Complex e^(−2πi·k/1024) as Q30 `[re, im]`, for the three twiddles of a radix-4
/// butterfly, which reach up to three quarters of the circle. The FFT's own table is made
/// of it at compile time; no flash.
pub(crate) static TWIDDLES_Q30: [[i32; 2]; 768] = {
    let mut table = [[0; 2]; 768];
    let mut k = 0;
    while k < table.len() {
        table[k] = [
            sin_fixed(2 * k + CIRCLE / 4, 30) as i32,
            -sin_fixed(2 * k, 30) as i32,
        ];
        k += 1;
    }
    table
};

/// cos and sin of 2π·k/2048 over the first quadrant as Q31, with 1 saturated: the
/// twiddles of the real split. 4 KiB of flash.
pub(crate) static SPLIT_Q31: [[i32; 2]; CIRCLE / 4 + 1] = {
    let mut table = [[0; 2]; CIRCLE / 4 + 1];
    let mut k = 0;
    while k < table.len() {
        table[k] = [
            saturate(sin_fixed(CIRCLE / 4 - k, 31)),
            saturate(sin_fixed(k, 31)),
        ];
        k += 1;
    }
    table
};

const fn saturate(q31: i64) -> i32 {
    if q31 > i32::MAX as i64 {
        i32::MAX
    } else {
        q31 as i32
    }
}
