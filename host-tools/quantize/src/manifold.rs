//! The question of the MobileNetV2 paper, asked of a network: what its ReLUs destroy.
//!
//! A bottleneck computes `A · ReLU6(B · x)`, which for one input is `A · D · B · x` with a
//! diagonal `D` of ones and zeros (arXiv:1801.04381, §3.2 and appendix A). The paper argues that
//! `x` survives where enough channels of the expansion are active, and dies where there is no
//! expansion. Both can be measured.

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use sori_host::{Rows, Sqnr, best};
use tract_onnx::prelude::tract_ndarray::ArrayView2;

use crate::engine::{self, Tensor};
use crate::float::{FloatBlock, FloatNetwork};
use crate::onnx::Onnx;

/// Pixels of each block that are looked at, over all clips.
const PIXELS: usize = 512;
/// Multiplications that solving for the inputs of a block may take.
const BUDGET: usize = 4_000_000_000;

/// What the ReLUs of a network do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifold {
    /// Version of this structure.
    pub schema_version: u32,
    /// Clips that were run.
    pub clips: usize,
    /// Inverted residuals with an expansion, in order.
    pub blocks: Vec<Bottleneck>,
    /// All projections with a ReLU6 after them, on the same weights.
    pub non_linear: Disturbance,
    /// The paper's Figure 1, drawn and measured anew.
    pub figure_1: Vec<Embedding>,
}

/// One inverted residual.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bottleneck {
    /// Its number.
    pub block: usize,
    /// Channels: narrow, wide, narrow.
    pub channels: [usize; 3],
    /// Mean share of ones on the diagonal of `D`: channels of the expansion that are neither at 0
    /// nor at 6.
    pub active: f64,
    /// Channels of the expansion that no clip brings above 0.
    pub dead_channels: Vec<usize>,
    /// `(Σλ)² / Σλ²` over the eigenvalues of the covariance: how many directions are used. Of the
    /// block's input.
    pub input_rank: f64,
    /// Of the expansion's output.
    pub expanded_rank: f64,
    /// Of the projection's output.
    pub projected_rank: f64,
    /// Share of the input's power about its mean that its active channels determine.
    pub recovered: f64,
    /// Share of pixels of which the active channels determine the whole input.
    pub invertible: f64,
    /// Share of the projection's power that a ReLU6 after it would cut off.
    pub relu_loss: f64,
    /// A ReLU6 after this projection alone.
    pub non_linear: Disturbance,
}

/// What a change does to the logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Disturbance {
    /// Share of clips with the same class as before.
    pub agreement: f64,
    /// Of the logits, dB.
    pub sqnr_db: f64,
}

/// A spiral in the plane, brought to `dimensions` by a random matrix, through a ReLU, and back by
/// the pseudoinverse.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Embedding {
    /// Of the space in between.
    pub dimensions: usize,
    /// Share of the spiral's power that is lost, the best linear map allowed afterwards; mean
    /// over matrices.
    pub lost: f64,
    /// Share of matrices that lose more than a tenth.
    pub collapsed: f64,
    /// What came back of each point, of the first matrix.
    #[serde(skip)]
    pub points: Vec<[f64; 2]>,
}

