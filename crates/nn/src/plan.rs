//! The memory of a network: what each layer keeps between rows, and the scratch that
//! all of them share. Exact, because the executor lays the arena out by it.
//!
//! ```text
//! arena:   accumulators (i32) │ logits │ histories and delays │ scratch
//! scratch: input rows │ expanded tile │ depthwise tile │ output rows
//! ```
//!
//! Blocks pass narrow rows from one end of the scratch to the other and back, with
//! the wide tiles in the middle.

use sori_package::{Classifier, Convolution, InvertedResidual, MAX_STRIPE, Package, Spatial};

/// What an arena's address must be a multiple of, bytes.
pub const ARENA_ALIGNMENT: usize = align_of::<i32>();

/// A tile of expanded rows stays within this, and so within a first- or second-level
/// cache, unless one row is larger.
const TILE_BYTES: usize = 32 * 1024;

/// Rows that a 3×3 kernel keeps.
pub(crate) const HISTORY: usize = 2;

/// Lengths of an arena's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `i32` accumulators of the pooled head.
    pub(crate) accumulators: usize,
    /// Bytes of the logits.
    pub(crate) logits: usize,
    /// Bytes of histories and delays.
    pub(crate) state: usize,
    /// Bytes of scratch.
    pub(crate) scratch: usize,
}

impl Plan {
    pub(crate) fn new(package: &Package<'_>, stripe: usize) -> Self {
        // Parsing proved that sizes up to this stripe fit 32 bits.
        debug_assert!((1..=MAX_STRIPE).contains(&stripe));
        let stem = package.stem();
        let mut rows = stripe;
        let mut state = history_len(&stem);
        pass(&mut rows, &stem);
        // The stem reads the caller's rows; only its bottom padding needs a row here.
        let padding = match spatial(&stem).pad_time[1] {
            0 => 0,
            _ => stem.input.row_len(),
        };
        let mut scratch = rows * stem.output.row_len() + padding;
        for block in package.blocks() {
            let use_of = BlockUse::new(&block, rows);
            state += use_of.state;
            scratch = scratch.max(use_of.scratch());
            pass(&mut rows, &block.depthwise);
        }
        let classifier = package.classifier();
        let head = HeadUse::new(package.head().as_ref(), &classifier, rows);
        Self {
            accumulators: (classifier.pool_rows + 2) * classifier.classes,
            logits: classifier.classes,
            state,
            scratch: scratch.max(head.scratch()),
        }
    }

    pub(crate) fn bytes(self) -> usize {
        self.accumulators * size_of::<i32>() + self.logits + self.state + self.scratch
    }
}

/// Through a 3×3 kernel: with two rows of history, n rows give at most ⌈n / stride⌉.
fn pass(rows: &mut usize, convolution: &Convolution<'_>) {
    *rows = rows.div_ceil(spatial(convolution).stride_time.into());
}

/// Values of a 3×3 kernel's history.
pub(crate) fn history_len(convolution: &Convolution<'_>) -> usize {
    HISTORY * convolution.input.row_len()
}

/// Rows of the block's input that wait for their output row.
pub(crate) fn delay_rows(block: &InvertedResidual<'_>) -> usize {
    match block.residual {
        Some(_) => 2 - usize::from(block.spatial().pad_time[0]),
        None => 0,
    }
}

pub(crate) fn spatial(convolution: &Convolution<'_>) -> Spatial {
    convolution
        .spatial
        .expect("parse refuses a 3×3 kernel without stride and padding")
}

/// What one inverted residual needs for up to `rows` input rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockUse {
    pub(crate) state: usize,
    /// Input rows that are expanded at a time.
    pub(crate) tile_rows: usize,
    pub(crate) input: usize,
    pub(crate) expanded: usize,
    pub(crate) depthwise: usize,
    pub(crate) output: usize,
}

impl BlockUse {
    pub(crate) fn new(block: &InvertedResidual<'_>, rows: usize) -> Self {
        let wide = block.depthwise.input.row_len();
        let tile_rows = tile_rows(wide, rows);
        let stride = usize::from(block.spatial().stride_time);
        Self {
            state: history_len(&block.depthwise) + delay_rows(block) * block.input().row_len(),
            tile_rows,
            input: rows * block.input().row_len(),
            expanded: block.expansion.map_or(0, |_| tile_rows * wide),
            depthwise: tile_rows.div_ceil(stride) * block.depthwise.output.row_len(),
            output: rows.div_ceil(stride) * block.projection.output.row_len(),
        }
    }

    pub(crate) fn scratch(self) -> usize {
        self.input + self.expanded + self.depthwise + self.output
    }
}

/// What the head and the classifier need for up to `rows` input rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadUse {
    pub(crate) tile_rows: usize,
    pub(crate) input: usize,
    pub(crate) expanded: usize,
}

impl HeadUse {
    pub(crate) fn new(
        head: Option<&Convolution<'_>>,
        classifier: &Classifier<'_>,
        rows: usize,
    ) -> Self {
        let wide = classifier.input.row_len();
        let tile_rows = tile_rows(wide, rows);
        Self {
            tile_rows,
            input: rows * head.map_or(wide, |head| head.input.row_len()),
            expanded: head.map_or(0, |_| tile_rows * wide),
        }
    }

    pub(crate) fn scratch(self) -> usize {
        self.input + self.expanded
    }
}

fn tile_rows(row_len: usize, rows: usize) -> usize {
    (TILE_BYTES / row_len.max(1)).clamp(1, rows.max(1))
}

/// Arena bytes for stripes of 1, 2, 4, … 128 rows, as a package's prologue lists them.
pub fn stripe_sizes(package: &Package<'_>) -> [u32; 8] {
    core::array::from_fn(|n| {
        let bytes = Plan::new(package, 1 << n).bytes();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    })
}
