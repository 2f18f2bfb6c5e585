//! How long blocks took, as quantiles in constant memory.

use crate::board::Latency;

/// What is shorter than this is in the first bucket.
const LEAST_S: f64 = 1e-6;

/// Buckets an octave; each is 2^(1/16) = 4.4 % wide.
const AN_OCTAVE: usize = 16;

/// From 1 µs to 134 s; what is longer is in the last bucket.
const OCTAVES: usize = 27;

/// Counts of the whole run, in buckets that are equally wide on a logarithmic scale.
///
/// A quantile is the upper edge of the bucket that it falls into, or the longest block if
/// that is less: never below the true one, and at most 4.5 % above it (between 1 µs and
/// 134 s). Nothing is ever forgotten: the slow block of last week is in p99 if it has
/// company, and in `sum_s` in any case.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Box<[u64; AN_OCTAVE * OCTAVES]>,
    count: u64,
    sum_s: f64,
    sound_s: f64,
    longest_s: f64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; AN_OCTAVE * OCTAVES]),
            count: 0,
            sum_s: 0.0,
            sound_s: 0.0,
            longest_s: 0.0,
        }
    }

    /// A block of `sound_s` seconds took `seconds`. What is no duration counts as none.
    pub fn record(&mut self, seconds: f64, sound_s: f64) {
        let duration = |x: f64| if x.is_finite() { x.max(0.0) } else { 0.0 };
        let seconds = duration(seconds);
        let octaves = (seconds.max(LEAST_S) / LEAST_S).log2();
        let bucket = (octaves * AN_OCTAVE as f64) as usize;
        self.counts[bucket.min(AN_OCTAVE * OCTAVES - 1)] += 1;
        self.count += 1;
        self.sum_s += seconds;
        self.sound_s += duration(sound_s);
        self.longest_s = self.longest_s.max(seconds);
    }

    /// What that share of the blocks did not exceed; 0 without any.
    pub fn quantile(&self, share: f64) -> f64 {
        // Of 10 blocks p50 is the 5th, p99 the 10th.
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.counts.iter().position(|&count| {
            below += count;
            below >= rank
        });
        match bucket {
            Some(bucket) if bucket + 1 < self.counts.len() => {
                let edge = LEAST_S * ((bucket + 1) as f64 / AN_OCTAVE as f64).exp2();
                edge.min(self.longest_s)
            }
            // The last bucket has no edge, and an empty histogram no longest block but 0.
            _ => self.longest_s,
        }
    }

    /// For the board.
    pub fn latency(&self) -> Latency {
        Latency {
            p50_s: self.quantile(0.5),
            p99_s: self.quantile(0.99),
            count: self.count,
            sum_s: self.sum_s,
            sound_s: self.sound_s,
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Durations from microseconds to seconds, by a generator that needs no crate.
    fn durations(many: usize) -> Vec<f64> {
        let mut state = 1_u64;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            1e-6 * ((state >> 40) as f64 / f64::from(1 << 24) * 22.0).exp2()
        };
        std::iter::repeat_with(next).take(many).collect()
    }

    #[test]
    fn a_quantile_is_never_too_low_and_at_most_4_5_percent_too_high() {
        for many in [1, 2, 3, 10, 99, 100, 101, 10_000] {
            let mut sorted = durations(many);
            let mut histogram = Histogram::new();
            for &seconds in &sorted {
                histogram.record(seconds, 0.1);
            }
            sorted.sort_by(f64::total_cmp);
            for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
                let exact = sorted[((many as f64 * share).ceil() as usize).max(1) - 1];
                let said = histogram.quantile(share);
                assert!(
                    exact <= said * (1.0 + 1e-12) && said <= 1.045 * exact,
                    "{many}, {share}: {exact} became {said}"
                );
            }
            let latency = histogram.latency();
            assert_eq!(latency.count, many as u64);
            let sum: f64 = sorted.iter().sum();
            assert!((latency.sum_s - sum).abs() < 1e-9 * sum);
            assert!((latency.sound_s - 0.1 * many as f64).abs() < 1e-6);
        }
    }

    #[test]
    fn slow_blocks_stay_however_many_fast_ones_follow() {
        let mut histogram = Histogram::new();
        for _ in 0..20 {
            histogram.record(2.0, 0.1);
        }
        for _ in 0..1000 {
            histogram.record(0.001, 0.1);
        }
        let latency = histogram.latency();
        assert_eq!(latency.p99_s, 2.0);
        assert!((0.001..0.00105).contains(&latency.p50_s), "{latency:?}");
    }

    #[test]
    fn what_is_no_duration_harms_nothing() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.latency(), Latency::default());
        for odd in [-1.0, f64::NAN, f64::INFINITY, 0.0] {
            histogram.record(odd, odd);
        }
        assert_eq!(histogram.quantile(1.0), 0.0);
        // Longer than any bucket: the longest is known exactly.
        histogram.record(1e6, 1.0);
        assert_eq!(histogram.quantile(1.0), 1e6);
        assert_eq!(histogram.latency().count, 5);
    }
}
