//! Timing: runs and their spread, and the layers of a network.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;
use sori_nn::Runtime;
use sori_nn::memory::LayerKind;

/// The minimum number of runs, however long one takes.
const FEWEST: usize = 5;

/// Durations of many runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median_ns: f64,
    /// A tenth of the runs were faster.
    pub(crate) p10_ns: f64,
    /// A tenth of the runs were slower.
    pub(crate) p90_ns: f64,
    pub(crate) runs: usize,
}

impl Spread {
    /// Of at least one run.
    fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let last = times.len() - 1;
        let at = |share: f64| times[(share * last as f64).round() as usize] as f64;
        Self {
            median_ns: at(0.5),
            p10_ns: at(0.1),
            p90_ns: at(0.9),
            runs: times.len(),
        }
    }

    /// Scaled to a part or a multiple of what was run.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self {
            median_ns: self.median_ns * factor,
            p10_ns: self.p10_ns * factor,
            p90_ns: self.p90_ns * factor,
            runs: self.runs,
        }
    }
}

/// Times runs for `seconds`, after warming up caches and clocks for a fifth of that, and for at
/// least one run.
pub(crate) fn time(seconds: f64, run: &mut dyn FnMut()) -> Spread {
    let started = Instant::now();
    loop {
        run();
        if started.elapsed().as_secs_f64() >= seconds / 5.0 {
            break;
        }
    }
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < FEWEST || started.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        run();
        times.push(nanoseconds(before.elapsed()));
    }
    Spread::of(times)
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// The runtime lent to the network.
///
/// One type for all measurements, because the executor and its kernels are compiled per type.
#[derive(Debug)]
pub(crate) struct Lent<'c> {
    /// Threads of the pool that the network runs in.
    pub(crate) threads: usize,
    pub(crate) clock: Option<&'c Clock>,
}

impl Runtime for Lent<'_> {
    fn threads(&self) -> usize {
        self.threads
    }

    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        rayon::join(a, b);
    }

    fn enter(&self, layer: LayerKind) {
        if let Some(clock) = self.clock {
            clock.enter(layer);
        }
    }
}

/// Times one layer after another.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// In the order of execution.
    layers: Vec<LayerKind>,
    /// The running layer, and when it started.
    running: Option<(usize, Instant)>,
    /// Time in this run, by layer.
    spent: Vec<Duration>,
    /// By layer and run.
    runs: Vec<Vec<u64>>,
}

impl Clock {
    pub(crate) fn new(layers: Vec<LayerKind>) -> Self {
        Self(Mutex::new(State {
            running: None,
            spent: vec![Duration::ZERO; layers.len()],
            runs: vec![Vec::new(); layers.len()],
            layers,
        }))
    }

    fn enter(&self, layer: LayerKind) {
        let now = Instant::now();
        let mut state = self.state();
        state.charge(now);
        let layer = state.layers.iter().position(|&known| known == layer);
        // Started last, so that no layer is charged for the bookkeeping.
        state.running = layer.map(|layer| (layer, Instant::now()));
    }

    /// Ends a run.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.charge(Instant::now());
        let State { spent, runs, .. } = &mut *state;
        for (spent, runs) in spent.iter_mut().zip(runs) {
            runs.push(nanoseconds(std::mem::take(spent)));
        }
    }

    /// Median nanoseconds of each layer over the runs so far, at least one.
    pub(crate) fn medians(&self) -> Vec<f64> {
        let runs = self.state().runs.clone();
        let spreads = runs.into_iter().map(Spread::of);
        spreads.map(|spread| spread.median_ns).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the clock")
    }
}

impl State {
    fn charge(&mut self, now: Instant) {
        if let Some((layer, since)) = self.running.take() {
            self.spent[layer] += now - since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_the_runs_in_the_order_of_their_lengths() {
        let spread = Spread::of((1..=101).rev().collect());
        assert_eq!(
            [spread.p10_ns, spread.median_ns, spread.p90_ns],
            [11.0, 51.0, 91.0]
        );
        assert_eq!(spread.scaled(2.0).median_ns, 102.0);
        assert_eq!(Spread::of(vec![7]).p90_ns, 7.0);
    }

    #[test]
    fn what_takes_long_is_still_timed_more_than_once() {
        let mut runs = 0;
        let spread = time(0.0, &mut || runs += 1);
        assert_eq!((spread.runs, runs), (FEWEST, FEWEST + 1));
    }

    #[test]
    fn each_layer_is_charged_with_its_own_time() {
        let clock = Clock::new(vec![LayerKind::Stem, LayerKind::Head]);
        for _ in 0..3 {
            clock.enter(LayerKind::Stem);
            clock.enter(LayerKind::Head);
            std::thread::sleep(Duration::from_millis(2));
            clock.enter(LayerKind::Stem);
            clock.stop();
            std::thread::sleep(Duration::from_millis(2));
        }
        let medians = clock.medians();
        assert!(medians[1] >= 2e6 && medians[0] < 2e6, "{medians:?}");
    }
}
