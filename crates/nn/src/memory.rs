//! What a network costs, for people: layers, multiplications, bytes.

use core::fmt;

use sori_package::{Convolution, Package, Spatial, TensorShape};

use crate::plan::{delay_rows, history_len};

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
