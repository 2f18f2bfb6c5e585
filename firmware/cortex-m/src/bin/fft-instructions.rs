//! Instructions of one FFT: placing the samples, and the transform. Fails above the limit.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;

use cortex_m_semihosting::hprintln;
use sori_mcu::{Counter, exit};

// The FFT is private to sori-dsp; its file is measured as it is.
#[allow(dead_code, unreachable_pub, reason = "the front end uses the rest")]
#[path = "../../../../crates/dsp/src/fft.rs"]
mod fft;
#[allow(dead_code, reason = "the FFT's tables")]
#[path = "../../../../crates/dsp/src/trig.rs"]
mod trig;

use fft::{Complex, Fft};

/// For 1024 points, both parts.
const LIMIT: u64 = 70_000;
const REPEATS: u64 = 100;

#[inline(never)]
fn load(fft: Fft, samples: &[i32], spectrum: &mut [Complex]) {
    fft.load(samples.iter().copied(), spectrum);
}

#[inline(never)]
fn transform(fft: Fft, spectrum: &mut [Complex]) {
    fft.transform(spectrum);
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut counter = Counter::start();
    let samples = [12_345; 2048];
    let mut spectrum = [[0; 2]; 1025];
    let mut within = true;
    for points in [256, 512, 1024, 2048] {
        let fft = Fft::new(black_box(points));
        let spectrum = &mut spectrum[..points / 2 + 1];
        counter.lap();
        for _ in 0..REPEATS {
            load(fft, black_box(&samples[..points]), spectrum);
        }
        let placing = counter.lap() / REPEATS;
        for _ in 0..REPEATS {
            transform(fft, black_box(&mut *spectrum));
        }
        let transforming = counter.lap() / REPEATS;
        hprintln!(
            "fft of {} points: {} instructions, {} of them to place the samples",
            points,
            placing + transforming,
            placing
        );
        within &= points != 1024 || placing + transforming <= LIMIT;
    }
    if !within {
        hprintln!("the limit for 1024 points is {}", LIMIT);
    }
    exit(within)
}
