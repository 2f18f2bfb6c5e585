//! Two networks on the same clips.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::Serialize;
use sori_package::{Package, TensorShape};

use crate::float::{LINEAR, Preprocessing};
use crate::measure::{best, run};
use crate::onnx::Onnx;
use crate::ranges::{dequantize, quantize, with_scale};
use crate::reference::Reference;
use crate::report::Sqnr;
use crate::rows::Rows;

/// One of the two.
#[derive(Debug, Clone, Copy)]
pub enum Contender<'a> {
    /// int8.
    Package(&'a Package<'a>),
    /// Float, as tract runs it.
    Onnx(&'a Onnx),
}

impl Contender<'_> {
    /// Shape of its rows.
    pub fn input_shape(&self) -> TensorShape {
        match self {
            Self::Package(package) => package.input(),
            Self::Onnx(onnx) => onnx.input_shape(),
        }
    }

    fn classes(&self) -> usize {
        match self {
            Self::Package(package) => package.classifier().classes,
            Self::Onnx(onnx) => onnx.network.classifier.bias.len(),
        }
    }
}

/// A clip, and the class that it should be, where that is known.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// Its rows; int8 ones in the steps of the package's input.
    pub rows: Rows,
    /// Index of its class.
    pub class: Option<usize>,
}

/// The differences found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of this structure.
    pub schema_version: u32,
    /// Clips on which both were run.
    pub clips: usize,
    /// Share on which both name the same class.
    pub agreement: f64,
    /// Power of the first network's logits over that of the difference, dB.
    pub sqnr_db: f64,
    /// Largest difference of two logits.
    pub largest_difference: f64,
    /// Mean over clips of the largest difference of two probabilities.
    pub mean_probability_change: f64,
    /// Share of the labelled clips that each gets right; `None` if no clip has a label.
    pub accuracy: Option<[f64; 2]>,
    /// By class.
    pub per_class: Vec<ClassChange>,
}

/// How results for one class change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassChange {
    /// Clips that each network assigns to this class.
    pub named: [usize; 2],
    /// Clips of that label.
    pub labelled: usize,
    /// Of those, the ones each network gets right.
    pub right: [usize; 2],
}

/// Runs both on all clips.
///
/// # Errors
/// When their inputs or classes differ, or a clip fits neither.
pub fn compare(contenders: [Contender<'_>; 2], clips: &[Labelled]) -> Result<Comparison> {
    let [first, second] = contenders;
    ensure!(
        first.input_shape() == second.input_shape() && first.classes() == second.classes(),
        "the networks take rows of {:?} and {:?} and have {} and {} classes: they must match to be compared",
        first.input_shape(),
        second.input_shape(),
        first.classes(),
        second.classes()
    );
    ensure!(!clips.is_empty(), "no clips to compare on");
    let packages = || {
        contenders.iter().filter_map(|contender| match contender {
            Contender::Package(package) => Some(*package),
            Contender::Onnx(_) => None,
        })
    };
    let preprocessing = contenders.iter().find_map(|contender| match contender {
        Contender::Onnx(onnx) => Some(onnx.network.preprocessing.clone()),
        Contender::Package(_) => None,
    });
    let preprocessing = preprocessing.unwrap_or_default();
    let pool_rows = packages()
        .map(|package| package.classifier().pool_rows)
        .min();
    let pool_rows = pool_rows.unwrap_or(usize::MAX);
    let logits = contenders
        .iter()
        .map(|contender| match contender {
            Contender::Package(package) => of_package(package, &preprocessing, clips),
            Contender::Onnx(onnx) => {
                let reference = Reference::new(onnx);
                let input = packages().next().map(Package::input_activation);
                let all = clips.par_iter().map(|clip| {
                    let floats = match (&clip.rows, input) {
                        (Rows::Float(floats), _) => floats.clone(),
                        (Rows::Int8(rows), input) => {
                            let input = input.unwrap_or(with_scale(1.0, 0, LINEAR));
                            rows.iter().map(|&q| dequantize(q, &input)).collect()
                        }
                    };
                    reference.logits(&floats, pool_rows)
                });
                all.collect()
            }
        })
        .collect::<Result<Vec<Vec<Vec<f32>>>>>()?;

    let classes = first.classes();
    let mut sqnr = Sqnr::default();
    let mut per_class = vec![ClassChange::default(); classes];
    let (mut same, mut largest, mut changes, mut labelled) = (0, 0f64, 0.0, 0);
    let mut right = [0; 2];
    for ((a, b), clip) in logits[0].iter().zip(&logits[1]).zip(clips) {
        for (&a, &b) in a.iter().zip(b) {
            sqnr.add(a, b);
            largest = largest.max(f64::from((a - b).abs()));
        }
        let probabilities = [softmax(a), softmax(b)];
        let pairs = probabilities[0].iter().zip(&probabilities[1]);
        changes += pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let named = [best(a), best(b)];
        same += usize::from(named[0] == named[1]);
        for (n, &class) in named.iter().enumerate() {
            per_class[class].named[n] += 1;
        }
        let Some(class) = clip.class else { continue };
        labelled += 1;
        per_class[class].labelled += 1;
        for n in 0..2 {
            let hit = usize::from(named[n] == class);
            per_class[class].right[n] += hit;
            right[n] += hit;
        }
    }
    Ok(Comparison {
        schema_version: 1,
        clips: clips.len(),
        agreement: same as f64 / clips.len() as f64,
        sqnr_db: sqnr.db(),
        largest_difference: largest,
        mean_probability_change: changes / clips.len() as f64,
        accuracy: (labelled > 0).then(|| right.map(|right| right as f64 / labelled as f64)),
        per_class,
    })
}

fn of_package(
    package: &Package<'_>,
    preprocessing: &Preprocessing,
    clips: &[Labelled],
) -> Result<Vec<Vec<f32>>> {
    let input = package.input_activation();
    let steps: Vec<Vec<i8>> = clips
        .iter()
        .map(|clip| match &clip.rows {
            Rows::Int8(rows) => rows.clone(),
            Rows::Float(floats) => {
                let mut floats = floats.clone();
                preprocessing.apply(&mut floats);
                floats.iter().map(|&x| quantize(x, &input)).collect()
            }
        })
        .collect();
    let steps: Vec<&[i8]> = steps.iter().map(Vec::as_slice).collect();
    let activation = package.classifier().activation;
    let logits = run(package, &steps)?.into_iter();
    Ok(logits
        .map(|logits| logits.iter().map(|&q| dequantize(q, &activation)).collect())
        .collect())
}

/// The probabilities of one window's logits.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&x| f64::from(x - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}
