//! What a network costs, for people: layers, multiplications, bytes.

use core::fmt;

use sori_package::{BlockPlan, Convolution, Package, Spatial, TensorShape};

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
    /// What layers of the kind are called, in whichever block they are.
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

/// What one inverted residual, or the head, takes by a memory plan for a row at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes that it keeps between rows.
    pub state_bytes: usize,
    /// Bytes that it needs while it runs: all of a network share the largest.
    pub scratch_bytes: usize,
    /// What one output row costs.
    pub work: Work,
}

/// Counted work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications of 1×1 convolutions.
    pub pointwise_macs: u64,
    /// Multiplications of depthwise convolutions.
    pub depthwise_macs: u64,
    /// Accumulators that become activations.
    pub requantized: u64,
    /// Bytes that are copied: rows kept, groups put together.
    pub copied: u64,
    /// Calls of a kernel.
    pub calls: u64,
}

impl Work {
    /// Twice, three times … as much.
    #[must_use]
    pub fn times(self, n: u64) -> Self {
        Self {
            pointwise_macs: n * self.pointwise_macs,
            depthwise_macs: n * self.depthwise_macs,
            requantized: n * self.requantized,
            copied: n * self.copied,
            calls: n * self.calls,
        }
    }

    /// Both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            pointwise_macs: self.pointwise_macs + other.pointwise_macs,
            depthwise_macs: self.depthwise_macs + other.depthwise_macs,
            requantized: self.requantized + other.requantized,
            copied: self.copied + other.copied,
            calls: self.calls + other.calls,
        }
    }

    /// About so many instructions of a Cortex-M4.
    pub fn instructions(self) -> u64 {
        2 * self.pointwise_macs
            + 3 * self.depthwise_macs
            + 12 * self.requantized
            + self.copied
            + 150 * self.calls
    }
}

/// What a block takes by a plan, on a backend that reads its weights in place.
pub fn block_footprint(shape: &BlockShape, plan: BlockPlan) -> Footprint {
    let uses = SplitUse::new(shape, plan);
    let (stride, kept) = (
        u64::from(shape.spatial.stride_time),
        u64::from(plan.kept_rows),
    );
    let groups = u64::from(shape.expanded.channels.div_ceil(plan.group));
    let len = |row: TensorShape| row.row_len() as u64;
    let channels = |row: TensorShape| u64::from(row.channels);
    // For each window the rows that are not kept; while one is awaited, rows that will be.
    let expanded_rows = match shape.expands {
        true => (3 - kept).max(stride),
        false => 0,
    };
    let stored_rows = match shape.expands {
        true => kept.min(3 - stride),
        false => stride,
    };
    let split = u64::from(groups > 1);
    Footprint {
        state_bytes: uses.state(),
        scratch_bytes: uses.scratch(),
        work: Work {
            pointwise_macs: expanded_rows * len(shape.expanded) * channels(shape.input)
                + len(shape.output) * channels(shape.filtered),
            depthwise_macs: 9 * len(shape.filtered),
            requantized: expanded_rows * len(shape.expanded)
                + len(shape.filtered)
                + len(shape.output),
            copied: stored_rows * len(shape.expanded)
                + (3 - kept) * len(shape.input)
                + split * (len(shape.filtered) + 9 * channels(shape.expanded)),
            calls: groups * (expanded_rows + 1) + 1,
        },
    }
}

/// What head and classifier take, `group` of the head's channels at a time.
pub fn head_footprint(input: TensorShape, channels: u16, classes: usize, group: u16) -> Footprint {
    let (width, channels, classes) = (
        usize::from(input.width),
        usize::from(channels),
        classes as u64,
    );
    let row = (width * channels) as u64;
    Footprint {
        state_bytes: 0,
        scratch_bytes: input.row_len() + width * usize::from(group),
        work: Work {
            pointwise_macs: row * u64::from(input.channels) + classes * channels as u64,
            depthwise_macs: 0,
            requantized: row,
            copied: 0,
            calls: 2 * (channels as u64).div_ceil(group.into()),
        },
    }
}

/// Bytes of a network that no plan changes, for a row at a time: what is kept between rows and for
/// the logits, and the scratch of the stem.
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
