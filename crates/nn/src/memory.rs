//! The cost of a network: layers, multiplications, bytes.

use core::fmt;

use sori_package::{BlockPlan, Convolution, Package, Spatial, TensorShape};

use crate::arch::{least_unpacked_len, unpacked_len};
use crate::plan::{delay_rows, fixed_use, history_len};
use crate::split::{BlockShape, SplitUse};

/// What a layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// 3×3 over the input.
    Stem,
    /// 1×1, narrow to wide, of the inverted residual with this number.
    Expansion(usize),
    /// 3×3 within each channel.
    Depthwise(usize),
    /// 1×1, wide to narrow.
    Projection(usize),
    /// 1×1 before the pool.
    Head,
    /// Pool and fully connected layer.
    Classifier,
}

impl LayerKind {
    /// The name of layers of this kind, in any block.
    pub const fn stage(self) -> &'static str {
        match self {
            Self::Stem => "stem",
            Self::Expansion(_) => "expansion",
            Self::Depthwise(_) => "depthwise",
            Self::Projection(_) => "projection",
            Self::Head => "head",
            Self::Classifier => "classifier",
        }
    }

    /// All stages, in the order of a network.
    pub const STAGES: [&'static str; 6] = [
        Self::Stem.stage(),
        Self::Expansion(0).stage(),
        Self::Depthwise(0).stage(),
        Self::Projection(0).stage(),
        Self::Head.stage(),
        Self::Classifier.stage(),
    ];
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expansion(n) | Self::Depthwise(n) | Self::Projection(n) => {
                write!(f, "block {n} {}", self.stage())
            }
            Self::Stem | Self::Head | Self::Classifier => f.write_str(self.stage()),
        }
    }
}

/// One layer of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// What it does.
    pub kind: LayerKind,
    /// Shape of an input row.
    pub input: TensorShape,
    /// Shape of an output row; one position for the classifier.
    pub output: TensorShape,
    /// Stride and padding of a 3×3 kernel.
    pub spatial: Option<Spatial>,
    /// Whether the block's input is added.
    pub residual: bool,
    /// Multiplications for one output row.
    pub macs_per_row: u64,
    /// Weights and biases, as the trained network counts them.
    pub parameters: usize,
    /// Bytes of weights, biases, multipliers, shifts and residual factors.
    pub weight_bytes: usize,
    /// Bytes that the layer keeps between rows.
    pub state_bytes: usize,
}

impl Layer {
    /// Output rows of a clip of `rows` input rows.
    pub fn output_rows(&self, rows: usize) -> usize {
        match self.spatial {
            Some(spatial) => spatial.output_rows(rows as u64) as usize,
            None => rows,
        }
    }

    fn convolution(kind: LayerKind, convolution: &Convolution<'_>) -> Self {
        let channels = usize::from(convolution.output.channels);
        let taps = convolution.kernel.weights.len() / channels;
        Self {
            kind,
            input: convolution.input,
            output: convolution.output,
            spatial: convolution.spatial,
            residual: false,
            macs_per_row: convolution.output.row_len() as u64 * taps as u64,
            parameters: convolution.kernel.weights.len() + channels,
            // int8 weights; i32 bias, i32 multiplier and u8 shift a channel.
            weight_bytes: convolution.kernel.weights.len() + 9 * channels,
            state_bytes: convolution.spatial.map_or(0, |_| history_len(convolution)),
        }
    }
}

/// Shows each layer to `on_layer`, in order.
pub fn for_each_layer(package: &Package<'_>, on_layer: &mut impl FnMut(Layer)) {
    on_layer(Layer::convolution(LayerKind::Stem, &package.stem()));
    for (n, block) in package.blocks().enumerate() {
        if let Some(expansion) = &block.expansion {
            on_layer(Layer::convolution(LayerKind::Expansion(n), expansion));
        }
        on_layer(Layer::convolution(
            LayerKind::Depthwise(n),
            &block.depthwise,
        ));
        let projection = Layer::convolution(LayerKind::Projection(n), &block.projection);
        let factors = block.residual.map_or(0, size_of_val);
        on_layer(Layer {
            residual: block.residual.is_some(),
            weight_bytes: projection.weight_bytes + factors,
            state_bytes: delay_rows(&block) * block.input().row_len(),
            ..projection
        });
    }
    if let Some(head) = &package.head() {
        on_layer(Layer::convolution(LayerKind::Head, head));
    }
    let classifier = package.classifier();
    let channels = usize::from(classifier.input.channels);
    on_layer(Layer {
        kind: LayerKind::Classifier,
        input: classifier.input,
        output: TensorShape {
            width: 1,
            channels: classifier.classes as u16,
        },
        spatial: None,
        residual: false,
        macs_per_row: classifier.classes as u64 * channels as u64,
        parameters: classifier.kernel.weights.len() + classifier.classes,
        weight_bytes: classifier.kernel.weights.len() + 9 * classifier.classes,
        state_bytes: (classifier.pool_rows + 2) * classifier.classes * size_of::<i32>()
            + classifier.classes,
    });
}