/// Measures on clips.
///
/// # Errors
/// When there are no clips, or they do not fit.
pub fn manifold(
    onnx: &Onnx,
    clips: &[Rows],
    on_progress: &(dyn Fn(&str, f64) + Sync),
) -> Result<Manifold> {
    let network = &onnx.network;
    ensure!(!clips.is_empty(), "no clips to measure on");
    let row_len = network.width * network.channels;
    let inputs = clips.iter().map(|clip| {
        let mut values = match (clip, &onnx.contract) {
            (Rows::Float(values), _) => values.clone(),
            (Rows::Int8(rows), Some(contract)) => {
                let input = contract.input;
                let zero_point = f32::from(input.zero_point);
                let rows = rows
                    .iter()
                    .map(|&q| (f32::from(q) - zero_point) * input.scale);
                rows.collect()
            }
            (Rows::Int8(_), None) => bail!("int8 rows carry no scale: give float rows"),
        };
        ensure!(
            !values.is_empty() && values.len().is_multiple_of(row_len),
            "a clip of {} values is not a whole number of rows of {row_len}",
            values.len()
        );
        network.preprocessing.apply(&mut values);
        Ok(values)
    });
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    on_progress("float network", 0.0);
    let clips: Vec<Clip> = inputs
        .into_par_iter()
        .map(|input| Clip::new(network, input))
        .collect();

    let mut tensor = 0;
    let mut places = Vec::new();
    for (n, block) in network.blocks.iter().enumerate() {
        if let Some(expansion) = &block.expansion {
            places.push(Place {
                n,
                block,
                bias: &expansion.bias,
                weights: &expansion.weights,
                input: tensor,
            });
        }
        tensor += 2 + usize::from(block.expansion.is_some());
    }
    let blocks = places
        .iter()
        .enumerate()
        .map(|(done, place)| {
            on_progress("blocks", done as f64 / places.len() as f64);
            place.measure(network, &clips)
        })
        .collect();

    let mut bent = network.clone();
    for block in &mut bent.blocks {
        block.projection.clamp = [0.0, 6.0];
    }
    let disturbed = clips.par_iter().map(|clip| {
        let tensors = engine::run(&bent, &clip.input);
        logits(network, tensors.last().map_or(&[][..], Vec::as_slice))
    });
    let non_linear = disturbance(&clips, &disturbed.collect::<Vec<_>>());
    Ok(Manifold {
        schema_version: 1,
        clips: clips.len(),
        blocks,
        non_linear,
        figure_1: figure_1(),
    })
}

struct Clip {
    input: Tensor,
    tensors: Vec<Tensor>,
    logits: Vec<f32>,
}

impl Clip {
    fn new(network: &FloatNetwork, input: Tensor) -> Self {
        let tensors = engine::run(network, &input);
        let last = tensors.last().map_or(&[][..], Vec::as_slice);
        Self {
            logits: logits(network, last),
            tensors,
            input,
        }
    }
}

/// Of the mean over a whole clip.
fn logits(network: &FloatNetwork, last: &[f32]) -> Vec<f32> {
    engine::logits(network, last, ALL_ROWS)
}

fn disturbance(clips: &[Clip], logits: &[Vec<f32>]) -> Disturbance {
    let mut sqnr = Sqnr::default();
    let mut same = 0;
    for (clip, found) in clips.iter().zip(logits) {
        for (&a, &b) in clip.logits.iter().zip(found) {
            sqnr.add(a, b);
        }
        same += usize::from(best(&clip.logits) == best(found));
    }
    Disturbance {
        agreement: same as f64 / clips.len() as f64,
        sqnr_db: sqnr.db(),
    }
}

/// A block with an expansion, and the tensor that it reads.
struct Place<'n> {
    n: usize,
    block: &'n FloatBlock,
    weights: &'n [f32],
    bias: &'n [f32],
    input: usize,
}

