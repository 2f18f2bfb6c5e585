//! The memory of a network: what each layer keeps between rows, and the scratch that
//! all share. It is exact, because the executor lays out the arena with it.
//!
//! ```text
//! arena:   accumulators (i32) │ logits │ histories and delays │ scratch
//! scratch: input rows │ expanded tile │ padding row │ depthwise tile │ output rows
//! ```
//!
//! Blocks pass narrow rows from one end of the scratch to the other and back, with
//! the wide tiles in the middle.

use sori_package::{
    BlockPlan, Classifier, Convolution, InvertedResidual, MAX_STRIPE, Package, Spatial, TensorShape,
};

use crate::arch::{least_unpacked_len, unpacked_len};
use crate::caches::Work;
use crate::split::{BlockShape, SplitUse};
use crate::{Backend, Caches, Prepared};

/// The required alignment of an arena, in bytes.
pub const ARENA_ALIGNMENT: usize = align_of::<i32>();

/// Rows that a 3×3 kernel keeps.
pub(crate) const HISTORY: usize = 2;

/// Lengths of an arena's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArenaLayout {
    /// `i32` accumulators of the pooled head.
    pub(crate) accumulators: usize,
    /// Bytes of the logits.
    pub(crate) logits: usize,
    /// Bytes of histories and delays.
    pub(crate) state: usize,
    /// Bytes of scratch.
    pub(crate) scratch: usize,
}

