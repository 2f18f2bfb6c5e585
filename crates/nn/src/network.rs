use sori_package::{Classifier, Convolution, InvertedResidual, MAX_BLOCKS, MAX_STRIPE, Package};

use crate::Error;
use crate::kernels::classifier::{logits, row_totals};
use crate::kernels::depthwise::depthwise;
use crate::kernels::pointwise::{Residual, pointwise};
use crate::kernels::stem::stem;
use crate::plan::{BlockUse, HeadUse, Plan, delay_rows, history_len, spatial};
use crate::window::{Window, windows};

/// A network on its stream.
///
/// Rows go in by [`push`](Self::push), logits come out with every output row, and
/// [`flush`](Self::flush) ends a clip with each layer's bottom padding. Any cutting of
/// the rows, and any stripe, gives the same bits.
///
/// After [`new`](Self::new) nothing can fail.
#[derive(Debug)]
pub struct Network<'p, 'a> {
    package: Package<'p>,
    stripe: usize,
    classifier: Classifier<'p>,
    /// Valid rows in the stem's history and in each block's.
    have: heapless::Vec<usize, { MAX_BLOCKS + 1 }>,
    state: &'a mut [i8],
    scratch: &'a mut [i8],
    pool: Pool<'a>,
    flushed: bool,
}

/// The running mean over the last K output rows, as exact integer totals.
#[derive(Debug)]
struct Pool<'a> {
    /// `[pool_rows][classes]`.
    ring: &'a mut [i32],
    /// `[classes]`.
    totals: &'a mut [i32],
    /// What the newest row adds, `[classes]`.
    newest: &'a mut [i32],
    logits: &'a mut [i8],
    /// Rows so far, at most K.
    rows: usize,
    next: usize,
}

impl Pool<'_> {
    fn push(&mut self, classifier: &Classifier<'_>, row: &[i8]) {
        row_totals(classifier, row, self.newest);
        let classes = classifier.classes;
        let oldest = &mut self.ring[self.next * classes..][..classes];
        for ((total, oldest), &newest) in self.totals.iter_mut().zip(oldest).zip(&*self.newest) {
            // Off before on: parsing proved that K rows fit, not K + 1.
            *total = *total - *oldest + newest;
            *oldest = newest;
        }
        self.next = (self.next + 1) % classifier.pool_rows;
        self.rows = (self.rows + 1).min(classifier.pool_rows);
        logits(classifier, self.totals, self.rows, self.logits);
    }
}

/// Which end of the scratch holds a stage's input rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Low,
    High,
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }

    /// The first `near` bytes seen from this end, what lies between, the last `far`.
    fn split(self, scratch: &mut [i8], near: usize, far: usize) -> [&mut [i8]; 3] {
        match self {
            Self::Low => {
                let (near, rest) = scratch.split_at_mut(near);
                let (middle, far) = rest.split_at_mut(rest.len() - far);
                [near, middle, far]
            }
            Self::High => {
                let (rest, near) = scratch.split_at_mut(scratch.len() - near);
                let (far, middle) = rest.split_at_mut(far);
                [near, middle, far]
            }
        }
    }
}

impl<'p, 'a> Network<'p, 'a> {
    /// Bytes of arena for stripes of up to `stripe` rows: exact.
    ///
    /// A stripe of 1 needs the least memory; a larger one reads the weights less often, which
    /// pays up to [`MAX_STRIPE`] rows: more count as that.
    pub fn arena_bytes(package: &Package<'_>, stripe: usize) -> usize {
        Plan::new(package, stripe.clamp(1, MAX_STRIPE)).bytes()
    }

    /// A network at the start of a stream.
    ///
    /// # Errors
    /// [`Error::ArenaTooSmall`], [`Error::ArenaMisaligned`], [`Error::StripeZero`].
    pub fn new(package: &Package<'p>, arena: &'a mut [u8], stripe: usize) -> Result<Self, Error> {
        if stripe == 0 {
            return Err(Error::StripeZero);
        }
        let stripe = stripe.min(MAX_STRIPE);
        let plan = Plan::new(package, stripe);
        let (needed, found) = (plan.bytes(), arena.len());
        let Some(arena) = arena.get_mut(..needed) else {
            return Err(Error::ArenaTooSmall { needed, found });
        };
        let (accumulators, rest) = arena.split_at_mut(plan.accumulators * size_of::<i32>());
        let accumulators =
            bytemuck::try_cast_slice_mut(accumulators).map_err(|_| Error::ArenaMisaligned {
                needed: crate::ARENA_ALIGNMENT,
            })?;
        let (logits, rest) = bytemuck::cast_slice_mut(rest).split_at_mut(plan.logits);
        let (state, scratch) = rest.split_at_mut(plan.state);
        let classifier = package.classifier();
        let (totals, rest) = accumulators.split_at_mut(classifier.classes);
        let (newest, ring) = rest.split_at_mut(classifier.classes);
        let mut network = Self {
            package: package.clone(),
            stripe,
            classifier,
            have: heapless::Vec::new(),
            state,
            scratch,
            pool: Pool {
                ring,
                totals,
                newest,
                logits,
                rows: 0,
                next: 0,
            },
            flushed: false,
        };
        network.reset();
        Ok(network)
    }

