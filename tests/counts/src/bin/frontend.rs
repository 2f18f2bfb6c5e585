//! One second of audio, to have its instructions counted.
//!
//! ```text
//! cargo run --release -p sori-counts --bin frontend -- STAGE [BACKEND]
//!
//! STAGE     frontend | 44100 | 48000 | microfft     BACKEND   scalar, avx2, neon
//! ```
//!
//! `frontend` takes samples at 16 kHz to features, a number is the rate from which the
//! resampler takes them there, and `microfft` is its `f32` FFT alone, as often as the front
//! end needs one. It runs once, between writes to file descriptors 1001 and 1002 and within
//! a function called `counted`: for `valgrind --tool=callgrind --toggle-collect='*counted*'`.

use std::hint::black_box;

use sori_counts::{between_marks, noise};
use sori_dsp::design::MelSpec;
use sori_dsp::{Backend, FrontEnd, Resampler};

const RATE_HZ: u32 = 16_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let stage = arguments.next().expect("a stage");
    let backend = match arguments.next() {
        Some(name) => Backend::named(&name).expect("this processor has no such backend"),
        None => Backend::detect(),
    };
    let spec = MelSpec::default();
    let tables = spec.tables().expect("the default is allowed");
    let mel = tables.contract();
    match stage.as_str() {
        "frontend" => {
            let mut workspace = vec![0; FrontEnd::workspace_len(&mel)];
            let frontend = FrontEnd::new(&mel, &mut workspace).expect("the workspace is exact");
            let mut frontend = frontend.with_backend(backend);
            let samples = noise(RATE_HZ);
            frontend.push(&samples[..mel.window_samples], &mut |_| ());
            between_marks(&mut || {
                frontend.push(&samples, &mut |row| {
                    black_box(row.features);
                })
            });
        }
        "microfft" => {
            let frame: [f32; 1024] = std::array::from_fn(|n| n as f32);
            between_marks(&mut || {
                for _ in 0..RATE_HZ as usize / mel.hop_samples {
                    let mut frame = black_box(frame);
                    black_box(microfft::real::rfft_1024(&mut frame));
                }
            });
        }
        rate => {
            let from_hz = rate.parse().expect("a stage or a rate");
            let resampler = Resampler::new(from_hz, RATE_HZ).expect("a possible rate");
            let table = vec![0; resampler.table_len()];
            let resampler = resampler.with_table(table).expect("the table is exact");
            let mut resampler = resampler.with_backend(backend);
            let samples = noise(from_hz);
            between_marks(&mut || {
                resampler.push(&samples, &mut |sample| {
                    black_box(sample);
                })
            });
        }
    }
}
