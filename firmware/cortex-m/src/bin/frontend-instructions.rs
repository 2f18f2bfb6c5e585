//! What the front end costs, and how exact its FFT is: instructions of one transform and
//! of one frame with everything that it takes, and dB against an `f64` transform, beside
//! microfft's `f32` and what was measured of CMSIS-DSP. Fails where a limit is missed.
//!
//! Lines `name: number` are for programs; `cargo xtask bench --mcu` reads them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::f64::consts::TAU;
use core::hint::black_box;

use cortex_m_semihosting::hprintln;
use sori_dsp::{Backend, FrontEnd, RealFft};
use sori_mcu::{Counter, exit};
use sori_package::{Aligned, Package};

/// Instructions of a 1024-point real FFT: block scaling, order of samples, transform.
const FFT_LIMIT: u64 = 40_000;
/// Instructions of a frame of the shipped contract: everything from 256 samples to a row.
const FRAME_LIMIT: u64 = 62_000;
const SNR_LIMIT_DB: f64 = 90.0;

const REPEATS: u64 = 40;
const POINTS: usize = 1024;
/// The DFT of a real signal by its definition, as `[re, im]`.
type Exact = [[f64; 2]; POINTS / 2 + 1];

static GENRE: Aligned<[u8; include_bytes!("../../../../models/genre/genre.sori").len()]> =
    Aligned(*include_bytes!("../../../../models/genre/genre.sori"));

/// Another library's transform of 1024 real points on the same board, by the same counter:
/// instructions on the core that it was made for, dB for a sine at 0 dBFS, noise at -20 and
/// music at -50 dBFS.
const CMSIS_DSP_ON_M4: [(&str, u32, [f64; 3]); 4] = [
    ("rfft_q15", 44_226, [53.9, 35.8, 6.6]),
    ("rfft_q15, headroom shift", 60_646, [53.9, 41.9, 42.7]),
    ("rfft_q31", 87_019, [146.4, 128.3, 98.8]),
    ("rfft_fast_f32", 44_668, [140.3, 139.9, 141.0]),
];
/// Its MFCC of 64 bands and 13 coefficients in `f32`, a frame.
const CMSIS_DSP_MFCC_F32_ON_M4: u32 = 95_293;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut counter = Counter::start();
    hprintln!("front end: {}", Backend::detect().name());
    let mut within = true;
    let mut expect = |what: &str, kept: bool| {
        if !kept {
            hprintln!("limit missed: {}", what);
        }
        within &= kept;
    };

    let mut workspace = [[0; 2]; POINTS + 1];
    for points in [256, 512, 1024, 2048] {
        let samples = noise::<2048>(1.0);
        let Ok(mut fft) = RealFft::new(black_box(points), &mut workspace) else {
            hprintln!("no FFT of {} points", points);
            exit(false)
        };
        let count = counted(&mut counter, || {
            black_box(fft.transform(black_box(&samples[..points])));
        });
        hprintln!("fft{}: {}", points, count);
        let spectrum = fft.transform(&samples[..points]);
        let mut workspace = [[0; 2]; POINTS + 1];
        let scalar = RealFft::new(points, &mut workspace).is_ok_and(|fft| {
            let mut fft = fft.with_backend(Backend::SCALAR);
            fft.transform(&samples[..points]) == spectrum
        });
        expect("the scalar transform's bits", scalar);
        expect("fft1024", points != 1024 || count <= FFT_LIMIT);
    }
    let samples = noise::<POINTS>(1.0).map(|x| x as f32);
    let count = counted(&mut counter, || {
        let mut samples = black_box(samples);
        black_box(microfft::real::rfft_1024(&mut samples));
    });
    let copy = counted(&mut counter, || {
        black_box(black_box(samples));
    });
    hprintln!("microfft_f32_1024: {}", count - copy);

    for (level_dbfs, amplitude) in [(0, 1.0), (-50, 0.003_162_277_660_168_379_5)] {
        let mut worst = f64::INFINITY;
        for (name, samples) in [
            ("sine", sine(amplitude)),
            ("noise", noise(amplitude)),
            ("chord", chord(amplitude)),
        ] {
            let (ours, float) = snrs_db(&samples, &mut workspace);
            hprintln!(
                "{} at {} dBFS: {:.1} dB, microfft f32 {:.1} dB",
                name,
                level_dbfs,
                ours,
                float
            );
            worst = worst.min(ours);
        }
        hprintln!("fft1024_snr_db_at_{}_dbfs: {:.1}", level_dbfs, worst);
        expect("SNR", worst >= SNR_LIMIT_DB);
    }

    let noisy = frame(&mut counter, &noise(0.1));
    hprintln!("frontend_frame: {}", noisy);
    // Nobody can send sound that takes longer.
    let square = |n: usize| match (n / 7).is_multiple_of(2) {
        true => FULL_SCALE as i32,
        false => -FULL_SCALE as i32,
    };
    for (name, samples) in [
        ("silence", [0; POINTS]),
        (
            "one step",
            core::array::from_fn(|n| i32::from(n.is_multiple_of(2))),
        ),
        ("a sine", sine(1.0)),
        ("a square wave", core::array::from_fn(square)),
    ] {
        let count = frame(&mut counter, &samples);
        hprintln!("frame of {} takes {} instructions", name, count);
        expect("a frame of other sound", count <= FRAME_LIMIT);
    }
    expect("frontend_frame", noisy <= FRAME_LIMIT);

    hprintln!("CMSIS-DSP on Cortex-M4: instructions; sine 0, noise -20, music -50 dBFS");
    for (name, instructions, [sine, noise, music]) in CMSIS_DSP_ON_M4 {
        hprintln!(
            "  {:25}{:7}   {:.1} {:.1} {:.1} dB",
            name,
            instructions,
            sine,
            noise,
            music
        );
    }
    hprintln!("  MFCC f32, a frame        {:7}", CMSIS_DSP_MFCC_F32_ON_M4);
    exit(within)
}