impl Place<'_> {
    fn measure(&self, network: &FloatNetwork, clips: &[Clip]) -> Bottleneck {
        let (narrow, wide) = (self.weights.len() / self.bias.len(), self.bias.len());
        let projection = &self.block.projection;
        let (before, after) = (self.input, self.input + 1);
        let output = self.input + 3;

        let mut dead = vec![true; wide];
        let (mut active, mut values) = (0usize, 0usize);
        for clip in clips {
            for pixel in clip.tensors[after].chunks_exact(wide) {
                for (dead, &y) in dead.iter_mut().zip(pixel) {
                    *dead &= y <= 0.0;
                    active += usize::from(y > 0.0 && y < 6.0);
                    values += 1;
                }
            }
        }
        let projected: Vec<Tensor> = clips
            .iter()
            .map(|clip| {
                let tensor = clip.tensors[output].clone();
                match self.block.residual {
                    true => tensor
                        .iter()
                        .zip(&clip.tensors[before])
                        .map(|(y, x)| y - x)
                        .collect(),
                    false => tensor,
                }
            })
            .collect();
        let (mut power, mut lost) = (0.0, 0.0);
        for &y in projected.iter().flatten() {
            power += f64::from(y).powi(2);
            lost += f64::from(y - y.clamp(0.0, 6.0)).powi(2);
        }
        let bent: Vec<Vec<f32>> = clips
            .par_iter()
            .zip(&projected)
            .map(|(clip, projected)| {
                let cut = projected.iter().map(|y| y.clamp(0.0, 6.0));
                let changed = match self.block.residual {
                    true => cut.zip(&clip.tensors[before]).map(|(y, x)| y + x).collect(),
                    false => cut.collect(),
                };
                let last = engine::rerun(network, &clip.tensors, output, changed);
                logits(network, &last)
            })
            .collect();
        let tensors = |n: usize| -> Vec<&[f32]> {
            let all = clips.iter().map(|clip| &clip.tensors[n][..]);
            all.collect()
        };
        let recovery = self.recovery(&tensors(before), &tensors(after), narrow);
        let projected: Vec<&[f32]> = projected.iter().map(Vec::as_slice).collect();
        Bottleneck {
            block: self.n,
            channels: [narrow, wide, projection.c_out],
            active: active as f64 / values.max(1) as f64,
            dead_channels: (0..wide).filter(|&c| dead[c]).collect(),
            input_rank: effective_rank(&tensors(before), narrow),
            expanded_rank: effective_rank(&tensors(after), wide),
            projected_rank: effective_rank(&projected, projection.c_out),
            recovered: recovery[0],
            invertible: recovery[1],
            relu_loss: lost / f64::max(power, 1e-30),
            non_linear: disturbance(clips, &bent),
        }
    }

    /// Of the input: share of its power that is recovered, share of pixels that are recovered whole.
    fn recovery(&self, inputs: &[&[f32]], expanded: &[&[f32]], narrow: usize) -> [f64; 2] {
        let wide = self.bias.len();
        let means = means(inputs, narrow);
        let pixels: usize = inputs.iter().map(|x| x.len() / narrow).sum();
        let cost = wide * narrow * narrow + narrow.pow(3);
        let number = (BUDGET / cost.max(1)).clamp(16, PIXELS);
        let every = pixels.div_ceil(number).max(1);
        let all = inputs.iter().zip(expanded).flat_map(|(x, y)| {
            let pixels = x.chunks_exact(narrow).zip(y.chunks_exact(wide));
            pixels.collect::<Vec<_>>()
        });
        let solved: Vec<(f64, f64, bool)> = all
            .step_by(every)
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|(x, y)| self.solve(x, y, &means))
            .collect();
        let power: f64 = solved.iter().map(|(power, ..)| power).sum();
        let error: f64 = solved.iter().map(|(_, error, _)| error).sum();
        let whole = solved.iter().filter(|(.., whole)| *whole).count();
        [
            1.0 - (error / f64::max(power, 1e-30)).min(1.0),
            whole as f64 / solved.len().max(1) as f64,
        ]
    }

    /// Power of the input about its mean, what of it the active channels leave open, and whether
    /// that is nothing.
    fn solve(&self, x: &[f32], y: &[f32], means: &[f64]) -> (f64, f64, bool) {
        let n = x.len();
        // Seen from its mean, which is known without any channel.
        let seen: Vec<f64> = x
            .iter()
            .zip(means)
            .map(|(&x, m)| f64::from(x) - m)
            .collect();
        let mut gram = vec![0.0; n * n];
        for (c, &y) in y.iter().enumerate() {
            if y <= 0.0 || y >= 6.0 {
                continue;
            }
            let row = &self.weights[c * n..][..n];
            for (i, &a) in row.iter().enumerate() {
                for (j, &b) in row.iter().enumerate() {
                    gram[i * n + j] += f64::from(a) * f64::from(b);
                }
            }
        }
        let power = seen.iter().map(|x| x * x).sum();
        let open = outside(&mut gram, n, &seen);
        (power, open, open <= 1e-6 * power)
    }
}

/// Squared length of the part of `x` that is orthogonal to the range of a symmetric matrix of
/// size `n`, which is used up (Gram-Schmidt with pivoting over its rows).
fn outside(gram: &mut [f64], n: usize, x: &[f64]) -> f64 {
    let mut rest = x.to_vec();
    let length = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>();
    let mut rows: Vec<&mut [f64]> = gram.chunks_exact_mut(n.max(1)).collect();
    let largest = rows.iter().map(|row| length(row)).fold(0.0, f64::max);
    while let Some(longest) =
        (0..rows.len()).max_by(|&a, &b| length(rows[a]).total_cmp(&length(rows[b])))
    {
        let pivot = rows.swap_remove(longest);
        let norm = length(pivot);
        // Single-precision weights say no more.
        if norm <= 1e-12 * largest || norm == 0.0 {
            break;
        }
        let project = |v: &mut [f64]| {
            let along = v.iter().zip(pivot.iter()).map(|(v, p)| v * p).sum::<f64>() / norm;
            for (v, p) in v.iter_mut().zip(pivot.iter()) {
                *v -= along * p;
            }
        };
        project(&mut rest);
        rows.iter_mut().for_each(|row| project(row));
    }
    length(&rest)
}

