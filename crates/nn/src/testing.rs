//! Random packages, identical everywhere for the same seed, for tests here and on targets.

use alloc::vec::Vec;
use core::iter;

use sori_package::write::{
    ClassifierSpec, ConvolutionSpec, InvertedResidualSpec, PackageBytes, PackageSpec, Sizes,
};
use sori_package::{Activation, BlockPlan, Package, Spatial, TensorShape};

/// Small, fast and the same everywhere (Knuth's MMIX constants).
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// The sequence for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d)
    }

    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = (i64::from(high) - i64::from(low) + 1) as u64;
        (i64::from(low) + ((u64::from(self.bits()) * span) >> 32) as i64) as i32
    }

    /// Any int8 values.
    pub fn int8(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.between(-128, 127) as i8).collect()
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.between(0, values.len() as i32 - 1) as usize]
    }
}

/// One inverted residual of a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Expansion factor; 1 leaves the expansion out.
    pub t: u16,
    /// Output channels.
    pub c: u16,
    /// Of the depthwise.
    pub spatial: Spatial,
}

/// The shape of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Of an input row.
    pub input: TensorShape,
    /// Output channels and geometry of the stem.
    pub stem: (u16, Spatial),
    /// Inverted residuals; those that keep the shape get a residual connection.
    pub blocks: Vec<Block>,
    /// Channels of the 1×1 head.
    pub head: Option<u16>,
    /// Number of classes.
    pub classes: u16,
    /// Rows of the running mean.
    pub pool_rows: u16,
    /// Whether multipliers have 24 significant bits and activations the whole int8 range, from
    /// zero up after a ReLU, as `sori-quantize` makes them.
    pub as_quantized: bool,
}

impl Table {
    /// The paper's table 2 at a width multiplier, with strides and padding as PyTorch has
    /// them (`causal`: time padded on the past side only).
    pub fn mobilenet_v2(input: TensorShape, width: f64, classes: u16, causal: bool) -> Self {
        let scaled = |c: f64| {
            let value = c * width;
            let rounded = ((value + 4.0) as u16 / 8 * 8).max(8);
            if f64::from(rounded) < 0.9 * value {
                rounded + 8
            } else {
                rounded
            }
        };
        let spatial = |stride| Spatial {
            stride_time: stride,
            stride_freq: stride,
            pad_time: if causal { [2, 0] } else { [1, 1] },
            pad_freq: [1, 1],
        };
        let table = [
            (1, 16.0, 1, 1),
            (6, 24.0, 2, 2),
            (6, 32.0, 3, 2),
            (6, 64.0, 4, 2),
            (6, 96.0, 3, 1),
            (6, 160.0, 3, 2),
            (6, 320.0, 1, 1),
        ];
        let blocks = table.iter().flat_map(|&(t, c, n, s)| {
            (0..n).map(move |i| Block {
                t,
                c: scaled(c),
                spatial: spatial(if i == 0 { s } else { 1 }),
            })
        });
        Self {
            input,
            stem: (scaled(32.0), spatial(2)),
            blocks: blocks.collect(),
            head: Some(if width > 1.0 { scaled(1280.0) } else { 1280 }),
            classes,
            pool_rows: 7,
            as_quantized: false,
        }
    }

    /// A small network for a seed: any strides, paddings and widths, with and without a head.
    pub fn random(noise: &mut Noise) -> Self {
        let pads = [[1, 1], [2, 0], [0, 2], [0, 1], [0, 0], [1, 0], [2, 2]];
        let spatial = |noise: &mut Noise| Spatial {
            stride_time: noise.between(1, 2) as u8,
            stride_freq: noise.between(1, 2) as u8,
            pad_time: noise.one_of(&pads),
            pad_freq: noise.one_of(&[[1, 1], [0, 1], [1, 1], [2, 1]]),
        };
        let stem = (noise.between(1, 20) as u16, spatial(noise));
        let mut channels = stem.0;
        let blocks = (0..noise.between(0, 5)).map(|_| {
            let mut spatial = spatial(noise);
            let keeps_shape = noise.between(0, 1) == 1;
            if keeps_shape {
                spatial = Spatial {
                    stride_time: 1,
                    stride_freq: 1,
                    pad_time: noise.one_of(&[[1, 1], [2, 0], [0, 2]]),
                    pad_freq: [1, 1],
                };
            } else {
                channels = noise.between(1, 37) as u16;
            }
            Block {
                t: noise.one_of(&[1, 2, 6]),
                c: channels,
                spatial,
            }
        });
        let table = Self {
            blocks: blocks.collect(),
            input: TensorShape {
                width: noise.between(24, 48) as u16,
                channels: noise.one_of(&[1, 1, 2, 3]),
            },
            stem,
            head: noise.one_of(&[None, Some(8), Some(67)]),
            classes: noise.between(1, 12) as u16,
            pool_rows: noise.between(1, 9) as u16,
            as_quantized: false,
        };
        table.padded()
    }