fn counted(counter: &mut Counter, mut run: impl FnMut()) -> u64 {
    counter.lap();
    for _ in 0..REPEATS {
        run();
    }
    counter.lap() / REPEATS
}

/// A frame of the shipped contract in the middle of a stream: from the DC blocker of a
/// hop's samples to the row.
fn frame(counter: &mut Counter, samples: &[i32; POINTS]) -> u64 {
    let Some(mel) = Package::parse(&GENRE.0)
        .ok()
        .and_then(|package| package.mel())
    else {
        hprintln!("genre.sori has no mel contract");
        exit(false)
    };
    hprintln!(
        "frame: window {}, FFT {}, hop {}, {} bands",
        mel.window_samples,
        mel.fft,
        mel.hop_samples,
        mel.bands
    );
    let mut workspace = [0; 2 * POINTS + 2];
    let Ok(mut frontend) = FrontEnd::new(&mel, &mut workspace) else {
        hprintln!("the contract wants another workspace");
        exit(false)
    };
    frontend.push(samples, &mut |_| ());
    let mut rows = 0;
    let count = counted(counter, || {
        let hop = black_box(&samples[..mel.hop_samples]);
        frontend.push(hop, &mut |row| {
            black_box(row.features);
            rows += 1;
        });
    });
    if rows != REPEATS {
        hprintln!("{} rows in {} hops", rows, REPEATS);
        exit(false)
    }
    count
}

const FULL_SCALE: f64 = 8_388_607.0;

/// Between two bins.
fn sine(amplitude: f64) -> [i32; POINTS] {
    core::array::from_fn(|n| {
        let turns = 37.3 * n as f64 / POINTS as f64;
        (amplitude * FULL_SCALE * libm::sin(TAU * turns)) as i32
    })
}

/// Uniform.
fn noise<const LEN: usize>(amplitude: f64) -> [i32; LEN] {
    let mut state = 1u64;
    core::array::from_fn(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let uniform = (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0;
        (amplitude * FULL_SCALE * uniform) as i32
    })
}

/// A minor triad of ten falling harmonics each: 80 dB from the loudest to the faintest bin.
fn chord(amplitude: f64) -> [i32; POINTS] {
    core::array::from_fn(|n| {
        let tone = |hz: f64| {
            (1..=10)
                .map(|k| {
                    let turns = hz * f64::from(k) * n as f64 / 16_000.0;
                    libm::sin(TAU * turns) / f64::from(k * k)
                })
                .sum::<f64>()
        };
        let sum = tone(220.0) + tone(261.6) + tone(329.6);
        (amplitude * FULL_SCALE * sum / 3.3) as i32
    })
}

/// Signal over error of [`RealFft`] and of microfft, in dB.
fn snrs_db(samples: &[i32; POINTS], workspace: &mut [[i32; 2]]) -> (f64, f64) {
    let exact = exact(samples);
    let Ok(mut fft) = RealFft::new(POINTS, workspace) else {
        hprintln!("no FFT of {} points", POINTS);
        exit(false)
    };
    let spectrum = fft.transform(samples);
    let scale = libm::exp2(spectrum.exponent.into());
    let ours = spectrum
        .bins
        .iter()
        .map(|bin| bin.map(|x| scale * f64::from(x)));
    let ours = snr_db(&exact, ours);

    let mut samples = samples.map(|x| x as f32);
    let bins = microfft::real::rfft_1024(&mut samples);
    // The highest bin, which is real, lies in the imaginary part of the lowest.
    let highest = core::mem::take(&mut bins[0].im);
    let bins = bins.iter().map(|bin| [bin.re, bin.im]);
    let bins = bins.chain([[highest, 0.0]]);
    (ours, snr_db(&exact, bins.map(|bin| bin.map(f64::from))))
}

fn snr_db(exact: &Exact, bins: impl Iterator<Item = [f64; 2]>) -> f64 {
    let (mut signal, mut error) = (0.0, 0.0);
    for (exact, bin) in exact.iter().zip(bins) {
        for (exact, part) in exact.iter().zip(bin) {
            signal += exact * exact;
            error += (exact - part) * (exact - part);
        }
    }
    10.0 * libm::log10(signal / error)
}

fn exact(samples: &[i32; POINTS]) -> Exact {
    let circle: [[f64; 2]; POINTS] = core::array::from_fn(|n| {
        let (sin, cos) = libm::sincos(-TAU * n as f64 / POINTS as f64);
        [cos, sin]
    });
    core::array::from_fn(|k| {
        let mut sum = [0.0; 2];
        for (n, &x) in samples.iter().enumerate() {
            let [cos, sin] = circle[n * k % POINTS];
            sum[0] += f64::from(x) * cos;
            sum[1] += f64::from(x) * sin;
        }
        sum
    })
}
