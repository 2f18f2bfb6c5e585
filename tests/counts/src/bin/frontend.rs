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
            counted_between_marks(&mut || {
                frontend.push(&samples, &mut |row| {
                    black_box(row.features);
                })
            });
        }
        "microfft" => {
            let frame: [f32; 1024] = std::array::from_fn(|n| n as f32);
            counted_between_marks(&mut || {
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
            counted_between_marks(&mut || {
                resampler.push(&samples, &mut |sample| {
                    black_box(sample);
                })
            });
        }
    }
}

fn counted_between_marks(second: &mut dyn FnMut()) {
    mark(1001);
    counted(second);
    mark(1002);
}

#[inline(never)]
fn counted(second: &mut dyn FnMut()) {
    second();
    black_box(());
}

/// A write to a descriptor that is not open: nothing but a mark in the stream of system calls.
fn mark(descriptor: i32) {
    use std::io::Write;
    use std::mem::ManuallyDrop;
    use std::os::fd::FromRawFd;
    // SAFETY: the file is never dropped, so a descriptor that is not ours is not closed.
    let mut file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(descriptor) });
    // It fails, as it should.
    let _ = file.write(b".");
}

fn noise(samples: u32) -> Vec<i32> {
    let mut state = 1u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as i32 >> 9
        })
        .collect()
}
