//! A second of audio through the front end and the resampler, beside microfft's `f32` FFT
//! alone on as many frames.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sori_dsp::design::MelSpec;
use sori_dsp::{Backend, FrontEnd, Resampler};

const RATE_HZ: u32 = 16_000;

/// Noise, which no branch can predict.
fn noise(samples: u32) -> Vec<i32> {
    let mut state = 1u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as i32 >> 9
        })
        .collect()
}

fn a_second(criterion: &mut Criterion) {
    let spec = MelSpec::default();
    let tables = spec.tables().expect("the default is allowed");
    let mel = tables.contract();
    let mut workspace = vec![0; FrontEnd::workspace_len(&mel)];
    let mut frontend = FrontEnd::new(&mel, &mut workspace).expect("the workspace is exact");
    let samples = noise(RATE_HZ);
    criterion.bench_function("front end, 1 s", |bencher| {
        bencher.iter(|| {
            frontend.push(black_box(&samples), &mut |row| {
                black_box(row.features);
            })
        });
    });

    let frames = RATE_HZ as usize / mel.hop_samples;
    let frame: [f32; 1024] = std::array::from_fn(|n| samples[n] as f32);
    criterion.bench_function("microfft f32, the FFTs of 1 s", |bencher| {
        bencher.iter(|| {
            for _ in 0..frames {
                let mut frame = black_box(frame);
                black_box(microfft::real::rfft_1024(&mut frame));
            }
        });
    });

    for from_hz in [44_100, 48_000] {
        let samples = noise(from_hz);
        let mut resampler = Resampler::new(from_hz, RATE_HZ).expect("both rates are possible");
        criterion.bench_function(&format!("resample 1 s from {from_hz} Hz"), |bencher| {
            bencher.iter(|| {
                resampler.push(black_box(&samples), &mut |sample| {
                    black_box(sample);
                })
            });
        });
    }
    for backend in Backend::available() {
        for from_hz in [44_100, 48_000] {
            let samples = noise(from_hz);
            let resampler = Resampler::new(from_hz, RATE_HZ).expect("both rates are possible");
            let table = vec![0; resampler.table_len()];
            let resampler = resampler.with_table(table).expect("the table is exact");
            let mut resampler = resampler.with_backend(backend);
            let name = format!("resample 1 s from {from_hz} Hz, table, {}", backend.name());
            criterion.bench_function(&name, |bencher| {
                bencher.iter(|| {
                    resampler.push(black_box(&samples), &mut |sample| {
                        black_box(sample);
                    })
                });
            });
        }
    }
}

criterion_group!(benches, a_second);
criterion_main!(benches);
