//! Runs a block row by row with a memory plan: of the last two expanded rows that the 3×3 kernel
//! needs, some are kept and the others recomputed from their narrow input rows, and the expanded
//! channels are processed in groups.
//!
//! A block is a sum over its expanded channels, and each channel's depthwise sees that channel
//! alone; so any split gives the same bits (arXiv:1801.04381, §5.1). Here the groups meet in the
//! depthwise's output row, which is narrow in time: what is split is the three rows before it.
//!
//! ```text
//! state:   kept expanded rows, [group][row][width][channels] │ narrow rows
//! scratch: input row │ expanded rows of a group │ its depthwise weights │ its filtered row │
//!          filtered row │ output row
//! ```

use sori_package::{BlockPlan, Convolution, InvertedResidual, Kernel, Spatial, TensorShape};

use crate::Backend;
use crate::arch::{Region, transpose};
use crate::kernels::pointwise::Residual;
use crate::memory::LayerKind;
use crate::plan::HISTORY;
use crate::runtime::Lent;

/// The shape of an inverted residual, which determines its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// A row of the block's input.
    pub input: TensorShape,
    /// A row of the expanded tensor: the input's, if there is no expansion.
    pub expanded: TensorShape,
    /// A row of the depthwise's output.
    pub filtered: TensorShape,
    /// A row of the block's output.
    pub output: TensorShape,
    /// Stride and padding.
    pub spatial: Spatial,
    /// Whether there is an expansion.
    pub expands: bool,
    /// Whether the input is added to the output.
    pub residual: bool,
}

impl From<&InvertedResidual<'_>> for BlockShape {
    fn from(block: &InvertedResidual<'_>) -> Self {
        Self {
            input: block.input(),
            expanded: block.depthwise.input,
            filtered: block.depthwise.output,
            output: block.projection.output,
            spatial: block.spatial(),
            expands: block.expansion.is_some(),
            residual: block.residual.is_some(),
        }
    }
}

impl BlockShape {
    /// The fastest plan for a block: nothing is computed twice.
    pub fn whole(&self) -> BlockPlan {
        BlockPlan {
            kept_rows: HISTORY as u16,
            group: self.expanded.channels,
        }
    }
}

/// The memory that a block needs with a plan, in values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitUse {
    /// Expanded rows that are kept: those of the history before this index.
    kept: usize,
    /// The first row of the history whose narrow row is kept, to be expanded again or as the input
    /// that a residual needs later.
    first_narrow: usize,
    group: usize,
    kept_wide: usize,
    kept_narrow: usize,
    input: usize,
    expanded: usize,
    weights: usize,
    group_filtered: usize,
    /// Those three together.
    pub(crate) work: usize,
    filtered: usize,
    output: usize,
}

impl SplitUse {
    pub(crate) fn new(shape: &BlockShape, plan: BlockPlan) -> Self {
        let (kept, group) = (usize::from(plan.kept_rows), usize::from(plan.group));
        let width = usize::from(shape.expanded.width);
        let splits = group < shape.expanded.channels.into();
        let first_narrow = match shape.residual {
            true => kept.min(shape.spatial.pad_time[0].into()),
            false => kept,
        };
        // Without an expansion the newest row is one in planar order.
        let expanded = match shape.expands {
            true => (HISTORY + 1 - kept) * width * group,
            false => shape.expanded.row_len(),
        };
        let weights = if splits { 9 * group } else { 0 };
        let group_filtered = match splits {
            true => usize::from(shape.filtered.width) * group,
            false => 0,
        };
        let work = expanded + weights + group_filtered;
        Self {
            kept,
            first_narrow,
            group,
            kept_wide: kept * shape.expanded.row_len(),
            kept_narrow: (HISTORY - first_narrow) * shape.input.row_len(),
            input: shape.input.row_len(),
            expanded,
            weights,
            group_filtered,
            work,
            filtered: shape.filtered.row_len(),
            output: shape.output.row_len(),
        }
    }

    /// Values that the block keeps between rows.
    pub(crate) fn state(&self) -> usize {
        self.kept_wide + self.kept_narrow
    }

    pub(crate) fn scratch(&self) -> usize {
        self.input + self.work + self.filtered + self.output
    }
}

/// The rows that a 3×3 kernel has before the next one arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// How many, at most two.
    pub(crate) rows: u8,
    /// Bit n: row n is padding. Only used if rows are recomputed.
    padding: u8,
    /// Which of two kept rows comes first in memory: 0, or 1 if they are swapped.
    turn: u8,
}

impl History {
    /// Only rows of top padding.
    pub(crate) fn of_padding(rows: usize) -> Self {
        Self {
            rows: rows as u8,
            padding: (1 << rows) - 1,
            turn: 0,
        }
    }

    /// Whether the next row completes a window.
    pub(crate) fn completes(self) -> bool {
        usize::from(self.rows) == HISTORY
    }

    fn is_padding(self, row: usize) -> bool {
        self.padding >> row & 1 == 1
    }

    /// Where a kept row of the history lies.
    fn place(self, row: usize, kept: usize) -> usize {
        (row + usize::from(self.turn)) % kept
    }