/// Output rows of a clip of `rows` rows.
pub fn output_rows(package: &Package<'_>, rows: usize) -> usize {
    let mut rows = rows;
    for_each_layer(package, &mut |layer| rows = layer.output_rows(rows));
    rows
}

/// Multiplications for a clip of `rows` rows.
pub fn macs(package: &Package<'_>, rows: usize) -> u64 {
    let (mut rows, mut macs) = (rows, 0);
    for_each_layer(package, &mut |layer| {
        rows = layer.output_rows(rows);
        macs += rows as u64 * layer.macs_per_row;
    });
    macs
}

/// The cost of one inverted residual, or the head, with a memory plan, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes that it keeps between rows.
    pub state_bytes: usize,
    /// Bytes that it needs while it runs; all parts of a network share the largest.
    pub scratch_bytes: usize,
    /// The work of one output row.
    pub work: Work,
}

/// Counted work of the kernels that read weights in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications of 1×1 convolutions on blocks of pixels that are unpacked together, the
    /// last one padded.
    pub block_macs: u64,
    /// Multiplications of the other 1×1 convolutions, on two pixels at a time.
    pub pair_macs: u64,
    /// Multiplications of depthwise convolutions.
    pub depthwise_macs: u64,
    /// Accumulators converted to activations.
    pub requantized: u64,
    /// Output channels started by a 1×1 kernel, for each group of pixels taken together.
    pub channels: u64,
    /// Channels started by a depthwise kernel.
    pub depthwise_channels: u64,
    /// Bytes rearranged for a kernel.
    pub arranged: u64,
    /// Bytes copied as rows.
    pub copied: u64,
    /// Calls of kernels and of short copies.
    pub calls: u64,
}

/// Pixels that a 1×1 kernel processes together.
const BLOCK: u64 = 4;

impl Work {
    /// A row through a 1×1 convolution, with this much scratch to unpack pixels.
    fn pointwise(input: TensorShape, c_out: u64, scratch: usize) -> Self {
        let c_in = u64::from(input.channels);
        let mut left = u64::from(input.width);
        let block_bytes = unpacked_len(input.channels, BLOCK as u16);
        let room = (scratch / block_bytes) as u64 * BLOCK;
        let mut work = Self {
            calls: 1,
            ..Self::default()
        };
        while left > 0 {
            let some = left.min(room);
            // As the kernel has it: three pixels are a block that is not stored whole.
            let packed = match some % BLOCK {
                3 => some,
                rest => some - rest,
            };
            let (taken, whole) = match packed {
                0 => (left.min(2), 2),
                _ => (packed, packed.next_multiple_of(BLOCK)),
            };
            match packed {
                0 => work.pair_macs += whole * c_in * c_out,
                _ => work.block_macs += whole * c_in * c_out,
            }
            work.arranged += packed * c_in;
            work.requantized += whole * c_out;
            work.channels += c_out;
            left -= taken;
        }
        work
    }

    /// A row through a 3×3 kernel, from rows of the `input`'s shape.
    fn depthwise(input: TensorShape, output: TensorShape) -> Self {
        let (row, channels) = (output.row_len() as u64, u64::from(output.channels));
        Self {
            depthwise_macs: 9 * row,
            requantized: row,
            depthwise_channels: channels,
            arranged: 3 * input.row_len() as u64,
            calls: 1,
            ..Self::default()
        }
    }

    /// A multiple of the work.
    #[must_use]
    pub fn times(self, n: u64) -> Self {
        Self {
            block_macs: n * self.block_macs,
            pair_macs: n * self.pair_macs,
            depthwise_macs: n * self.depthwise_macs,
            requantized: n * self.requantized,
            channels: n * self.channels,
            depthwise_channels: n * self.depthwise_channels,
            arranged: n * self.arranged,
            copied: n * self.copied,
            calls: n * self.calls,
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            block_macs: self.block_macs + other.block_macs,
            pair_macs: self.pair_macs + other.pair_macs,
            depthwise_macs: self.depthwise_macs + other.depthwise_macs,
            requantized: self.requantized + other.requantized,
            channels: self.channels + other.channels,
            depthwise_channels: self.depthwise_channels + other.depthwise_channels,
            arranged: self.arranged + other.arranged,
            copied: self.copied + other.copied,
            calls: self.calls + other.calls,
        }
    }

    /// The approximate number of Cortex-M4 instructions.
    ///
    /// Fitted to the counts of `cargo xtask bench --mcu` for the benchmark networks' layers.
    pub fn instructions(self) -> u64 {
        let sixteenths = 15 * self.block_macs
            + 27 * self.pair_macs
            + 8 * self.depthwise_macs
            + 80 * self.requantized
            + 1312 * self.channels
            + 1680 * self.depthwise_channels
            + 88 * self.arranged
            + 16 * self.copied
            + 1440 * self.calls;
        sixteenths / 16
    }
}

