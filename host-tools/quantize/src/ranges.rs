//! What each tensor looked like, and the ranges that could be its scale and zero point.

use std::str::FromStr;

use serde::Serialize;
use sori_host::{dequantize, quantize};
use sori_package::Activation;

use crate::float::LINEAR;

/// Values kept of each tensor: enough to judge a clip by its squared error.
const SAMPLES: usize = 1 << 14;

/// How an activation's range is chosen from what calibration saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// For each tensor the one of the others that disturbs the logits least.
    #[default]
    Auto,
    /// All that was seen.
    MinMax,
    /// All but one value in ten thousand at each end.
    Percentile,
    /// The least squared error of the tensor itself.
    Mse,
    /// The least divergence of its distribution (Kullback and Leibler).
    Entropy,
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "minmax" => Ok(Self::MinMax),
            "percentile" => Ok(Self::Percentile),
            "mse" => Ok(Self::Mse),
            "entropy" => Ok(Self::Entropy),
            _ => Err("choose auto, minmax, percentile, mse or entropy".into()),
        }
    }
}

impl Method {
    /// Those that choose a range by themselves.
    pub(crate) const CHOICES: [Self; 4] =
        [Self::MinMax, Self::Percentile, Self::Mse, Self::Entropy];
}

/// What one channel of a tensor looked like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Channel {
    pub(crate) low: f32,
    pub(crate) high: f32,
    squares: f64,
    /// Values above zero.
    positive: u64,
}

/// What one tensor looked like.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) channels: Vec<Channel>,
    /// Values of each channel.
    pixels: u64,
    samples: Vec<f32>,
    state: u64,
}

impl Observed {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            channels: vec![Channel::default(); channels],
            ..Self::default()
        }
    }

    /// `[…][channels]`.
    pub(crate) fn see(&mut self, values: &[f32]) {
        let channels = self.channels.len();
        for pixel in values.chunks_exact(channels) {
            for (channel, &x) in self.channels.iter_mut().zip(pixel) {
                channel.low = channel.low.min(x);
                channel.high = channel.high.max(x);
                channel.squares += f64::from(x).powi(2);
                channel.positive += u64::from(x > 0.0);
            }
        }
        let before = self.pixels * channels as u64;
        self.pixels += (values.len() / channels) as u64;
        // Reservoir sampling (Vitter's algorithm R).
        for (n, &value) in (before + 1..).zip(values) {
            if self.samples.len() < SAMPLES {
                self.samples.push(value);
                continue;
            }
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let slot = (u128::from(self.state) * u128::from(n)) >> 64;
            if let Some(sample) = self.samples.get_mut(slot as usize) {
                *sample = value;
            }
        }
    }

    pub(crate) fn low(&self) -> f32 {
        self.channels.iter().fold(0.0, |low, c| low.min(c.low))
    }

    pub(crate) fn high(&self) -> f32 {
        self.channels.iter().fold(0.0, |high, c| high.max(c.high))
    }

    /// Mean square of a channel.
    pub(crate) fn power(&self, c: usize) -> f64 {
        self.channels[c].squares / self.pixels.max(1) as f64
    }

    /// Share of a channel's values above zero.
    pub(crate) fn active(&self, c: usize) -> f64 {
        self.channels[c].positive as f64 / self.pixels.max(1) as f64
    }

    /// Share of the values that a range cuts off.
    pub(crate) fn clipped(&self, activation: &Activation) -> f64 {
        let [low, high] = [i8::MIN, i8::MAX].map(|q| dequantize(q, activation));
        let half = activation.scale / 2.0;
        let outside = |&&x: &&f32| x < low - half || x > high + half;
        self.samples.iter().filter(outside).count() as f64 / self.samples.len().max(1) as f64
    }

    /// Counts of equal bins from the lowest to the highest value.
    pub(crate) fn histogram(&self, bins: usize) -> Vec<u32> {
        let (low, high) = (self.low(), self.high());
        let width = ((high - low) / bins as f32).max(f32::MIN_POSITIVE);
        let mut counts = vec![0; bins];
        for &x in &self.samples {
            let bin = ((x - low) / width) as usize;
            counts[bin.min(bins - 1)] += 1;
        }
        counts
    }

    /// The range that a method chooses.
    pub(crate) fn activation(&self, method: Method, clamp: [f32; 2]) -> Activation {
        let (low, high) = (self.low(), self.high());
        match method {
            Method::MinMax => affine(low, high, clamp),
            Method::Percentile => {
                let mut samples = self.samples.clone();
                samples.sort_unstable_by(f32::total_cmp);
                let at = |share: f64| {
                    let last = samples.len().saturating_sub(1);
                    samples.get((share * last as f64).round() as usize)
                };
                let [low, high] = [at(1e-4), at(1.0 - 1e-4)].map(|x| x.copied().unwrap_or(0.0));
                affine(low, high, clamp)
            }
            Method::Auto | Method::Mse => {
                self.best(clamp, |activation| self.squared_error(activation, clamp))
            }
            Method::Entropy => {
                let whole = self.histogram(BINS);
                self.best(clamp, |activation| self.divergence(&whole, activation))
            }
        }
    }

    /// Among narrower and narrower ranges.
    fn best(&self, clamp: [f32; 2], error: impl Fn(&Activation) -> f64) -> Activation {
        (0..24)
            .map(|n| 0.93f32.powi(n))
            .map(|factor| affine(self.low() * factor, self.high() * factor, clamp))
            .map(|activation| (error(&activation), activation))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, activation)| activation)
            .expect("there are candidates")
    }

    fn squared_error(&self, activation: &Activation, clamp: [f32; 2]) -> f64 {
        let errors = self.samples.iter().map(|&x| {
            let clamped = x.clamp(clamp[0], clamp[1]);
            let q = quantize(clamped, activation);
            f64::from(clamped - dequantize(q, activation)).powi(2)
        });
        errors.sum()
    }

    /// Of what 256 steps keep of the distribution, from the distribution with what is cut off
    /// moved to its ends (S. Migacz, 8-bit inference with TensorRT, 2017).
    fn divergence(&self, whole: &[u32], activation: &Activation) -> f64 {
        let width = (self.high() - self.low()) / whole.len() as f32;
        let centre = |bin: usize| self.low() + (bin as f32 + 0.5) * width;
        let [floor, ceiling] = [i8::MIN, i8::MAX].map(|q| dequantize(q, activation));
        let inside: Vec<usize> = (0..whole.len())
            .filter(|&bin| (floor..=ceiling).contains(&centre(bin)))
            .collect();
        let (Some(&first), Some(&last)) = (inside.first(), inside.last()) else {
            return f64::INFINITY;
        };
        let mut exact: Vec<f64> = whole.iter().map(|&count| f64::from(count)).collect();
        let cut_below: f64 = exact[..first].iter().sum();
        let cut_above: f64 = exact[last + 1..].iter().sum();
        let step = |bin: usize| (i32::from(quantize(centre(bin), activation)) + 128) as usize;
        let (mut mass, mut filled) = ([0.0; 256], [0.0; 256]);
        for &bin in &inside {
            mass[step(bin)] += exact[bin];
            filled[step(bin)] += f64::from(u8::from(whole[bin] > 0));
        }
        exact[first] += cut_below;
        exact[last] += cut_above;
        let (all, kept): (f64, f64) = (exact.iter().sum(), mass.iter().sum());
        let terms = inside.iter().filter(|&&bin| exact[bin] > 0.0);
        let terms = terms.map(|&bin| {
            let p = exact[bin] / all.max(1.0);
            let q = match whole[bin] {
                0 => 0.0,
                _ => mass[step(bin)] / filled[step(bin)] / kept.max(1.0),
            };
            p * (p / q.max(LEAST)).ln()
        });
        terms.sum()
    }

    /// The whole range with room to spare, for logits: their order matters at the ends.
    pub(crate) fn roomy(&self) -> Activation {
        affine(1.1 * self.low(), 1.1 * self.high(), LINEAR)
    }
}