    /// The history with one more row kept.
    fn and(self, padding: bool) -> Self {
        Self {
            rows: self.rows + 1,
            padding: self.padding | u8::from(padding) << self.rows,
            ..self
        }
    }

    /// The history after the window of both rows and one more.
    fn after(self, padding: bool, stride: usize, kept: usize) -> Self {
        let window = self.padding | u8::from(padding) << HISTORY;
        Self {
            rows: (HISTORY + 1 - stride) as u8,
            padding: window >> stride,
            // The younger row becomes the older one where it lies.
            turn: match stride < kept {
                true => self.turn ^ 1,
                false => self.turn,
            },
        }
    }
}

/// One block and its input.
pub(crate) struct Split<'n, 'p> {
    pub(crate) lent: Lent<'n>,
    pub(crate) backend: Backend,
    pub(crate) index: usize,
    pub(crate) block: &'n InvertedResidual<'p>,
    pub(crate) uses: SplitUse,
    pub(crate) history: &'n mut History,
    pub(crate) state: &'n mut [i8],
    /// The new row; `None` for a row of padding.
    pub(crate) new: Option<&'n [i8]>,
    /// Of expansion, depthwise and projection.
    pub(crate) regions: [Region<'p>; 3],
}

impl Split<'_, '_> {
    /// Takes the row, or the padding; if it completes a window, `output` becomes the block's row.
    pub(crate) fn run(mut self, scratch: &mut [i8], output: &mut [i8]) {
        match self.history.completes() {
            true => self.window(scratch, output),
            false => self.store(scratch),
        }
    }

    /// Stores the new row until a window is complete.
    fn store(&mut self, scratch: &mut [i8]) {
        let row = usize::from(self.history.rows);
        if row < self.uses.kept {
            let place = self.history.place(row, self.uses.kept);
            let TensorShape { width, channels } = self.block.depthwise.input;
            let width = usize::from(width);
            for group in Group::all(channels, self.uses.group) {
                let start = (self.uses.kept * group.first + place * group.channels) * width;
                let end = start + width * group.channels;
                let expand = Expand::of(self);
                expand.row(group, self.new, scratch, &mut self.state[start..end]);
            }
        }
        if let (Some(slot), Some(new)) = (row.checked_sub(self.uses.first_narrow), self.new) {
            self.state[self.uses.kept_wide + slot * new.len()..][..new.len()].copy_from_slice(new);
        }
        *self.history = self.history.and(self.new.is_none());
    }

    fn window(&mut self, scratch: &mut [i8], output: &mut [i8]) {
        let (block, uses, history, new) = (self.block, self.uses, *self.history, self.new);
        let stride = usize::from(block.spatial().stride_time);
        let (width, narrow_len) = (
            usize::from(block.depthwise.input.width),
            block.input().row_len(),
        );
        let expand = Expand::of(self);
        let (wide, narrow) = self.state.split_at_mut(uses.kept_wide);
        let narrow_row = |row: usize| match row {
            HISTORY => new,
            _ if history.is_padding(row) => None,
            row => Some(&narrow[(row - uses.first_narrow) * narrow_len..][..narrow_len]),
        };
        let (work, rest) = scratch.split_at_mut(uses.work);
        let filtered = &mut rest[..uses.filtered];
        let (expanded, rest) = work.split_at_mut(uses.expanded);
        let (weights, rest) = rest.split_at_mut(uses.weights);
        let group_filtered = &mut rest[..uses.group_filtered];

        for group in Group::all(block.depthwise.input.channels, uses.group) {
            let row_len = width * group.channels;
            let wide = &mut wide[uses.kept * width * group.first..][..uses.kept * row_len];
            let computed = match (&block.expansion, new) {
                (None, Some(new)) if !self.backend.is_planar() => new,
                _ => {
                    let rows = expanded.chunks_exact_mut(row_len);
                    for (row, expanded) in (uses.kept..=HISTORY).zip(rows) {
                        // What the depthwise kernel will write to is free.
                        let scratch = match group.is_whole() {
                            true => &mut *filtered,
                            false => &mut *group_filtered,
                        };
                        expand.row(group, narrow_row(row), scratch, expanded);
                    }
                    &*expanded
                }
            };
            let computed = |row: usize| &computed[(row - uses.kept) * row_len..][..row_len];
            let rows = [0, 1, 2].map(|row| match row < uses.kept {
                true => &wide[history.place(row, uses.kept) * row_len..][..row_len],
                false => computed(row),
            });
            self.lent.enter(LayerKind::Depthwise(self.index));
            match group.is_whole() {
                true => {
                    self.backend
                        .depthwise(self.regions[1], &block.depthwise, &|_| rows, filtered)
                }
                false => {
                    let depthwise = group.depthwise(&block.depthwise, weights);
                    let output = &mut group_filtered[..depthwise.output.row_len()];
                    let region = self.regions[1].of_group();
                    self.backend
                        .depthwise(region, &depthwise, &|_| rows, output);
                    group.scatter(output, filtered);
                }
            }
            let after = history.after(false, stride, uses.kept);
            for row in 0..uses.kept.min(HISTORY + 1 - stride) {
                if row + stride >= uses.kept {
                    let place = after.place(row, uses.kept) * row_len;
                    wide[place..][..row_len].copy_from_slice(computed(row + stride));
                }
            }
        }

        self.lent.enter(LayerKind::Projection(self.index));
        let residual = block.residual.and_then(|factor| {
            Some(Residual {
                input: narrow_row(block.spatial().pad_time[0].into())?,
                zero_point: block.input_zero_point(),
                factor,
            })
        });
        self.backend.pointwise(
            self.regions[2],
            &block.projection,
            residual,
            filtered,
            work,
            output,
        );

        for row in uses.first_narrow..HISTORY + 1 - stride {
            let place = (row - uses.first_narrow) * narrow_len;
            if row + stride < HISTORY {
                let from = place + stride * narrow_len;
                narrow.copy_within(from..from + narrow_len, place);
            } else if let Some(new) = new {
                narrow[place..][..narrow_len].copy_from_slice(new);
            }
        }
        *self.history = history.after(new.is_none(), stride, uses.kept);
    }
}

/// Computes expanded rows.
struct Expand<'n, 'p> {
    lent: Lent<'n>,
    backend: Backend,
    index: usize,
    block: &'n InvertedResidual<'p>,
    region: Region<'p>,
}

impl<'n, 'p> Expand<'n, 'p> {
    fn of(split: &Split<'n, 'p>) -> Self {
        Self {
            lent: split.lent,
            backend: split.backend,
            index: split.index,
            block: split.block,
            region: split.regions[0],
        }
    }

