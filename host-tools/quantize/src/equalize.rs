//! Cross-layer equalization: a channel's values are divided by a number that the layers after it
//! multiply their weights by. The network computes the same, and one scale for the whole tensor
//! serves all its channels (arXiv:1906.04721, §4.1).
//!
//! ReLU6 is kept right: a divided channel would have to clip at `6 / s`. No divisor is above 1,
//! so that this is at or above the top of the tensor's range, where int8 saturates anyway; the
//! paper replaced ReLU6 by ReLU instead.
//!
//! Tensors that a residual adds are divided alike. How far to go is decided for each by a model
//! of the noise: rounded activations, weighted by what reads them, against weights that are
//! rounded with their filter's largest.

use crate::float::{FloatNetwork, Layer};
use crate::ranges::Observed;

/// Room above what calibration saw of a channel.
const MARGIN: f64 = 2.0;
/// No channel is divided by less.
const SMALLEST: f64 = 1.0 / 64.0;
/// Exponents that are tried; 0 leaves the tensor alone, 1 makes all channels alike.
const EXPONENTS: [f64; 4] = [0.0, 0.25, 0.5, 0.75];

/// Equalizes the network, in place, by what its tensors looked like.
pub(crate) fn equalize(network: &mut FloatNetwork, observed: &[Observed]) {
    // Changed with the network, as calibration would see it.
    let mut divisors: Vec<Vec<f64>> = observed
        .iter()
        .map(|o| vec![1.0; o.channels.len()])
        .collect();
    for group in groups(network) {
        let layers = network.layers();
        let model = Model::new(&layers, &group, observed, &divisors, network);
        let candidates = EXPONENTS.map(|exponent| model.divisors(exponent));
        let [first, ..] = &candidates;
        let chosen = candidates
            .iter()
            .min_by(|a, b| model.noise(a).total_cmp(&model.noise(b)))
            .unwrap_or(first)
            .clone();
        for &tensor in &group.tensors {
            divisors[tensor].clone_from(&chosen);
        }
        divide(network, &group, &chosen);
    }
}

/// Tensors that must be divided alike, and the layers that read any of them.
#[derive(Debug)]
struct Group {
    tensors: Vec<usize>,
    readers: Vec<Reader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Layer(usize),
    Classifier,
}

/// In the order of their first tensors.
fn groups(network: &FloatNetwork) -> Vec<Group> {
    let layers = network.layers();
    // Each tensor's first relative by residuals.
    let mut first: Vec<usize> = (0..layers.len()).collect();
    for (n, layer) in layers.iter().enumerate() {
        if let Some(added) = layer.residual {
            first[n] = first[added];
        }
    }
    let reader_of = |tensor: usize| match tensor + 1 < layers.len() {
        true => Reader::Layer(tensor + 1),
        false => Reader::Classifier,
    };
    let firsts = (0..layers.len()).filter(|&n| first[n] == n);
    firsts
        .map(|n| {
            let tensors: Vec<_> = (n..layers.len()).filter(|&t| first[t] == n).collect();
            Group {
                readers: tensors.iter().map(|&t| reader_of(t)).collect(),
                tensors,
            }
        })
        .collect()
}

/// Squared weights, `[outputs][channels]`; a depthwise kernel's are summed.
struct Weights {
    /// Largest magnitude of each output's weights on each channel.
    largest: Vec<f64>,
    /// Sum of squares.
    squares: Vec<f64>,
    depthwise: bool,
}

struct Model {
    channels: usize,
    /// Of each tensor: low, high of each channel.
    ranges: Vec<Vec<[f64; 2]>>,
    /// Mean squares of each tensor's channels.
    powers: Vec<Vec<f64>>,
    /// Of each tensor's reader.
    readers: Vec<Weights>,
    /// Divisors below this would make an accumulator coarser than its output.
    floors: Vec<f64>,
}