    /// Strides can leave fewer columns than a kernel has: these get padding on both sides.
    fn padded(mut self) -> Self {
        let mut shape = self.input;
        let blocks = self.blocks.iter_mut().map(|block| &mut block.spatial);
        for spatial in iter::once(&mut self.stem.1).chain(blocks) {
            let padding: u8 = spatial.pad_freq.iter().sum();
            if shape.width + u16::from(padding) < 3 {
                spatial.pad_freq = [1, 1];
            }
            shape = through(shape, (shape.channels, *spatial));
        }
        self
    }

    /// A package of this shape with random weights.
    pub fn package(&self, noise: &mut Noise) -> PackageSpec<'static> {
        let mut builder = Builder {
            noise,
            zero_point: 0,
            as_quantized: self.as_quantized,
        };
        let zero_point = builder.noise.one_of(&[0, -128, 127, -5]);
        let input_activation = Activation {
            scale: 1.0 / 64.0,
            zero_point,
            min: -128,
            max: 127,
        };
        builder.zero_point = zero_point;
        let mut shape = self.input;
        let taps = 9 * usize::from(shape.channels);
        let stem = builder.convolution(self.stem.0, taps, Some(self.stem.1), true, 0);
        shape = through(shape, self.stem);
        let blocks = self.blocks.iter().map(|block| {
            let input = shape;
            let wide = input.channels * block.t;
            let expansion = (block.t > 1)
                .then(|| builder.convolution(wide, input.channels.into(), None, true, 0));
            let depthwise = builder.convolution(wide, 9, Some(block.spatial), true, 0);
            shape = through(input, (block.c, block.spatial));
            let [before, after] = block.spatial.pad_time;
            let keeps = block.spatial.stride_time == 1 && before + after == 2 && shape == input;
            let largest = if keeps { 200 } else { 0 };
            let projection = builder.convolution(block.c, wide.into(), None, false, largest);
            InvertedResidualSpec {
                expansion,
                depthwise,
                projection,
                residual: keeps.then(|| {
                    (0..block.c)
                        .map(|_| builder.noise.between(1, largest.into()))
                        .collect()
                }),
            }
        });
        let blocks = blocks.collect();
        let head = self
            .head
            .map(|c| builder.convolution(c, shape.channels.into(), None, true, 0));
        let channels = usize::from(self.head.unwrap_or(shape.channels));
        PackageSpec {
            provenance: Default::default(),
            labels: Vec::new(),
            input: self.input,
            input_activation,
            nominal_rows: 64,
            stem,
            blocks,
            head,
            classifier: builder.classifier(self, channels, shape.width.into()),
            mel: None,
            decision: None,
            golden: None,
        }
    }

    /// The package's bytes, with the arena sizes of this crate.
    pub fn bytes(&self, noise: &mut Noise) -> PackageBytes {
        build(&self.package(noise))
    }
}

/// The benchmark networks, with random weights: `1.0-224` is MobileNetV2 as published,
/// `a` a spectrogram's (width 0.35, 96 rows of 128 bands, 10 classes), `b` the same for images of
/// 96×96×3.
pub fn benchmark_network(name: &str) -> Option<PackageBytes> {
    let (rows, width, channels, multiplier, classes) = match name {
        "1.0-224" => (224, 224, 3, 1.0, 1000),
        "a" => (96, 128, 1, 0.35, 10),
        "b" => (96, 96, 3, 0.35, 10),
        _ => return None,
    };
    let input = TensorShape { width, channels };
    let table = Table {
        pool_rows: rows / 32,
        as_quantized: true,
        ..Table::mobilenet_v2(input, multiplier, classes, false)
    };
    let spec = PackageSpec {
        nominal_rows: rows.into(),
        ..table.package(&mut Noise::new(1))
    };
    Some(build(&spec))
}

/// Builds a package with its own arena sizes.
pub fn build(spec: &PackageSpec<'_>) -> PackageBytes {
    let bytes = spec
        .build(Sizes::default())
        .expect("the parts fit together");
    let arena = crate::stripe_sizes(&Package::parse(&bytes).expect("just built"));
    let sizes = Sizes {
        arena,
        frontend_bytes: 0,
    };
    spec.build(sizes).expect("only the sizes changed")
}

/// Any memory plan of a package: rows kept or not, groups from one channel to all.
pub fn random_plan(package: &Package<'_>, noise: &mut Noise) -> Vec<BlockPlan> {
    let mut group = |channels: u16, splits: bool| match splits {
        true => {
            let most = noise.one_of(&[1, 4, 16, channels]).min(channels);
            noise.between(most.div_ceil(2).into(), most.into()) as u16
        }
        false => channels,
    };
    let mut plan: Vec<BlockPlan> = package
        .blocks()
        .map(|block| BlockPlan {
            kept_rows: 2,
            group: group(block.depthwise.input.channels, block.expansion.is_some()),
        })
        .collect();
    let classifier = package.classifier();
    plan.push(BlockPlan {
        kept_rows: 0,
        group: group(classifier.input.channels, package.head().is_some()),
    });
    for (plan, block) in plan.iter_mut().zip(package.blocks()) {
        if block.expansion.is_some() {
            plan.kept_rows = noise.between(0, 2) as u16;
        }
    }
    plan
}