fn means(tensors: &[&[f32]], channels: usize) -> Vec<f64> {
    let pixels: usize = tensors.iter().map(|tensor| tensor.len() / channels).sum();
    let mut means = vec![0.0; channels];
    for pixel in tensors.iter().flat_map(|t| t.chunks_exact(channels)) {
        for (mean, &x) in means.iter_mut().zip(pixel) {
            *mean += f64::from(x) / pixels.max(1) as f64;
        }
    }
    means
}

/// `(Σλ)² / Σλ²` of the covariance, which are its trace and its sum of squares.
fn effective_rank(tensors: &[&[f32]], channels: usize) -> f64 {
    let means = means(tensors, channels);
    let pixels: usize = tensors.iter().map(|tensor| tensor.len() / channels).sum();
    let every = pixels.div_ceil(8192).max(1);
    let pixels = tensors.iter().flat_map(|t| t.chunks_exact(channels));
    let mut centred = Vec::new();
    for pixel in pixels.step_by(every) {
        centred.extend(
            pixel
                .iter()
                .zip(&means)
                .map(|(&x, m)| (f64::from(x) - m) as f32),
        );
    }
    let rows = centred.len() / channels;
    let matrix = ArrayView2::from_shape((rows, channels), &centred).expect("rows of this length");
    let covariance = matrix.t().dot(&matrix);
    let trace: f64 = (0..channels).map(|c| f64::from(covariance[[c, c]])).sum();
    let squares: f64 = covariance.iter().map(|&h| f64::from(h).powi(2)).sum();
    trace * trace / squares.max(1e-30)
}

/// In a mean over the whole clip.
const ALL_ROWS: usize = 1 << 24;

/// Matrices for each dimension.
const MATRICES: usize = 500;

/// A spiral through spaces of the paper's dimensions.
pub fn figure_1() -> Vec<Embedding> {
    let spiral = spiral();
    [2, 3, 5, 15, 30]
        .map(|dimensions| {
            let mut random = Normal(u64::from(dimensions as u32));
            let embedded: Vec<Vec<[f64; 2]>> = (0..MATRICES)
                .map(|_| {
                    let matrix: Vec<[f64; 2]> = (0..dimensions)
                        .map(|_| [random.next(), random.next()])
                        .collect();
                    through_relu(&spiral, &matrix)
                })
                .collect();
            let lost: Vec<f64> = embedded
                .iter()
                .map(|back| unexplained(&spiral, back))
                .collect();
            Embedding {
                dimensions,
                lost: lost.iter().sum::<f64>() / MATRICES as f64,
                collapsed: lost.iter().filter(|&&lost| lost > 0.1).count() as f64 / MATRICES as f64,
                points: embedded.into_iter().next().unwrap_or_default(),
            }
        })
        .into()
}

/// Three turns.
pub fn spiral() -> Vec<[f64; 2]> {
    (0..600)
        .map(|n| {
            let t = f64::from(n) / 600.0;
            let angle = 3.0 * std::f64::consts::TAU * t;
            [t * angle.cos(), t * angle.sin()]
        })
        .collect()
}

/// `T⁺ · ReLU(T · x)` of each point.
fn through_relu(points: &[[f64; 2]], matrix: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let of = |i: usize, j: usize| matrix.iter().map(|row| row[i] * row[j]).sum::<f64>();
    let [a, b, d] = [of(0, 0), of(0, 1), of(1, 1)];
    let determinant = (a * d - b * b).max(1e-12);
    points
        .iter()
        .map(|[x, y]| {
            let mut sums = [0.0; 2];
            for [u, v] in matrix {
                let z = (u * x + v * y).max(0.0);
                sums[0] += u * z;
                sums[1] += v * z;
            }
            [
                (d * sums[0] - b * sums[1]) / determinant,
                (a * sums[1] - b * sums[0]) / determinant,
            ]
        })
        .collect()
}