impl Model {
    fn new(
        layers: &[Layer<'_>],
        group: &Group,
        observed: &[Observed],
        divisors: &[Vec<f64>],
        network: &FloatNetwork,
    ) -> Self {
        let channels = layers[group.tensors[0]].convolution.c_out;
        let ranges: Vec<Vec<_>> = group
            .tensors
            .iter()
            .map(|&t| {
                let all = observed[t].channels.iter();
                all.map(|c| [f64::from(c.low), f64::from(c.high)]).collect()
            })
            .collect();
        let powers = group.tensors.iter().map(|&t| {
            let all = 0..channels;
            all.map(|c| observed[t].power(c)).collect()
        });
        let readers = group.readers.iter().map(|reader| match *reader {
            Reader::Layer(n) => {
                let convolution = layers[n].convolution;
                Weights::new(
                    &convolution.weights,
                    convolution.taps(),
                    layers[n].is_depthwise(),
                )
            }
            Reader::Classifier => Weights::new(&network.classifier.weights, channels, false),
        });
        let mut floors = vec![SMALLEST; channels];
        let whole = ranges
            .iter()
            .map(|ranges| width(ranges))
            .fold(f64::INFINITY, f64::min);
        for &tensor in &group.tensors {
            // Accumulator steps per output step, from the tensor before.
            let Some(before) = tensor.checked_sub(1) else {
                continue;
            };
            let input = observed[before].channels.iter().zip(&divisors[before]);
            let input: Vec<_> = input
                .map(|(c, d)| [f64::from(c.low) / d, f64::from(c.high) / d])
                .collect();
            let convolution = layers[tensor].convolution;
            for (c, floor) in floors.iter_mut().enumerate() {
                let largest = convolution
                    .filter(c)
                    .iter()
                    .fold(0f32, |m, w| m.max(w.abs()));
                let step = width(&input) * f64::from(largest) / 127.0;
                *floor = floor.max(step / (0.4 * whole.max(1e-12)));
            }
        }
        Self {
            channels,
            powers: powers.collect(),
            readers: readers.collect(),
            ranges,
            floors,
        }
    }

    /// None is above 1.
    fn divisors(&self, exponent: f64) -> Vec<f64> {
        let reach: Vec<f64> = (0..self.channels)
            .map(|c| {
                let all = self.ranges.iter();
                all.map(|r| r[c][1].max(-r[c][0])).fold(0.0, f64::max)
            })
            .collect();
        let widest = reach.iter().copied().fold(0.0, f64::max).max(1e-12);
        reach
            .iter()
            .zip(&self.floors)
            .map(|(reach, &floor)| {
                let divisor = (MARGIN * reach / widest).powf(exponent);
                divisor.max(floor).min(1.0)
            })
            .collect()
    }

    /// Of all tensors and their readers, each over the power of what the reader computes.
    fn noise(&self, divisors: &[f64]) -> f64 {
        let tensors = self.ranges.iter().zip(&self.powers).zip(&self.readers);
        let noises = tensors.map(|((ranges, powers), reader)| {
            let ranges: Vec<_> = ranges
                .iter()
                .zip(divisors)
                .map(|([low, high], d)| [low / d, high / d])
                .collect();
            let step = width(&ranges) / 255.0;
            reader.noise(step, powers, divisors)
        });
        noises.sum()
    }
}

/// Of a range that holds all channels and zero.
fn width(ranges: &[[f64; 2]]) -> f64 {
    let low = ranges.iter().fold(0.0, |low: f64, r| low.min(r[0]));
    let high = ranges.iter().fold(0.0, |high: f64, r| high.max(r[1]));
    high - low
}

impl Weights {
    fn new(weights: &[f32], taps: usize, depthwise: bool) -> Self {
        let weights = weights.iter().map(|&w| f64::from(w));
        if !depthwise {
            return Self {
                largest: weights.clone().map(f64::abs).collect(),
                squares: weights.map(|w| w * w).collect(),
                depthwise,
            };
        }
        let weights: Vec<_> = weights.collect();
        let filters = weights.chunks_exact(taps);
        Self {
            largest: filters
                .clone()
                .map(|f| f.iter().fold(0.0, |m: f64, w| m.max(w.abs())))
                .collect(),
            squares: filters.map(|f| f.iter().map(|w| w * w).sum()).collect(),
            depthwise,
        }
    }

    /// Variance that steps of the input and of the weights leave in the outputs, over their
    /// power, channels taken as independent.
    fn noise(&self, step: f64, powers: &[f64], divisors: &[f64]) -> f64 {
        let rounding = step * step / 12.0;
        // Each output of a depthwise kernel reads one channel, so that its weights' step follows
        // the divisor and costs the same whatever it is.
        let channels = if self.depthwise { 1 } else { divisors.len() };
        let (mut noise, mut signal) = (0.0, 1e-12);
        let outputs = self.squares.chunks_exact(channels);
        for (o, (squares, largest)) in outputs.zip(self.largest.chunks_exact(channels)).enumerate()
        {
            let first = if self.depthwise { o } else { 0 };
            let (powers, divisors) = (&powers[first..], &divisors[first..]);
            let mut top = 0f64;
            let mut power = 0.0;
            for c in 0..channels {
                noise += squares[c] * divisors[c].powi(2) * rounding;
                signal += squares[c] * powers[c];
                top = top.max(largest[c] * divisors[c]);
                power += powers[c] / divisors[c].powi(2);
            }
            noise += (top / 127.0).powi(2) / 12.0 * power;
        }
        noise / signal
    }
}

/// Divides what writes the tensors and multiplies what reads them.
fn divide(network: &mut FloatNetwork, group: &Group, divisors: &[f64]) {
    let depthwise: Vec<_> = network.layers().iter().map(Layer::is_depthwise).collect();
    let mut layers = network.convolutions_mut();
    for &tensor in &group.tensors {
        let convolution = &mut *layers[tensor];
        let taps = convolution.taps();
        let filters = convolution.weights.chunks_exact_mut(taps);
        let biases = convolution.bias.iter_mut().zip(&mut convolution.divisors);
        for ((filter, (bias, total)), &d) in filters.zip(biases).zip(divisors) {
            filter
                .iter_mut()
                .for_each(|w| *w = (f64::from(*w) / d) as f32);
            *bias = (f64::from(*bias) / d) as f32;
            *total = (f64::from(*total) * d) as f32;
        }
    }
    let multiply = |weights: &mut [f32], per_channel: usize| {
        let channels = divisors
            .iter()
            .flat_map(|d| std::iter::repeat_n(*d, per_channel));
        for (w, d) in weights.iter_mut().zip(channels.cycle()) {
            *w = (f64::from(*w) * d) as f32;
        }
    };
    for reader in &group.readers {
        match *reader {
            Reader::Layer(n) if depthwise[n] => {
                let taps = layers[n].taps();
                multiply(&mut layers[n].weights, taps);
            }
            Reader::Layer(n) => multiply(&mut layers[n].weights, 1),
            Reader::Classifier => {}
        }
    }
    if group.readers.contains(&Reader::Classifier) {
        multiply(&mut network.classifier.weights, 1);
    }
}