/// The cost of an output row of the stem, whose windows are laid out as the pixels of a 1×1
/// convolution.
pub fn stem_work(stem: &Convolution<'_>) -> Work {
    let channels = stem.output.channels;
    let patch = TensorShape {
        width: stem.output.width,
        channels: (stem.kernel.weights.len() / usize::from(channels)) as u16,
    };
    let scratch = unpacked_len(patch.channels, patch.width);
    let rows_of_patches = Work {
        calls: 3 * u64::from(patch.width),
        ..Work::default()
    };
    Work::pointwise(patch, channels.into(), scratch).plus(rows_of_patches)
}

/// The cost of a block with a plan, on a backend that reads its weights in place.
pub fn block_footprint(shape: &BlockShape, plan: BlockPlan) -> Footprint {
    let uses = SplitUse::new(shape, plan);
    let (stride, kept) = (
        u64::from(shape.spatial.stride_time),
        u64::from(plan.kept_rows),
    );
    let len = |row: TensorShape| row.row_len() as u64;
    // For each window the rows that are not kept; while one is awaited, rows that will be.
    let wide_rows = (3 - kept).max(stride);
    let stored_rows = match shape.expands {
        true => kept.min(3 - stride),
        false => stride,
    };
    let channels = shape.expanded.channels;
    let splits = plan.group < channels;
    let to_project = Work::pointwise(shape.filtered, shape.output.channels.into(), uses.work);
    let mut work = to_project.plus(Work {
        copied: stored_rows * len(shape.expanded) + (3 - kept) * len(shape.input),
        ..Work::default()
    });
    for first in (0..channels).step_by(plan.group.into()) {
        let of_group = |row: TensorShape| TensorShape {
            channels: plan.group.min(channels - first),
            ..row
        };
        let (expanded, filtered) = (of_group(shape.expanded), of_group(shape.filtered));
        let wide_row = match shape.expands {
            true => {
                let scratch = if splits { filtered } else { shape.filtered }.row_len();
                Work::pointwise(shape.input, expanded.channels.into(), scratch)
            }
            false => Work {
                arranged: len(expanded),
                ..Work::default()
            },
        };
        // The group's weights are put together, and its part of each pixel is put into the row.
        let moved = Work {
            calls: if splits {
                9 + u64::from(filtered.width)
            } else {
                0
            },
            ..Work::default()
        };
        work = work
            .plus(wide_row.times(wide_rows))
            .plus(Work::depthwise(expanded, filtered))
            .plus(moved);
    }
    Footprint {
        state_bytes: uses.state(),
        scratch_bytes: uses.scratch(),
        work,
    }
}

/// The cost of head and classifier, with `group` of the head's channels at a time.
pub fn head_footprint(input: TensorShape, channels: u16, classes: usize, group: u16) -> Footprint {
    let width = usize::from(input.width);
    let mut work = pool_work(input.width, channels, classes);
    for first in (0..channels).step_by(group.into()) {
        let part = u64::from(group.min(channels - first));
        // By a plan the head unpacks nothing.
        work = work.plus(Work::pointwise(input, part, 0));
        work.calls += 1;
    }
    Footprint {
        state_bytes: 0,
        scratch_bytes: input.row_len() + width * usize::from(group),
        work,
    }
}

/// The cost of head and classifier without a plan.
pub fn head_work(input: TensorShape, channels: u16, classes: usize) -> Work {
    let scratch = least_unpacked_len(input.channels, input.width);
    let head = Work::pointwise(input, channels.into(), scratch);
    head.plus(pool_work(input.width, channels, classes))
}

fn pool_work(width: u16, channels: u16, classes: usize) -> Work {
    Work {
        arranged: u64::from(channels) * (u64::from(width) + classes as u64),
        calls: 1,
        ..Work::default()
    }
}

/// Bytes of a network that no plan changes, row by row: those kept between rows and for the
/// logits, and the scratch of the stem.
pub fn fixed_bytes(package: &Package<'_>) -> [usize; 2] {
    fixed_use(package)
}

/// Peak bytes of activations if each layer ran over the whole clip before the next, as
/// graph interpreters do: a layer's input and output whole, and a block's input for
/// as long as its residual needs it.
pub fn layer_by_layer_bytes(package: &Package<'_>, rows: usize) -> usize {
    let residuals: &mut dyn Iterator<Item = bool> =
        &mut package.blocks().map(|block| block.residual.is_some());
    let (mut rows, mut peak) = (rows, 0);
    let (mut block, mut held, mut waiting) = (None, 0, 0);
    for_each_layer(package, &mut |layer| {
        let input = rows * layer.input.row_len();
        let number = match layer.kind {
            LayerKind::Expansion(n) | LayerKind::Depthwise(n) | LayerKind::Projection(n) => Some(n),
            _ => None,
        };
        if number != block {
            block = number;
            waiting = match number.and_then(|_| residuals.next()) {
                Some(true) => input,
                _ => 0,
            };
            // The block's first layer reads the tensor that waits.
            held = 0;
        }
        rows = layer.output_rows(rows);
        peak = peak.max(held + input + rows * layer.output.row_len());
        held = waiting;
    });
    peak
}