    /// Starts a new stream: histories hold nothing but top padding, the mean is empty.
    pub fn reset(&mut self) {
        self.have.clear();
        let stem = self.package.stem();
        self.start(&stem, 0);
        let mut state = history_len(&stem);
        for block in self.package.blocks() {
            self.start(&block.depthwise, state);
            state += BlockUse::new(&block, 1).state;
        }
        self.pool.ring.fill(0);
        self.pool.totals.fill(0);
        self.pool.rows = 0;
        self.pool.next = 0;
        self.flushed = false;
    }

    /// Puts the top padding into the history of the next 3×3 kernel.
    fn start(&mut self, convolution: &Convolution<'_>, state: usize) {
        let rows = usize::from(spatial(convolution).pad_time[0]);
        self.state[state..][..rows * convolution.input.row_len()]
            .fill(convolution.input_zero_point);
        let pushed = self.have.push(rows);
        debug_assert!(pushed.is_ok(), "parse counted the blocks");
    }

    /// Takes any number of whole rows, `[rows][width][channels]`; `on_logits` sees the
    /// logits after each output row. Values beyond the last whole row are not taken.
    ///
    /// After a [`flush`](Self::flush) the next rows start a new stream.
    pub fn push(&mut self, rows: &[i8], on_logits: &mut impl FnMut(&[i8])) {
        let row_len = self.row_len();
        debug_assert!(rows.len().is_multiple_of(row_len), "only whole rows");
        if self.flushed {
            self.reset();
        }
        let whole = rows.len() / row_len * row_len;
        for stripe in rows[..whole].chunks(self.stripe * row_len) {
            let rows = self.stem_rows(Feed::Rows(stripe));
            self.blocks_from(0, rows, End::Low, on_logits);
        }
    }

    /// Ends the clip: feeds every layer its bottom padding, in order. Flushing again
    /// before new rows does nothing.
    pub fn flush(&mut self, on_logits: &mut impl FnMut(&[i8])) {
        if self.flushed {
            return;
        }
        let stem = self.package.stem();
        for _ in 0..spatial(&stem).pad_time[1] {
            let rows = self.stem_rows(Feed::Padding);
            self.blocks_from(0, rows, End::Low, on_logits);
        }
        let mut state = history_len(&stem);
        for (index, block) in self.package.blocks().enumerate() {
            for _ in 0..block.spatial().pad_time[1] {
                let rows = self.block(index, &block, state, Feed::Padding, End::Low);
                self.blocks_from(index + 1, rows, End::High, on_logits);
            }
            state += BlockUse::new(&block, 1).state;
        }
        self.flushed = true;
    }

    /// The latest logits, `[classes]`; none before the first output row.
    pub fn logits(&self) -> Option<&[i8]> {
        (self.pool.rows > 0).then_some(&*self.pool.logits)
    }

    /// Values in a row.
    pub fn row_len(&self) -> usize {
        self.package.input().row_len()
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.classifier.classes
    }

    /// Runs the stem; its output rows, whose number is returned, lie at the low end.
    fn stem_rows(&mut self, feed: Feed<&[i8]>) -> usize {
        let convolution = self.package.stem();
        let spatial = spatial(&convolution);
        let row_len = convolution.input.row_len();
        let (outputs, input) = match feed {
            Feed::Rows(rows) => (&mut *self.scratch, rows),
            Feed::Padding => {
                let [padding, outputs, _] = End::High.split(self.scratch, row_len, 0);
                padding.fill(convolution.input_zero_point);
                (outputs, &*padding)
            }
        };
        let mut window = Window {
            row_len,
            stride: spatial.stride_time.into(),
            have: &mut self.have[0],
            history: &mut self.state[..history_len(&convolution)],
        };
        let mut outputs = outputs.chunks_exact_mut(convolution.output.row_len());
        window.slide(input, |rows| {
            let output = outputs.next().expect("the plan has a row for each output");
            stem(&convolution, spatial, rows, output);
        })
    }

    /// Runs the blocks from number `first` on, then the head, over `rows` rows that
    /// lie at one end of the scratch.
    fn blocks_from(
        &mut self,
        first: usize,
        mut rows: usize,
        mut end: End,
        on_logits: &mut impl FnMut(&[i8]),
    ) {
        let mut state = history_len(&self.package.stem());
        for (index, block) in self.package.blocks().enumerate() {
            if rows == 0 {
                return;
            }
            if index >= first {
                rows = self.block(index, &block, state, Feed::Rows(rows), end);
                end = end.other();
            }
            state += BlockUse::new(&block, 1).state;
        }
        self.head(rows, end, on_logits);
    }

