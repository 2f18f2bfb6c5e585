//! A package's logits, and the measures of them.

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use sori_listener::{ClipSummary, Event, MAX_CLASSES, unknown_class};
use sori_nn::{Backend, CacheLine, Network, Prepared, softmax_q15};
use sori_package::{Activation, Package};

use crate::rows::Rows;

/// A package's int8 logits of each clip of rows `[rows][width][channels]`, on the fastest backend.
///
/// # Errors
/// When a clip has too few rows for an answer.
pub fn logits(package: &Package<'_>, clips: &[&[i8]]) -> Result<Vec<Vec<i8>>> {
    let backend = Backend::detect();
    let mut weights = vec![CacheLine([0; 64]); Prepared::lines(package, backend)];
    let prepared = Prepared::new(package, backend, &mut weights)?;
    let classes = package.classifier().classes;
    let row_len = package.input().row_len();
    clips
        .par_iter()
        .map(|clip| {
            let stripe = (clip.len() / row_len).max(1);
            let bytes = Network::arena_bytes(&prepared, stripe);
            let mut arena = vec![CacheLine([0; 64]); bytes.div_ceil(size_of::<CacheLine>())];
            let arena = bytemuck::cast_slice_mut(&mut arena);
            let mut network = Network::new(&prepared, arena, stripe)?;
            let logits = network.clip(clip).map(<[i8]>::to_vec);
            let logits = logits.filter(|logits| logits.len() == classes);
            logits
                .with_context(|| format!("a clip of {} rows gives no logits", clip.len() / row_len))
        })
        .collect()
}

/// The same in real numbers. Float rows go through `preprocess` first: what the network's
/// ONNX graph does to its input before the stem.
///
/// # Errors
/// As [`logits`].
pub fn logits_of_rows(
    package: &Package<'_>,
    clips: &[Rows],
    preprocess: &dyn Fn(&mut [f32]),
) -> Result<Vec<Vec<f32>>> {
    let steps: Vec<Vec<i8>> = clips
        .iter()
        .map(|clip| steps(package, clip, preprocess))
        .collect();
    let steps: Vec<&[i8]> = steps.iter().map(Vec::as_slice).collect();
    let activation = package.classifier().activation;
    let logits = logits(package, &steps)?.into_iter();
    Ok(logits
        .map(|logits| logits.iter().map(|&q| dequantize(q, &activation)).collect())
        .collect())
}

fn steps(package: &Package<'_>, clip: &Rows, preprocess: &dyn Fn(&mut [f32])) -> Vec<i8> {
    match clip {
        Rows::Int8(rows) => rows.clone(),
        Rows::Float(floats) => {
            let mut floats = floats.clone();
            preprocess(&mut floats);
            let input = package.input_activation();
            floats.iter().map(|&x| quantize(x, &input)).collect()
        }
    }
}

/// What every accuracy counts, for people.
pub const ACCURACY: &str =
    "a clip's answer is its most probable label that can be named, however probable `unknown` is";

/// A package's answer to each clip: what `classify` would name, were it sure. That is the most
/// probable class that can be named, by the mean of the probabilities of the output rows at which
/// the running mean was full. Every accuracy is a share of such answers.
///
/// # Errors
/// As [`logits`].
pub fn answers(
    package: &Package<'_>,
    clips: &[Rows],
    preprocess: &(dyn Fn(&mut [f32]) + Sync),
) -> Result<Vec<usize>> {
    let backend = Backend::detect();
    let mut weights = vec![CacheLine([0; 64]); Prepared::lines(package, backend)];
    let prepared = Prepared::new(package, backend, &mut weights)?;
    let classifier = package.classifier();
    clips
        .par_iter()
        .map(|clip| {
            let steps = steps(package, clip, preprocess);
            let words = Network::arena_bytes(&prepared, 1).div_ceil(size_of::<CacheLine>());
            let mut arena = vec![CacheLine([0; 64]); words];
            let arena = bytemuck::cast_slice_mut(&mut arena);
            let mut network = Network::new(&prepared, arena, 1)?;
            if classifier.classes > MAX_CLASSES {
                let (mut outputs, mut full) = (0, Vec::new());
                network.finish(&steps, &mut |logits| {
                    outputs += 1;
                    // Until then each is the last there is.
                    if outputs <= classifier.pool_rows {
                        full.clear();
                    }
                    let floats = logits
                        .iter()
                        .map(|&q| dequantize(q, &classifier.activation));
                    full.push(floats.collect());
                });
                return answer_of(&full, None).context(TOO_SHORT);
            }
            let mut summary = ClipSummary::new(package);
            let mut probabilities = vec![0; classifier.classes];
            network.finish(&steps, &mut |logits| {
                softmax_q15(logits, classifier.softmax_step_q16, &mut probabilities);
                summary.observe(&Event::Output {
                    logits,
                    probabilities_q15: &probabilities,
                });
            });
            let best = summary.clip().best;
            best.map(usize::from).context(TOO_SHORT)
        })
        .collect()
}

const TOO_SHORT: &str = "a clip has too few rows for an answer";

/// The same from the logits of a float network at those output rows; none without any.
pub fn answer_of(logits: &[Vec<f32>], unknown: Option<usize>) -> Option<usize> {
    largest(&mean_probabilities(logits)?, unknown)
}

/// The most probable class that can be named; the first of equals, as on a device.
pub fn largest(probabilities: &[f64], unknown: Option<usize>) -> Option<usize> {
    let classes = (0..probabilities.len()).filter(|&class| Some(class) != unknown);
    classes
        .rev()
        .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]))
}

/// The mean of the probabilities of each row's logits.
pub fn mean_probabilities(logits: &[Vec<f32>]) -> Option<Vec<f64>> {
    let mut mean = vec![0.0; logits.first()?.len()];
    for row in logits {
        for (mean, p) in mean.iter_mut().zip(softmax(row)) {
            *mean += p / logits.len() as f64;
        }
    }
    Some(mean)
}

/// The class that cannot be named, if a package has one.
pub fn unknown(package: &Package<'_>) -> Option<usize> {
    unknown_class(package).map(usize::from)
}

/// The nearest step of an activation, within its clamp.
#[inline]
pub fn quantize(x: f32, activation: &Activation) -> i8 {
    let q = (x / activation.scale).round() + f32::from(activation.zero_point);
    q.clamp(activation.min.into(), activation.max.into()) as i8
}

/// `(q − zero_point) · scale`.
#[inline]
pub fn dequantize(q: i8, activation: &Activation) -> f32 {
    (f32::from(q) - f32::from(activation.zero_point)) * activation.scale
}

/// The best class. Of equal logits the first wins, as on a device.
#[inline]
pub fn best<T: PartialOrd + Copy>(logits: &[T]) -> usize {
    (1..logits.len()).fold(0, |best, n| if logits[n] > logits[best] { n } else { best })
}

/// The probabilities of one window's logits.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&x| f64::from(x - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// Signal-to-quantization-noise ratio, as values come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sqnr {
    signal: f64,
    noise: f64,
}

impl Sqnr {
    /// A value as it should be, and as it is.
    #[inline]
    pub fn add(&mut self, exact: f32, found: f32) {
        self.signal += f64::from(exact).powi(2);
        self.noise += f64::from(exact - found).powi(2);
    }

    /// All values of another.
    pub fn join(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// In decibels; finite even where nothing differs.
    pub fn db(self) -> f64 {
        10.0 * (self.signal.max(1e-30) / self.noise.max(1e-30)).log10()
    }
}