impl ArenaLayout {
    pub(crate) fn new(prepared: &Prepared<'_>, stripe: Stripe<'_>) -> Self {
        let package = prepared.package();
        let stem = package.stem();
        let mut rows = stripe.rows;
        let mut state = history_len(&stem);
        stripe.pass(&mut rows, &stem);
        let patches = prepared.backend().patches_len(&stem);
        let mut scratch = stem_scratch(&stem, rows) + patches;
        for (index, block) in package.blocks().enumerate() {
            match stripe.block_plan(index, &block) {
                Some(plan) => {
                    let use_of = SplitUse::new(&BlockShape::from(&block), plan);
                    state += use_of.state();
                    scratch = scratch.max(use_of.scratch());
                }
                None => {
                    let use_of = BlockUse::new(&block, stripe, stripe.feed(rows, &block));
                    state += use_of.state;
                    scratch = scratch.max(use_of.scratch());
                }
            }
            stripe.pass(&mut rows, &block.depthwise);
        }
        let classifier = package.classifier();
        let head = HeadUse::new(package.head().as_ref(), &classifier, stripe, rows);
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

/// Kept and scratch bytes that no memory plan changes, for a row at a time in place.
pub(crate) fn fixed_use(package: &Package<'_>) -> [usize; 2] {
    let (stem, classifier) = (package.stem(), package.classifier());
    let kept = (classifier.pool_rows + 2) * classifier.classes * size_of::<i32>()
        + classifier.classes
        + history_len(&stem);
    [
        kept,
        stem_scratch(&stem, 1) + Backend::SCALAR.patches_len(&stem),
    ]
}

/// Values of scratch for the stem and a number of output rows.
fn stem_scratch(stem: &Convolution<'_>, rows: usize) -> usize {
    // It reads the caller's rows.
    let padding_row = match spatial(stem).pad_time[1] {
        0 => 0,
        _ => stem.input.row_len(),
    };
    rows * stem.output.row_len() + padding_row
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

/// Values that the block with this number keeps between rows: history, then delay; or what its
/// plan has.
pub(crate) fn state_len(stripe: Stripe<'_>, index: usize, block: &InvertedResidual<'_>) -> usize {
    match stripe.block_plan(index, block) {
        Some(plan) => SplitUse::new(&BlockShape::from(block), plan).state(),
        None => history_len(&block.depthwise) + delay_rows(block) * block.input().row_len(),
    }
}

pub(crate) fn spatial(convolution: &Convolution<'_>) -> Spatial {
    convolution
        .spatial
        .expect("parse refuses a 3×3 kernel without stride and padding")
}

/// One feed of a layer: rows, then rows of its bottom padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Feed {
    pub(crate) rows: usize,
    pub(crate) padding: usize,
}

/// The memory that one inverted residual needs for a feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockUse {
    state: usize,
    /// Input rows that are expanded at a time.
    pub(crate) tile_rows: usize,
    pub(crate) input: usize,
    pub(crate) expanded: usize,
    pub(crate) padding_row: usize,
    /// Both together, free for reuse after the depthwise kernel.
    pub(crate) wide: usize,
    pub(crate) depthwise: usize,
    pub(crate) output: usize,
}

impl BlockUse {
    pub(crate) fn new(block: &InvertedResidual<'_>, stripe: Stripe<'_>, feed: Feed) -> Self {
        let wide_len = block.depthwise.input.row_len();
        let convolutions = [
            block.expansion,
            Some(block.depthwise),
            Some(block.projection),
        ];
        let work = Work {
            row: wide_len + block.depthwise.output.row_len(),
            kept: history_len(&block.depthwise),
            weights: convolutions
                .iter()
                .flatten()
                .map(|c| c.kernel.weights.len())
                .sum(),
        };
        let tile_rows = stripe.tile_rows(wide_len, work, feed.rows);
        let stride = usize::from(block.spatial().stride_time);
        // Without an expansion, the input's rows in planar order.
        let expanded_rows = match block.expansion.is_some() || stripe.in_place {
            true => tile_rows.min(feed.rows),
            false => 0,
        };
        let padding_row = if feed.padding > 0 { wide_len } else { 0 };
        // Either tile is scratch while the other one is made or used.
        let to_expand = match block.expansion {
            Some(expansion) if stripe.in_place && feed.rows > 0 => {
                unpacked_len(expansion.input.channels, expansion.input.width)
            }
            _ => 0,
        };
        let to_project = match stripe.in_place {
            true => {
                let TensorShape { channels, width } = block.projection.input;
                least_unpacked_len(channels, width)
            }
            false => 0,
        };
        // With two rows of history, n rows give at most ⌈n / stride⌉.
        let filtered_rows = (tile_rows.min(feed.rows) + feed.padding).div_ceil(stride);
        let output_rows = (feed.rows + feed.padding).div_ceil(stride);
        Self {
            state: history_len(&block.depthwise) + delay_rows(block) * block.input().row_len(),
            tile_rows,
            input: feed.rows * block.input().row_len(),
            expanded: expanded_rows * wide_len,
            padding_row,
            wide: to_project.max(expanded_rows * wide_len + padding_row),
            depthwise: to_expand.max(filtered_rows * block.depthwise.output.row_len()),
            output: output_rows * block.projection.output.row_len(),
        }
    }

    pub(crate) fn scratch(self) -> usize {
        self.input + self.wide + self.depthwise + self.output
    }
}

/// The memory that head and classifier need for up to `rows` input rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadUse {
    pub(crate) tile_rows: usize,
    /// Output channels of the head that are computed together.
    pub(crate) group: usize,
    pub(crate) input: usize,
    pub(crate) expanded: usize,
    pub(crate) unpacked: usize,
}

impl HeadUse {
    pub(crate) fn new(
        head: Option<&Convolution<'_>>,
        classifier: &Classifier<'_>,
        stripe: Stripe<'_>,
        rows: usize,
    ) -> Self {
        let wide = classifier.input.row_len();
        let work = Work {
            row: wide,
            kept: usize::from(classifier.input.channels) * size_of::<i32>(),
            weights: head.map_or(0, |head| head.kernel.weights.len()),
        };
        let tile_rows = stripe.tile_rows(wide, work, rows);
        let group = match stripe.head_group() {
            Some(group) => group.into(),
            None => usize::from(classifier.input.channels),
        };
        Self {
            tile_rows,
            group,
            input: rows * head.map_or(wide, |head| head.input.row_len()),
            expanded: head.map_or(0, |_| {
                tile_rows * usize::from(classifier.input.width) * group
            }),
            unpacked: head.map_or(0, |head| match stripe.in_place && stripe.plan.is_none() {
                true => least_unpacked_len(head.input.channels, head.input.width),
                false => 0,
            }),
        }
    }