/// Share of the points' power that no affine map of what came back explains.
fn unexplained(points: &[[f64; 2]], back: &[[f64; 2]]) -> f64 {
    let count = points.len() as f64;
    let mean = |all: &[[f64; 2]], k: usize| all.iter().map(|p| p[k]).sum::<f64>() / count;
    let (mp, mb) = (
        [mean(points, 0), mean(points, 1)],
        [mean(back, 0), mean(back, 1)],
    );
    let product =
        |left: &[[f64; 2]], ml: [f64; 2], i: usize, right: &[[f64; 2]], mr: [f64; 2], j: usize| {
            let pairs = left.iter().zip(right);
            pairs
                .map(|(l, r)| (l[i] - ml[i]) * (r[j] - mr[j]))
                .sum::<f64>()
        };
    let [a, b, d] = [(0, 0), (0, 1), (1, 1)].map(|(i, j)| product(back, mb, i, back, mb, j));
    let determinant = a * d - b * b;
    let mut explained = 0.0;
    let mut power = 0.0;
    for k in 0..2 {
        let (u, v) = (
            product(back, mb, 0, points, mp, k),
            product(back, mb, 1, points, mp, k),
        );
        power += product(points, mp, k, points, mp, k);
        // All on a line, or a point: then along its longer side.
        explained += match determinant > 1e-9 * (a + d).powi(2) {
            true => (d * u * u - 2.0 * b * u * v + a * v * v) / determinant,
            false if a >= d && a > 0.0 => u * u / a,
            false if d > 0.0 => v * v / d,
            false => 0.0,
        };
    }
    1.0 - explained / power
}

/// The same always (Box and Muller).
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let [a, b] = [(); 2].map(|()| {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        });
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

impl Bottleneck {
    /// What follows from the numbers, if anything does.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        let [narrow, wide, _] = self.channels;
        if !self.dead_channels.is_empty() {
            advice.push(format!(
                "block {}: {} of {wide} channels are never above 0 on these clips; `sori quantize --prune` removes those that provably never are",
                self.block,
                self.dead_channels.len()
            ));
        }
        if self.expanded_rank <= self.input_rank {
            advice.push(format!(
                "block {}: the expansion from {narrow} to {wide} channels uses {:.1} directions, no more than its input ({:.1}): a smaller expansion may suffice",
                self.block, self.expanded_rank, self.input_rank
            ));
        }
        if self.recovered < 0.9 {
            advice.push(format!(
                "block {}: {:.0} % of its input is lost in the ReLU: a larger expansion would preserve more",
                self.block,
                100.0 * (1.0 - self.recovered)
            ));
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper: in 2 and 3 dimensions points collapse, in 15 to 30 little is lost.
    #[test]
    fn a_spiral_survives_a_relu_in_many_dimensions_and_not_in_few() {
        let figure = figure_1();
        let lost: Vec<f64> = figure.iter().map(|embedding| embedding.lost).collect();
        assert!(lost.is_sorted_by(|a, b| a > b), "{lost:?}");
        assert!(lost[0] > 0.3 && lost[4] < 0.06, "{lost:?}");
        assert!(figure[0].collapsed > 0.9 && figure[4].collapsed < 0.05);
    }

    #[test]
    fn what_rows_do_not_span_is_left_over() {
        let mut gram = [4.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let rest = outside(&mut gram, 3, &[1.0, 2.0, 3.0]);
        assert!((rest - 9.0).abs() < 1e-9, "{rest}");
        let mut whole = [2.0, 1.0, 1.0, 2.0];
        assert!(outside(&mut whole, 2, &[1.0, -3.0]) < 1e-12);
    }

    #[test]
    fn the_effective_rank_counts_directions() {
        let line: Vec<f32> = (0..300).flat_map(|n| [n as f32, 2.0 * n as f32]).collect();
        assert!((effective_rank(&[&line], 2) - 1.0).abs() < 1e-3);
        let square: Vec<f32> = (0..400)
            .flat_map(|n| [(n % 20) as f32, (n / 20) as f32])
            .collect();
        assert!((effective_rank(&[&square], 2) - 2.0).abs() < 1e-3);
    }
}
