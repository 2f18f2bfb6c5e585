//! Whole networks on each backend of this machine, a clip at once and its rows one by one, and
//! each kind of kernel within the clip.
//!
//! ```text
//! cargo bench -p sori-counts --bench kernels -- 'a, .*clip'
//! ```
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use sori_nn::memory::LayerKind;
use sori_nn::testing::{Noise, benchmark_network};
use sori_nn::{Backend, CacheLine, Network, Prepared, Runtime};
use sori_package::Package;

fn networks(criterion: &mut Criterion) {
    for network in ["a", "1.0-224"] {
        let bytes = benchmark_network(network).expect("it has this name");
        let package = Package::parse(&bytes).expect("it was just built");
        for backend in Backend::available() {
            let mut memory = vec![CacheLine([0; 64]); Prepared::lines(&package, backend)];
            let prepared =
                Prepared::new(&package, backend, &mut memory).expect("the memory is exact");
            one_network(criterion, network, &prepared);
        }
    }
}

fn one_network(criterion: &mut Criterion, name: &str, prepared: &Prepared<'_>) {
    let backend = prepared.backend();
    let rows = prepared.package().nominal_rows();
    let row_len = prepared.package().input().row_len();
    let clip = Noise::new(1).int8(rows * row_len);
    let mut group = criterion.benchmark_group(format!("{name}, {backend}"));
    // The scalar backend needs a third of a second for the largest network.
    group.sampling_mode(SamplingMode::Flat);
    for stripe in [rows, 1] {
        let bytes = Network::arena_bytes(prepared, stripe);
        let mut arena = vec![CacheLine([0; 64]); bytes.div_ceil(64)];
        let arena = bytemuck::cast_slice_mut(&mut arena);
        let mut network = Network::new(prepared, arena, stripe).expect("the arena is exact");
        if stripe > 1 {
            group.bench_function("clip", |bencher| {
                bencher.iter(|| {
                    black_box(network.clip(black_box(&clip)));
                });
            });
        } else {
            group.bench_function("row by row", |bencher| {
                bencher.iter(|| {
                    for row in clip.chunks_exact(row_len) {
                        network.push(black_box(row), &mut |logits| {
                            black_box(logits);
                        });
                    }
                });
            });
        }
    }
    for kernel in LayerKind::STAGES {
        let clock = Clock::new(kernel);
        let bytes = Network::arena_bytes(prepared, rows);
        let mut arena = vec![CacheLine([0; 64]); bytes.div_ceil(64)];
        let arena = bytemuck::cast_slice_mut(&mut arena);
        let mut network =
            Network::with_runtime(prepared, arena, rows, clock).expect("the arena is exact");
        group.bench_function(kernel, |bencher| {
            bencher.iter_custom(|runs| {
                for _ in 0..runs {
                    black_box(network.clip(black_box(&clip)));
                }
                network.runtime().take()
            });
        });
    }
    group.finish();
}

/// Adds up the time in one kind of kernel.
struct Clock {
    kernel: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    total: Duration,
}

impl Clock {
    fn new(kernel: &'static str) -> Self {
        Self {
            kernel,
            state: Mutex::default(),
        }
    }

    fn take(&self) -> Duration {
        self.enter_kernel(false);
        std::mem::take(&mut *self.state.lock().expect("one thread")).total
    }

    fn enter_kernel(&self, mine: bool) {
        let mut state = self.state.lock().expect("one thread");
        if let Some(since) = state.since.take() {
            state.total += since.elapsed();
        }
        state.since = mine.then(Instant::now);
    }
}

impl Runtime for Clock {
    fn enter(&self, layer: LayerKind) {
        self.enter_kernel(layer.stage() == self.kernel);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = networks
}
criterion_main!(benches);