    pub(crate) fn scratch(self) -> usize {
        self.input + self.expanded + self.unpacked
    }
}

/// Arena bytes for stripes of 1, 2, 4, … 128 rows on [`Backend::SCALAR`](crate::Backend::SCALAR),
/// as a package's prologue lists them.
pub fn stripe_sizes(package: &Package<'_>) -> [u32; 8] {
    let prepared = package.into();
    core::array::from_fn(|n| {
        let bytes = ArenaLayout::new(&prepared, Stripe::new(&prepared, 1 << n)).bytes();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    })
}

/// How rows go through the network together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stripe<'p> {
    pub(crate) rows: usize,
    /// The caches that a block's expanded rows should stay in, if any.
    caches: Option<Caches>,
    /// Applies row by row: more rows imply enough memory.
    plan: Option<&'p [BlockPlan]>,
    /// Whether weights can be used in groups of channels.
    in_place: bool,
}

impl<'p> Stripe<'p> {
    pub(crate) fn new(prepared: &Prepared<'p>, rows: usize) -> Self {
        let rows = rows.clamp(1, LARGEST_STRIPE);
        Self {
            rows,
            // An arena's size on the scalar backend is written in the package, for every machine.
            caches: Some(prepared.caches()).filter(|_| !prepared.backend().runs_in_place()),
            plan: prepared.plan().filter(|_| rows == 1),
            in_place: prepared.backend().runs_in_place(),
        }
    }

    /// The memory plan of the block with this number, if there is one.
    pub(crate) fn block_plan(
        self,
        index: usize,
        block: &InvertedResidual<'_>,
    ) -> Option<BlockPlan> {
        let plan = *self.plan?.get(index)?;
        match self.in_place {
            true => Some(plan),
            // Weights are packed for all channels together.
            false => Some(BlockPlan {
                group: block.depthwise.input.channels,
                ..plan
            }),
        }
    }

    /// Output channels of the head that are computed together, if there is a plan.
    pub(crate) fn head_group(self) -> Option<u16> {
        let plan = self.plan?.last()?;
        self.in_place.then_some(plan.group)
    }

    /// Whether each layer gets its bottom padding together with its last rows. Row by row, the
    /// padding follows them, so that at most one row is ever in flight.
    pub(crate) fn ends_at_once(self) -> bool {
        self.rows > 1
    }

    /// The largest feed of a block.
    fn feed(self, rows: usize, block: &InvertedResidual<'_>) -> Feed {
        let padding = match self.ends_at_once() {
            true => block.spatial().pad_time[1].into(),
            false => 0,
        };
        Feed { rows, padding }
    }

    /// Through a 3×3 kernel.
    fn pass(self, rows: &mut usize, convolution: &Convolution<'_>) {
        let spatial = spatial(convolution);
        if self.ends_at_once() {
            *rows += usize::from(spatial.pad_time[1]);
        }
        *rows = rows.div_ceil(spatial.stride_time.into());
    }

    fn tile_rows(self, row_len: usize, work: Work, rows: usize) -> usize {
        match self.caches {
            Some(caches) => caches.tile_rows(work, rows),
            None => (UNCACHED_TILE / row_len.max(1)).clamp(1, rows.max(1)),
        }
    }
}

/// Limit for a block's expanded rows in bytes without caches, unless a single row is larger:
/// there, they only cost arena.
const UNCACHED_TILE: usize = 32 * 1024;

/// Parsing proved that sizes up to [`MAX_STRIPE`] rows fit 32 bits; 64 bits have room for the
/// rows of any image.
const LARGEST_STRIPE: usize = if usize::BITS < 64 {
    MAX_STRIPE
} else {
    1 << 16
};