/// Of the histogram that entropy is judged on.
const BINS: usize = 2048;
/// Probability of what steps cannot tell: the logarithm needs one.
const LEAST: f64 = 1e-5;

/// Asymmetric int8 over a range that holds zero, zero exactly representable.
pub(crate) fn affine(low: f32, high: f32, clamp: [f32; 2]) -> Activation {
    let low = low.max(clamp[0]).min(0.0);
    let high = high.min(clamp[1]).max(0.0);
    let scale = ((high - low) / 255.0).max(1e-6);
    let zero_point = (-128.0 - low / scale).round().clamp(-128.0, 127.0) as i8;
    with_scale(scale, zero_point, clamp)
}

/// The clamp follows from scale, zero point and the float bounds.
pub(crate) fn with_scale(scale: f32, zero_point: i8, clamp: [f32; 2]) -> Activation {
    let bound = |x: f32, none: i8| match x.is_finite() {
        true => (f32::from(zero_point) + (x / scale).round()).clamp(-128.0, 127.0) as i8,
        false => none,
    };
    Activation {
        scale,
        zero_point,
        min: bound(clamp[0], i8::MIN),
        max: bound(clamp[1], i8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell with a rare spike far away.
    fn spiked() -> Observed {
        let mut observed = Observed::new(1);
        let mut state = 1u64;
        let bell: Vec<f32> = (0..10_000)
            .map(|_| {
                let uniform = |state: &mut u64| {
                    *state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
                };
                (0..6).map(|_| uniform(&mut state)).sum()
            })
            .collect();
        observed.see(&bell);
        observed.see(&[40.0]);
        observed
    }

    #[test]
    fn percentile_and_entropy_cut_a_spike_off() {
        let observed = spiked();
        let top = |method| {
            let activation = observed.activation(method, LINEAR);
            dequantize(127, &activation)
        };
        assert!((39.0..41.0).contains(&top(Method::MinMax)));
        for method in [Method::Percentile, Method::Entropy] {
            let top = top(method);
            assert!((1.0..35.0).contains(&top), "{method:?}: {top}");
        }
    }

    #[test]
    fn zero_is_exact_and_a_constant_tensor_has_a_scale() {
        let mut observed = Observed::new(1);
        observed.see(&[0.0; 100]);
        for method in Method::CHOICES {
            let activation = observed.activation(method, LINEAR);
            assert!(activation.scale > 0.0, "{method:?}");
            assert_eq!(dequantize(activation.zero_point, &activation), 0.0);
        }
    }

    #[test]
    fn channels_are_told_apart() {
        let mut observed = Observed::new(2);
        observed.see(&[1.0, -4.0, 3.0, -2.0]);
        assert_eq!((observed.low(), observed.high()), (-4.0, 3.0));
        assert_eq!([observed.power(0), observed.power(1)], [5.0, 10.0]);
        assert_eq!([observed.active(0), observed.active(1)], [1.0, 0.0]);
    }
}
