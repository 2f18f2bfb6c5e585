//! One inference, to be timed or to have its instructions counted.
//!
//! ```text
//! cargo run --release -p sori-counts --bin inference -- NETWORK MODE [BACKEND [STRIPE]]
//!
//! NETWORK   1.0-224 | a | b | FILE.sori
//! MODE      time | rows | layers | count | count-rows | count-rows-later
//! BACKEND   scalar, avx512vnni, neon, …        STRIPE   rows that go through together
//! ```
//!
//! `time` tells the nanoseconds of a clip, `rows` those of its rows pushed one at a time.
//!
//! `count` runs a clip once, between writes to file descriptors 1001 and 1002 and within a
//! function called `counted`, by which `cargo xtask bench` finds it, and tells the backend.
//! `count-rows` does so with a second of rows pushed one at a time, 10 s into a stream;
//! `count-rows-later` 100 s later.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sori_counts::between_marks;
use sori_nn::memory::LayerKind;
use sori_nn::testing::{Noise, benchmark_network};
use sori_nn::{Backend, CacheLine, Caches, Network, Prepared, Runtime};
use sori_package::Package;
use sori_package::write::PackageBytes;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let network = arguments.next().expect("a network");
    let mode = arguments.next().expect("a mode");
    let backend = match arguments.next() {
        Some(name) => Backend::named(&name).expect("this processor has no such backend"),
        None => Backend::detect(),
    };
    let bytes = benchmark_network(&network).unwrap_or_else(|| {
        PackageBytes::copy_from(&std::fs::read(&network).expect("a network or a file"))
    });
    let package = Package::parse(&bytes).expect("a package");
    let rows = package.nominal_rows();
    let stripe = match (arguments.next(), mode.as_str()) {
        (Some(rows), _) => rows.parse().expect("a number of rows"),
        (None, "rows" | "count-rows" | "count-rows-later") => 1,
        (None, _) => rows,
    };
    let mut memory = vec![CacheLine([0; 64]); Prepared::lines(&package, backend)];
    let prepared = Prepared::new(&package, backend, &mut memory).expect("the memory is exact");
    // Counts are the same on every machine.
    let prepared = match mode.starts_with("count") {
        true => prepared,
        false => prepared.with_caches(Caches::detect()),
    };
    let mut arena = vec![CacheLine([0; 64]); Network::arena_bytes(&prepared, stripe).div_ceil(64)];
    let arena = bytemuck::cast_slice_mut(&mut arena);
    let clip = Noise::new(1).int8(rows * package.input().row_len());
    if mode == "layers" {
        return layers(&prepared, arena, stripe, &clip);
    }
    let mut network = Network::new(&prepared, arena, stripe).expect("the arena is exact");

    match mode.as_str() {
        "time" => median(&mut || {
            black_box(network.clip(black_box(&clip)));
        }),
        "rows" => median(&mut || {
            for row in clip.chunks_exact(package.input().row_len()) {
                network.push(black_box(row), &mut |logits| {
                    black_box(logits);
                });
            }
        }),
        "count" => {
            network.clip(&clip);
            between_marks(&mut || {
                black_box(network.clip(&clip));
            });
            println!("{backend}");
        }
        "count-rows" | "count-rows-later" => {
            // Three seconds are the nominal length of a clip.
            let second = &clip[..rows / 3 * package.input().row_len()];
            let mut push = || {
                for row in second.chunks_exact(package.input().row_len()) {
                    network.push(row, &mut |logits| {
                        black_box(logits);
                    });
                }
            };
            // Padded on both sides, the last layer sees its first row after 245 rows, 8 s.
            let before = if mode == "count-rows" { 10 } else { 110 };
            (0..before).for_each(|_| push());
            between_marks(&mut push);
            println!("{backend}");
        }
        mode => panic!("no mode {mode}"),
    }
}

fn median(run: &mut dyn FnMut()) {
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 20 || start.elapsed() < Duration::from_millis(700) {
        let before = Instant::now();
        run();
        times.push(before.elapsed().as_nanos());
    }
    times.sort_unstable();
    println!("{}", times[times.len() / 2]);
}

/// Adds up the time between calls.
struct Clock(Mutex<Times>);

struct Times {
    entered: Instant,
    layer: Option<LayerKind>,
    totals: Vec<(LayerKind, Duration)>,
}

impl Runtime for Clock {
    fn enter(&self, layer: LayerKind) {
        let mut times = self.0.lock().expect("one thread");
        if let Some(previous) = times.layer {
            let spent = times.entered.elapsed();
            match times.totals.iter_mut().find(|(kind, _)| *kind == previous) {
                Some((_, total)) => *total += spent,
                None => times.totals.push((previous, spent)),
            }
        }
        times.layer = Some(layer);
        // Last, so that the search is nobody's.
        times.entered = Instant::now();
    }
}

fn layers(prepared: &Prepared<'_>, arena: &mut [u8], stripe: usize, clip: &[i8]) {
    let clock = Clock(Mutex::new(Times {
        entered: Instant::now(),
        layer: None,
        totals: Vec::new(),
    }));
    let mut network =
        Network::with_runtime(prepared, arena, stripe, clock).expect("the arena is exact");
    const RUNS: u32 = 300;
    for _ in 0..RUNS {
        black_box(network.clip(clip));
    }
    let times = &network.runtime().0.lock().expect("one thread").totals;
    for (layer, time) in times {
        println!(
            "{:24} {:9.2} us",
            layer.to_string(),
            (*time / RUNS).as_nanos() as f64 / 1e3
        );
    }
}
