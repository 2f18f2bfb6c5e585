//! A second of audio through the front end and the resampler, beside microfft's `f32` FFT
//! alone on as many frames.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sori_counts::noise;
use sori_dsp::design::MelSpec;
use sori_dsp::{Backend, FrontEnd, Resampler};
use sori_package::MelContract;

const RATE_HZ: u32 = 16_000;

fn a_second(criterion: &mut Criterion) {
    let spec = MelSpec::default();
    let tables = spec.tables().expect("the default is allowed");
    let mel = tables.contract();
    let mut workspace = vec![0; FrontEnd::workspace_len(&mel)];
    let samples = noise(RATE_HZ);
    let mut frontend = frontend_on(Backend::default(), &mel, &mut workspace);
    criterion.bench_function("front end, 1 s", |bencher| {
        bencher.iter(|| push(&mut frontend, &samples));
    });
    for backend in Backend::available() {
        let mut frontend = frontend_on(backend, &mel, &mut workspace);
        criterion.bench_function(&format!("front end, 1 s, {}", backend.name()), |bencher| {
            bencher.iter(|| push(&mut frontend, &samples));
        });
    }

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
        let new = || Resampler::new(from_hz, RATE_HZ).expect("both rates are possible");
        let name = format!("resample 1 s from {from_hz} Hz");
        let mut resampler = new();
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| resample(&mut resampler, &samples));
        });
        for backend in Backend::available() {
            let table = vec![0; new().table_len()];
            let resampler = new().with_table(table).expect("the table is exact");
            let mut resampler = resampler.with_backend(backend);
            let name = format!("{name}, table, {}", backend.name());
            criterion.bench_function(&name, |bencher| {
                bencher.iter(|| resample(&mut resampler, &samples));
            });
        }
    }
}

fn frontend_on<'p, 'w>(
    backend: Backend,
    mel: &MelContract<'p>,
    workspace: &'w mut [i32],
) -> FrontEnd<'p, 'w> {
    let frontend = FrontEnd::new(mel, workspace).expect("the workspace is exact");
    frontend.with_backend(backend)
}

fn push(frontend: &mut FrontEnd<'_, '_>, samples: &[i32]) {
    frontend.push(black_box(samples), &mut |row| {
        black_box(row.features);
    });
}

fn resample<T: AsRef<[i32]>>(resampler: &mut Resampler<T>, samples: &[i32]) {
    resampler.push(black_box(samples), &mut |sample| {
        black_box(sample);
    });
}

criterion_group!(benches, a_second);
criterion_main!(benches);
