//! Any samples, between any two rates.

use sori_dsp::{Backend, Resampler};

use crate::{Input, noise};

pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    // Rates that devices have, and any others.
    let rate = |input: &mut Input<'_>| match input.byte() {
        n @ 0..8 => [
            8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 192_000,
        ][usize::from(n)],
        n => u32::from(n) << 16 >> 8 | u32::from(input.byte()),
    };
    let [from_hz, to_hz] = [rate(&mut input), rate(&mut input)];
    let step = usize::from(input.byte()) + 1;
    let samples = input.samples();
    let Ok(whole) = Resampler::new(from_hz, to_hz) else {
        return;
    };
    let mut once = Vec::new();
    let mut whole = whole.with_backend(Backend::SCALAR);
    whole.push(&samples, &mut |x| once.push(x));
    whole.flush(&mut |x| once.push(x));
    let due = samples.len() as u64 * u64::from(to_hz) / u64::from(from_hz);
    assert!(
        due.abs_diff(once.len() as u64) <= 1,
        "{due} or {}",
        once.len()
    );
    // A wave that follows the filter's taps in sign comes out as loud as they add up to.
    assert!(once.iter().all(|x| (-(1 << 25)..1 << 25).contains(x)));

    let mut cut = Vec::new();
    let mut in_pieces = Resampler::new(from_hz, to_hz).expect("as above");
    for samples in samples.chunks(step) {
        in_pieces.push(samples, &mut |x| cut.push(x));
    }
    in_pieces.flush(&mut |x| cut.push(x));
    assert_eq!(cut, once, "{from_hz} to {to_hz} Hz by {step}");

    // Rates with little in common have tables of millions of taps.
    if in_pieces.table_len() <= 1 << 16 {
        let table = vec![0; in_pieces.table_len()];
        let mut by_table = in_pieces.with_table(table).expect("as long as it says");
        let mut tabled = Vec::new();
        by_table.push(&samples, &mut |x| tabled.push(x));
        by_table.flush(&mut |x| tabled.push(x));
        assert_eq!(tabled, once, "{from_hz} to {to_hz} Hz by table");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |from: u8, to: u8, step: u8, loud: u32| {
        [from, to, step]
            .into_iter()
            .chain(noise(loud, 400))
            .collect()
    };
    vec![
        seed(5, 2, 6, 0x9e37_79b9),
        seed(6, 2, 255, 0xffff_ffff),
        seed(0, 2, 0, 1 << 31),
        seed(2, 5, 33, 12_345),
        seed(200, 100, 7, 77_777),
    ]
}