    /// Runs one block; its output rows, whose number is returned, lie at the other end.
    fn block(
        &mut self,
        index: usize,
        block: &InvertedResidual<'_>,
        state: usize,
        feed: Feed<usize>,
        end: End,
    ) -> usize {
        let spatial = block.spatial();
        let (narrow_len, wide_len) = (block.input().row_len(), block.depthwise.input.row_len());
        let (tall_len, output_len) = (
            block.depthwise.output.row_len(),
            block.projection.output.row_len(),
        );
        let rows = match feed {
            Feed::Rows(rows) => rows,
            Feed::Padding => 1,
        };
        let plan = BlockUse::new(block, rows);
        let stride = usize::from(spatial.stride_time);
        let count = windows(self.have[index + 1] + rows, stride);
        let [narrow, middle, outputs] = end.split(self.scratch, plan.input, count * output_len);
        let (expanded, rest) = middle.split_at_mut(plan.expanded);
        let filtered = &mut rest[..plan.depthwise];
        let (history, rest) = self.state[state..].split_at_mut(history_len(&block.depthwise));
        let mut delay = Delay {
            row_len: narrow_len,
            rows: &mut rest[..delay_rows(block) * narrow_len],
        };
        let mut window = Window {
            row_len: wide_len,
            stride,
            have: &mut self.have[index + 1],
            history,
        };
        if feed == Feed::Padding {
            let row = match block.expansion {
                Some(_) => &mut expanded[..wide_len],
                None => &mut narrow[..wide_len],
            };
            row.fill(block.depthwise.input_zero_point);
        }

        let mut outputs = outputs;
        for tile in narrow.chunks(plan.tile_rows * narrow_len) {
            let tile_rows = tile.len() / narrow_len;
            let wide = match &block.expansion {
                Some(expansion) => {
                    let wide = &mut expanded[..tile_rows * wide_len];
                    if feed != Feed::Padding {
                        pointwise(expansion, None, tile, wide);
                    }
                    &*wide
                }
                None => tile,
            };
            let mut filtered_rows = filtered.chunks_exact_mut(tall_len);
            let produced = window.slide(wide, |rows| {
                let output = filtered_rows
                    .next()
                    .expect("the plan has a row for each output");
                depthwise(&block.depthwise, spatial, rows, output);
            });
            let (output, later) = outputs.split_at_mut(produced * output_len);
            outputs = later;
            let filtered = &filtered[..produced * tall_len];
            match block.residual {
                None => pointwise(&block.projection, None, filtered, output),
                Some(factor) => {
                    let zero_point = block.input_zero_point();
                    let (old, new) = delay.inputs(tile, produced);
                    let split = old.len() / narrow_len;
                    let (old_rows, new_rows) = filtered.split_at(split * tall_len);
                    let (old_outputs, new_outputs) = output.split_at_mut(split * output_len);
                    let add = |input| {
                        Some(Residual {
                            input,
                            zero_point,
                            factor,
                        })
                    };
                    pointwise(&block.projection, add(old), old_rows, old_outputs);
                    pointwise(&block.projection, add(new), new_rows, new_outputs);
                    delay.take(tile);
                }
            }
        }
        count
    }

    fn head(&mut self, rows: usize, end: End, on_logits: &mut impl FnMut(&[i8])) {
        let head = self.package.head();
        let plan = HeadUse::new(head.as_ref(), &self.classifier, rows);
        let [input, expanded, _] = end.split(self.scratch, plan.input, 0);
        let wide_len = self.classifier.input.row_len();
        let input_len = head.map_or(wide_len, |head| head.input.row_len());
        for tile in input.chunks(plan.tile_rows * input_len) {
            let wide = match &head {
                Some(head) => {
                    let wide = &mut expanded[..tile.len() / input_len * wide_len];
                    pointwise(head, None, tile, wide);
                    &*wide
                }
                None => tile,
            };
            for row in wide.chunks_exact(wide_len) {
                self.pool.push(&self.classifier, row);
                on_logits(self.pool.logits);
            }
        }
    }
}

/// What a layer is fed: rows, or one row of its bottom padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed<T> {
    Rows(T),
    Padding,
}

/// The last input rows of a block whose output rows are still to come, oldest first.
struct Delay<'a> {
    row_len: usize,
    rows: &'a mut [i8],
}

impl Delay<'_> {
    /// The block's inputs that belong to the `produced` output rows of a tile: those
    /// that waited, then those of the tile itself.
    fn inputs<'t>(&'t self, tile: &'t [i8], produced: usize) -> (&'t [i8], &'t [i8]) {
        // Of what waited and the tile, one after the other, the newest rows as many as
        // the delay stay behind; the `produced` before them are due.
        let end = tile.len();
        let start = end - produced * self.row_len;
        let waiting = self.rows.len();
        let old = &self.rows[start.min(waiting)..end.min(waiting)];
        let new = &tile[start.max(waiting) - waiting..end.max(waiting) - waiting];
        (old, new)
    }

    /// Lets the tile's rows wait in place of older ones.
    fn take(&mut self, tile: &[i8]) {
        let waiting = self.rows.len();
        if tile.len() >= waiting {
            self.rows.copy_from_slice(&tile[tile.len() - waiting..]);
        } else {
            self.rows.copy_within(tile.len().., 0);
            self.rows[waiting - tile.len()..].copy_from_slice(tile);
        }
    }
}
