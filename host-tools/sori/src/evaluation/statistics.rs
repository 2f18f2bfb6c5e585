//! Statistics of a few hundred answers, with their uncertainty.

use std::f64::consts::FRAC_2_PI;

use serde::Serialize;

/// A share, with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Share {
    pub(crate) share: f64,
    /// Wilson's score interval (1927).
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) n: usize,
}

impl Share {
    /// `None` if `n` is 0.
    pub(crate) fn of(part: usize, n: usize) -> Option<Self> {
        const Z: f64 = 1.959_964;
        if n == 0 {
            return None;
        }
        let (share, count) = (part as f64 / n as f64, n as f64);
        let middle = share + Z * Z / (2.0 * count);
        let reach = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
        let whole = 1.0 + Z * Z / count;
        Some(Self {
            share,
            low: ((middle - reach) / whole).max(0.0),
            high: ((middle + reach) / whole).min(1.0),
            n,
        })
    }
}

/// Whether two networks differ by more than chance on the same tracks: McNemar's exact test
/// (1947), on the tracks that only one of them gets right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct McNemar {
    pub(crate) only_first: usize,
    pub(crate) only_second: usize,
    /// Two-sided.
    pub(crate) p: f64,
}

impl McNemar {
    pub(crate) fn new(only_first: usize, only_second: usize) -> Self {
        let n = only_first + only_second;
        let fewer = only_first.min(only_second);
        // Σ C(n, k) / 2^n for k up to `fewer`, each term from its predecessor.
        let mut term = 0.5f64.powi(n as i32);
        let mut sum = term;
        for k in 0..fewer {
            term *= (n - k) as f64 / (k + 1) as f64;
            sum += term;
        }
        Self {
            only_first,
            only_second,
            p: (2.0 * sum).min(1.0),
        }
    }
}

/// A bin of a reliability diagram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Bin {
    pub(crate) n: usize,
    /// Mean predicted probability.
    pub(crate) confidence: f64,
    /// Share of correct answers.
    pub(crate) accuracy: f64,
}

/// Calibration of the probabilities (Guo et al., arXiv:1706.04599).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Calibration {
    /// Expected calibration error over the bins.
    pub(crate) ece: f64,
    /// The error that perfect calibration would show by chance with this many answers.
    pub(crate) by_chance: f64,
    /// Of equal width.
    pub(crate) bins: Vec<Bin>,
}

impl Calibration {
    const BINS: usize = 10;

    /// From pairs of a probability and whether the answer was right.
    pub(crate) fn of(answers: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut bins = vec![Bin::default(); Self::BINS];
        let mut variances = [0.0; Self::BINS];
        for (confidence, right) in answers {
            let at = (confidence * Self::BINS as f64) as usize;
            let at = at.min(Self::BINS - 1);
            variances[at] += confidence * (1.0 - confidence);
            let bin = &mut bins[at];
            bin.n += 1;
            bin.confidence += confidence;
            bin.accuracy += f64::from(u8::from(right));
        }
        let total: usize = bins.iter().map(|bin| bin.n).sum();
        let mut ece = 0.0;
        for bin in bins.iter_mut().filter(|bin| bin.n > 0) {
            ece += (bin.confidence - bin.accuracy).abs() / total as f64;
            bin.confidence /= bin.n as f64;
            bin.accuracy /= bin.n as f64;
        }
        // The gap of a bin is nearly normal, whose mean magnitude is √(2/π) deviations.
        let deviations: f64 = variances.iter().map(|v: &f64| v.sqrt()).sum();
        let by_chance = deviations * FRAC_2_PI.sqrt() / total.max(1) as f64;
        Self {
            ece,
            by_chance,
            bins,
        }
    }
}

/// A receiver operating characteristic: the share of each side above every threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Roc {
    /// Area under it: the chance that a positive scores above a negative.
    pub(crate) auc: f64,
    /// (false positive rate, true positive rate), from (0, 0) to (1, 1).
    pub(crate) points: Vec<(f64, f64)>,
}

impl Roc {
    /// `None` if a side is empty.
    pub(crate) fn of(positives: &[f64], negatives: &[f64]) -> Option<Self> {
        if positives.is_empty() || negatives.is_empty() {
            return None;
        }
        let mut scores: Vec<(f64, bool)> = positives.iter().map(|&x| (x, true)).collect();
        scores.extend(negatives.iter().map(|&x| (x, false)));
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut hits, mut alarms) = (0.0, 0.0);
        let mut points = vec![(0.0, 0.0)];
        let mut auc = 0.0;
        for equal in scores.chunk_by(|a, b| a.0 == b.0) {
            let (x, y) = (alarms, hits);
            for &(_, positive) in equal {
                match positive {
                    true => hits += 1.0 / positives.len() as f64,
                    false => alarms += 1.0 / negatives.len() as f64,
                }
            }
            auc += (alarms - x) * (hits + y) / 2.0;
            points.push((alarms, hits));
        }
        Some(Self { auc, points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    /// Newcombe 1998, table I, method 3.
    #[test]
    fn the_interval_is_wilsons() {
        let share = Share::of(81, 263).expect("263 are some");
        near(share.low, 0.2553);
        near(share.high, 0.3662);
        let none = Share::of(0, 20).expect("20 are some");
        near(none.low, 0.0);
        near(none.high, 0.1611);
        assert_eq!(Share::of(0, 0), None);
    }

    #[test]
    fn equal_networks_do_not_differ_and_one_sided_ones_do() {
        near(McNemar::new(0, 0).p, 1.0);
        near(McNemar::new(3, 3).p, 1.0);
        near(McNemar::new(0, 5).p, 0.0625);
        near(McNemar::new(10, 2).p, 0.0386);
    }

    #[test]
    fn calibration_is_the_weighted_gap() {
        let exact = (0..100).map(|n| (0.75, n % 4 != 0));
        near(Calibration::of(exact).ece, 0.0);
        let boasting = [(1.0, true), (1.0, false), (0.25, false), (0.25, true)];
        let found = Calibration::of(boasting);
        near(found.ece, 0.375);
        // Two of probability 1 have no deviation, two of a quarter √(2 · 3/16).
        near(found.by_chance, (0.375 * FRAC_2_PI).sqrt() / 4.0);
        assert_eq!(found.bins[9].n, 2);
        near(Calibration::of([]).ece, 0.0);
    }

    #[test]
    fn roc_of_what_is_apart_and_of_what_is_not() {
        let roc = Roc::of(&[0.9, 0.8], &[0.1, 0.2]).expect("both sides");
        near(roc.auc, 1.0);
        assert_eq!(roc.points.last(), Some(&(1.0, 1.0)));
        near(Roc::of(&[0.5; 3], &[0.5; 2]).expect("both sides").auc, 0.5);
        assert_eq!(Roc::of(&[], &[0.5]), None);
    }
}