    /// The group's channels of a row, or of padding if there is no narrow row.
    fn row(&self, group: Group, narrow: Option<&[i8]>, scratch: &mut [i8], expanded: &mut [i8]) {
        let (backend, block) = (self.backend, self.block);
        let Some(narrow) = narrow else {
            expanded.fill(backend.encode(block.depthwise.input_zero_point));
            return;
        };
        let Some(expansion) = &block.expansion else {
            match backend.is_planar() {
                true => transpose(block.depthwise.input, narrow, expanded),
                false => expanded.copy_from_slice(narrow),
            }
            return;
        };
        self.lent.enter(LayerKind::Expansion(self.index));
        let (region, expansion) = match group.is_whole() {
            true => (self.region, expansion),
            false => (self.region.of_group(), &group.pointwise(expansion)),
        };
        match backend.is_planar() {
            true => backend.expand(region, expansion, narrow, scratch, expanded),
            false => backend.pointwise(region, expansion, None, narrow, &mut [], expanded),
        }
    }
}

/// Consecutive output channels of a convolution, as a separate convolution in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) first: usize,
    pub(crate) channels: usize,
    /// All channels.
    of: usize,
}

impl Group {
    /// All `channels`, `size` at a time.
    pub(crate) fn all(channels: u16, size: usize) -> impl Iterator<Item = Self> {
        let channels = usize::from(channels);
        (0..channels).step_by(size).map(move |first| Self {
            first,
            channels: size.min(channels - first),
            of: channels,
        })
    }

    fn is_whole(self) -> bool {
        self.channels == self.of
    }

    /// These channels' part of a table with `per_channel` values each.
    fn part<T>(self, table: &[T], per_channel: usize) -> &[T] {
        &table[self.first * per_channel..][..self.channels * per_channel]
    }

    fn convolution<'a>(self, whole: &Convolution<'a>, weights: &'a [i8]) -> Convolution<'a> {
        let kernel = whole.kernel;
        Convolution {
            output: TensorShape {
                channels: self.channels as u16,
                ..whole.output
            },
            kernel: Kernel {
                weights,
                bias: self.part(kernel.bias, 1),
                multiplier: self.part(kernel.multiplier, 1),
                shift: self.part(kernel.shift, 1),
            },
            ..*whole
        }
    }

    /// Of a pointwise convolution.
    pub(crate) fn pointwise<'a>(self, whole: &Convolution<'a>) -> Convolution<'a> {
        let weights = self.part(whole.kernel.weights, whole.input.channels.into());
        self.convolution(whole, weights)
    }

    /// Of a depthwise convolution, whose weights are gathered in `weights`.
    fn depthwise<'a>(self, whole: &Convolution<'a>, weights: &'a mut [i8]) -> Convolution<'a> {
        let weights = &mut weights[..9 * self.channels];
        let taps = whole.kernel.weights.chunks_exact(self.of);
        for (to, tap) in weights.chunks_exact_mut(self.channels).zip(taps) {
            to.copy_from_slice(self.part(tap, 1));
        }
        let group = self.convolution(whole, weights);
        Convolution {
            input: TensorShape {
                channels: self.channels as u16,
                ..whole.input
            },
            ..group
        }
    }

    /// Copies these channels of a row into the row of all channels.
    fn scatter(self, group: &[i8], row: &mut [i8]) {
        let pixels = row.chunks_exact_mut(self.of);
        for (pixel, values) in pixels.zip(group.chunks_exact(self.channels)) {
            pixel[self.first..][..self.channels].copy_from_slice(values);
        }
    }
}