fn through(input: TensorShape, (channels, spatial): (u16, Spatial)) -> TensorShape {
    let [before, after] = spatial.pad_freq.map(u16::from);
    TensorShape {
        width: (input.width + before + after - 3) / u16::from(spatial.stride_freq) + 1,
        channels,
    }
}

struct Builder<'n> {
    noise: &'n mut Noise,
    /// Of the tensor that the next layer reads.
    zero_point: i8,
    as_quantized: bool,
}

impl Builder<'_> {
    fn convolution(
        &mut self,
        c_out: u16,
        taps: usize,
        spatial: Option<Spatial>,
        activated: bool,
        residual: u16,
    ) -> ConvolutionSpec {
        let depthwise = taps == 9 && spatial.is_some();
        let channels = usize::from(c_out);
        // Now and then every weight at an extreme, for the largest accumulators.
        let extreme = self.noise.between(0, 9) == 0;
        let weights: Vec<i8> = (0..channels * taps)
            .map(|_| match extreme {
                true => self.noise.one_of(&[-127, 127]),
                false => self.noise.between(-127, 127) as i8,
            })
            .collect();
        let sum = |c: usize| -> i32 {
            let of_channel = (0..taps).map(|tap| match depthwise {
                true => weights[tap * channels + c],
                false => weights[c * taps + tap],
            });
            of_channel.map(i32::from).sum()
        };
        let bias = (0..channels)
            .map(|c| self.noise.between(-20_000, 20_000) - i32::from(self.zero_point) * sum(c))
            .collect();
        // 73 is the root mean square of the int8 values; the outputs get about 60.
        let spread = (taps as u64 * 73u64.pow(4)).isqrt() + u64::from(residual) * 73;
        let (multiplier, shift) = self.scales(channels, spread / 60);
        let activation = self.activation(activated);
        ConvolutionSpec {
            c_out,
            spatial,
            weights,
            bias,
            multiplier,
            shift,
            activation,
        }
    }

    fn classifier(&mut self, table: &Table, channels: usize, width: usize) -> ClassifierSpec {
        let classes = usize::from(table.classes);
        let spread = 60 * 73 * ((channels * width) as u64).isqrt();
        let (multiplier, shift) = self.scales(classes, spread / 40);
        let largest =
            i64::from(i32::MAX) / i64::from(table.pool_rows) / (256 * (channels * width) as i64);
        let largest = largest.min(127) as i32;
        ClassifierSpec {
            classes: table.classes,
            pool_rows: table.pool_rows,
            weights: (0..classes * channels)
                .map(|_| self.noise.between(-largest, largest) as i8)
                .collect(),
            bias: (0..classes)
                .map(|_| self.noise.between(-300, 300))
                .collect(),
            multiplier,
            shift,
            activation: Activation {
                scale: 0.1,
                zero_point: self.noise.between(-20, 20) as i8,
                min: -128,
                max: 127,
            },
            softmax_step_q16: 9_000,
        }
    }

    /// Multipliers and shifts that divide by about `divisor`, each channel by another.
    fn scales(&mut self, channels: usize, divisor: u64) -> (Vec<i32>, Vec<u8>) {
        let shift = (divisor.max(1).ilog2() as i32).clamp(1, 31);
        (0..channels)
            .map(|_| {
                let multiplier = match self.noise.between(1 << 30, i32::MAX) {
                    long if self.as_quantized => long & !0xff | 0x80,
                    long => long,
                };
                (
                    multiplier,
                    (shift + self.noise.between(-1, 1)).clamp(1, 31) as u8,
                )
            })
            .unzip()
    }

    fn activation(&mut self, activated: bool) -> Activation {
        let zero_point = self.noise.one_of(&[-128, -128, -100, -3, 0, 40, 127]);
        let max = match activated {
            true => self.noise.between(i32::from(zero_point).max(60), 127) as i8,
            false => 127,
        };
        // At 127 a ReLU would leave a single value.
        let min = if activated && zero_point < 60 {
            zero_point
        } else {
            -128
        };
        self.zero_point = zero_point;
        if self.as_quantized {
            self.zero_point = if activated { -128 } else { zero_point };
            return Activation {
                scale: 0.05,
                zero_point: self.zero_point,
                min: -128,
                max: 127,
            };
        }
        Activation {
            scale: 0.05,
            zero_point,
            min,
            max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_random_network_becomes_narrower_than_a_kernel() {
        for seed in 0..20_000 {
            let table = Table::random(&mut Noise::new(seed));
            let blocks = table.blocks.iter().map(|block| (block.c, block.spatial));
            let end = iter::once(table.stem)
                .chain(blocks)
                .fold(table.input, through);
            assert_ne!(end.width, 0, "{seed}: {table:?}");
        }
    }
}
