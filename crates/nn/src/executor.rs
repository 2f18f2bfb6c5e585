use sori_package::{Classifier, Convolution, InvertedResidual, MAX_BLOCKS, Package};

use crate::arch::{Layers, Region, transpose};
use crate::kernels::classifier::logits;
use crate::kernels::pointwise::Residual;
use crate::memory::LayerKind;
use crate::plan::{
    ArenaLayout, BlockUse, Feed, HeadUse, Stripe, delay_rows, history_len, spatial, state_len,
};
use crate::runtime::{Lent, divide, parts};
use crate::split::{BlockShape, Group, History, Split, SplitUse};
use crate::window::{Window, windows};
use crate::{Backend, Error, Prepared};

/// What [`Network`](crate::Network) is but for its runtime, so that it is compiled once, in this
/// crate.
#[derive(Debug)]
pub(crate) struct Executor<'p, 'a> {
    prepared: Prepared<'p>,
    stripe: Stripe<'p>,
    classifier: Classifier<'p>,
    /// Of the stem and of each block.
    have: heapless::Vec<History, { MAX_BLOCKS + 1 }>,
    state: &'a mut [i8],
    scratch: &'a mut [i8],
    pool: Pool<'a>,
    flushed: bool,
}

/// The running mean over the last K output rows, as exact integer totals.
#[derive(Debug)]
struct Pool<'a> {
    backend: Backend,
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
    #[inline(never)]
    fn push(&mut self, classifier: &Classifier<'_>, row: &[i8]) {
        self.backend.row_totals(classifier, row, self.newest);
        self.advance(classifier);
    }

    /// Begins a row that comes a group of channels at a time.
    fn begin(&mut self, classifier: &Classifier<'_>) {
        self.newest.copy_from_slice(classifier.kernel.bias);
    }

    /// The group's part of a row.
    #[inline(never)]
    fn add_group(&mut self, classifier: &Classifier<'_>, group: Group, row: &[i8]) {
        self.backend
            .add_row_totals(classifier, group.first, row, self.newest);
    }

    /// Takes the newest row into the mean.
    fn advance(&mut self, classifier: &Classifier<'_>) {
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

    /// The ring's memory for the channels' sums instead, if it is large enough.
    fn sums(&mut self, classifier: &Classifier<'_>) -> Option<&mut [i32]> {
        self.ring.get_mut(..classifier.input.channels.into())
    }

    /// Counts a row of which only the sums are wanted.
    #[inline(never)]
    fn add(&mut self, classifier: &Classifier<'_>, row: &[i8]) {
        let backend = self.backend;
        if let Some(sums) = self.sums(classifier) {
            backend.add_sums(classifier, row, sums);
            self.rows += 1;
        }
    }

    /// The logits from the sums of all rows that were added.
    fn finish_sums(&mut self, classifier: &Classifier<'_>) {
        let sums = &mut self.ring[..classifier.input.channels.into()];
        self.backend
            .totals(classifier, sums, self.rows, self.totals);
        logits(classifier, self.totals, self.rows, self.logits);
    }
}

/// Who hears of output rows.
enum Outputs<'f> {
    /// Someone who wants the logits after each.
    Each(&'f mut dyn FnMut(&[i8])),
    /// Nobody before the last: only the sums of those after the first `skip` are taken.
    Last { skip: usize },
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

impl<'p, 'a> Executor<'p, 'a> {
    pub(crate) fn new(
        prepared: Prepared<'p>,
        arena: &'a mut [u8],
        stripe: usize,
    ) -> Result<Self, Error> {
        if stripe == 0 {
            return Err(Error::StripeZero);
        }
        let stripe = Stripe::new(&prepared, stripe);
        let layout = ArenaLayout::new(&prepared, stripe);
        let (needed, found) = (layout.bytes(), arena.len());
        let Some(arena) = arena.get_mut(..needed) else {
            return Err(Error::ArenaTooSmall { needed, found });
        };
        let (accumulators, rest) = arena.split_at_mut(layout.accumulators * size_of::<i32>());
        let accumulators =
            bytemuck::try_cast_slice_mut(accumulators).map_err(|_| Error::ArenaMisaligned {
                needed: crate::ARENA_ALIGNMENT,
            })?;
        let (logits, rest) = bytemuck::cast_slice_mut(rest).split_at_mut(layout.logits);
        let (state, scratch) = rest.split_at_mut(layout.state);
        let classifier = prepared.package().classifier();
        let (totals, rest) = accumulators.split_at_mut(classifier.classes);
        let (newest, ring) = rest.split_at_mut(classifier.classes);
        let mut network = Self {
            stripe,
            classifier,
            have: heapless::Vec::new(),
            state,
            scratch,
            pool: Pool {
                backend: prepared.backend(),
                ring,
                totals,
                newest,
                logits,
                rows: 0,
                next: 0,
            },
            flushed: false,
            prepared,
        };
        network.reset();
        Ok(network)
    }

    pub(crate) fn reset(&mut self) {
        self.have.clear();
        let stem = self.package().stem();
        // The stem's rows are the caller's, all others the backend's.
        self.start(&stem, 0, history_len(&stem), stem.input_zero_point);
        let mut state = history_len(&stem);
        for (index, block) in self.package().blocks().enumerate() {
            let padding = self.backend().encode(block.depthwise.input_zero_point);
            let len = state_len(self.stripe, index, &block);
            self.start(&block.depthwise, state, len, padding);
            state += len;
        }
        self.pool.ring.fill(0);
        self.pool.totals.fill(0);
        self.pool.rows = 0;
        self.pool.next = 0;
        self.flushed = false;
    }

    /// Puts the top padding into the history of the next 3×3 kernel, and anything elsewhere.
    fn start(&mut self, convolution: &Convolution<'_>, state: usize, len: usize, padding: i8) {
        self.state[state..][..len].fill(padding);
        let rows = usize::from(spatial(convolution).pad_time[0]);
        let pushed = self.have.push(History::of_padding(rows));
        debug_assert!(pushed.is_ok(), "parse counted the blocks");
    }

    pub(crate) fn push(&mut self, lent: Lent<'_>, rows: &[i8], on_logits: &mut dyn FnMut(&[i8])) {
        self.rows(lent, rows, false, &mut Outputs::Each(on_logits));
    }

    pub(crate) fn finish(&mut self, lent: Lent<'_>, rows: &[i8], on_logits: &mut dyn FnMut(&[i8])) {
        if !rows.is_empty() || !self.flushed {
            self.rows(lent, rows, true, &mut Outputs::Each(on_logits));
        }
    }

    pub(crate) fn clip(&mut self, lent: Lent<'_>, rows: &[i8]) -> Option<&[i8]> {
        self.reset();
        let outputs = crate::memory::output_rows(self.package(), rows.len() / self.row_len());
        let whole_rows = self.stripe.head_group().is_none();
        if whole_rows && self.pool.sums(&self.classifier).is_some() {
            let skip = outputs.saturating_sub(self.classifier.pool_rows);
            self.rows(lent, rows, true, &mut Outputs::Last { skip });
            if outputs > 0 {
                self.pool.finish_sums(&self.classifier);
            }
        } else {
            self.finish(lent, rows, &mut |_| ());
        }
        self.logits()
    }

    pub(crate) fn logits(&self) -> Option<&[i8]> {
        (self.pool.rows > 0).then_some(&*self.pool.logits)
    }

    pub(crate) fn row_len(&self) -> usize {
        self.package().input().row_len()
    }

    pub(crate) fn classes(&self) -> usize {
        self.classifier.classes
    }

    fn package(&self) -> &Package<'p> {
        self.prepared.package()
    }

    fn backend(&self) -> Backend {
        self.prepared.backend()
    }

    fn rows(&mut self, lent: Lent<'_>, rows: &[i8], last: bool, outputs: &mut Outputs<'_>) {
        let row_len = self.row_len();
        debug_assert!(rows.len().is_multiple_of(row_len), "only whole rows");
        if self.flushed {
            self.reset();
        }
        let mut rows = &rows[..rows.len() / row_len * row_len];
        let at_once = last && self.stripe.ends_at_once();
        loop {
            let (now, later) = rows.split_at(rows.len().min(self.stripe.rows * row_len));
            rows = later;
            let ends = at_once && rows.is_empty();
            if !now.is_empty() || ends {
                self.stripe_of(lent, now, ends, outputs);
            }
            if rows.is_empty() {
                break;
            }
        }
        if last && !at_once {
            self.pad_row_by_row(lent, outputs);
        }
        self.flushed = last;
    }

    fn stripe_of(&mut self, lent: Lent<'_>, rows: &[i8], ends: bool, outputs: &mut Outputs<'_>) {
        let padding = match ends {
            true => spatial(&self.package().stem()).pad_time[1].into(),
            false => 0,
        };
        let rows = self.stem(lent, rows, padding);
        self.blocks(lent, 0, rows, End::Low, ends, outputs);
    }

    /// Feeds every layer its bottom padding in order, a row at a time.
    fn pad_row_by_row(&mut self, lent: Lent<'_>, outputs: &mut Outputs<'_>) {
        for _ in 0..spatial(&self.package().stem()).pad_time[1] {
            let rows = self.stem(lent, &[], 1);
            self.blocks(lent, 0, rows, End::Low, false, outputs);
        }
        let mut place = self.first_place();
        for (index, block) in self.package().blocks().enumerate() {
            let after = place.after(state_len(self.stripe, index, &block), &block);
            for _ in 0..block.spatial().pad_time[1] {
                let feed = Feed {
                    rows: 0,
                    padding: 1,
                };
                let rows = self.block(lent, &block, place, feed, End::Low);
                self.blocks(lent, index + 1, rows, End::High, false, outputs);
            }
            place = after;
        }
    }

    /// Runs the stem; its output rows, whose number is returned, lie at the low end.
    fn stem(&mut self, lent: Lent<'_>, rows: &[i8], padding: usize) -> usize {
        lent.enter(LayerKind::Stem);
        let backend = self.backend();
        let convolution = self.package().stem();
        let row_len = convolution.input.row_len();
        let padding_len = if padding > 0 { row_len } else { 0 };
        let patches_len = backend.patches_len(&convolution);
        let far = padding_len + patches_len;
        let [far, outputs, _] = End::High.split(self.scratch, far, 0);
        let (padding_row, patches) = far.split_at_mut(padding_len);
        padding_row.fill(convolution.input_zero_point);
        let window = Window {
            row_len,
            stride: spatial(&convolution).stride_time.into(),
            have: &mut self.have[0],
            history: &mut self.state[..history_len(&convolution)],
            new: rows,
            padding,
            padding_row,
        };
        let region = self.prepared.layers().next();
        let count = window.count();
        let outputs = outputs.chunks_exact_mut(convolution.output.row_len());
        for (n, output) in outputs.take(count).enumerate() {
            backend.stem(region, &convolution, window.nth(n), patches, output);
        }
        window.keep();
        count
    }

    /// Where the first block keeps its state and its weights.
    fn first_place(&self) -> Place<'p> {
        let mut layers = self.prepared.layers();
        layers.next();
        Place {
            index: 0,
            state: history_len(&self.package().stem()),
            layers,
        }
    }

    /// Runs the blocks from number `first` on, then the head, over `rows` rows that
    /// lie at one end of the scratch; `ends` if each layer's bottom padding follows.
    fn blocks(
        &mut self,
        lent: Lent<'_>,
        first: usize,
        mut rows: usize,
        mut end: End,
        ends: bool,
        outputs: &mut Outputs<'_>,
    ) {
        let mut place = self.first_place();
        let mut blocks = self.package().blocks();
        for index in 0..blocks.len() {
            if rows == 0 && !ends {
                return;
            }
            let Some(block) = blocks.next() else {
                return;
            };
            let after = place.after(state_len(self.stripe, index, &block), &block);
            if index >= first {
                let padding = match ends {
                    true => block.spatial().pad_time[1].into(),
                    false => 0,
                };
                rows = self.block(lent, &block, place, Feed { rows, padding }, end);
                end = end.other();
            }
            place = after;
        }
        self.head(lent, place.layers, rows, end, outputs);
    }

    /// Runs one block; its output rows, whose number is returned, lie at the other end.
    fn block(
        &mut self,
        lent: Lent<'_>,
        block: &InvertedResidual<'_>,
        mut place: Place<'p>,
        feed: Feed,
        end: End,
    ) -> usize {
        let index = place.index;
        if let Some(plan) = self.stripe.block_plan(index, block) {
            let uses = SplitUse::new(&BlockShape::from(block), plan);
            return self.split(lent, block, uses, place, feed, end);
        }
        let backend = self.prepared.backend();
        let expansion_region = match block.expansion {
            Some(_) => place.layers.next(),
            None => Region::default(),
        };
        let depthwise_region = place.layers.next();
        let projection_region = place.layers.next();
        let (narrow_len, wide_len) = (block.input().row_len(), block.depthwise.input.row_len());
        let (tall_len, output_len) = (
            block.depthwise.output.row_len(),
            block.projection.output.row_len(),
        );
        let stride = usize::from(block.spatial().stride_time);
        let plan = BlockUse::new(block, self.stripe, feed);
        let have = usize::from(self.have[index + 1].rows);
        let count = windows(have + feed.rows + feed.padding, stride);
        let [narrow, middle, mut outputs] = end.split(self.scratch, plan.input, count * output_len);
        let (wide, rest) = middle.split_at_mut(plan.wide);
        let filtered = &mut rest[..plan.depthwise];
        let (history, rest) = self.state[place.state..].split_at_mut(history_len(&block.depthwise));
        let mut delay = Delay {
            row_len: narrow_len,
            rows: &mut rest[..delay_rows(block) * narrow_len],
        };

        let mut narrow = &*narrow;
        loop {
            let (tile, later) = narrow.split_at(narrow.len().min(plan.tile_rows * narrow_len));
            narrow = later;
            let (expanded, padding_row) = wide.split_at_mut(plan.expanded);
            let padding_row = &mut padding_row[..plan.padding_row];
            let wide_tile = tile.len() / narrow_len * wide_len;
            let new = match &block.expansion {
                Some(expansion) => {
                    lent.enter(LayerKind::Expansion(index));
                    let new = &mut expanded[..wide_tile];
                    if backend.is_planar() {
                        // What the depthwise kernel will write to is free.
                        backend.expand(expansion_region, expansion, tile, filtered, new);
                    } else {
                        let region = expansion_region;
                        Machine { lent, backend }.pointwise(
                            region,
                            expansion,
                            None,
                            tile,
                            &mut [],
                            new,
                        );
                    }
                    &*new
                }
                None => tile,
            };
            lent.enter(LayerKind::Depthwise(index));
            let new = match block.expansion {
                None if backend.is_planar() => {
                    let planar = &mut expanded[..wide_tile];
                    transpose(block.depthwise.input, tile, planar);
                    &*planar
                }
                _ => new,
            };
            let padding = if narrow.is_empty() { feed.padding } else { 0 };
            if padding > 0 {
                padding_row.fill(backend.encode(block.depthwise.input_zero_point));
            }
            let window = Window {
                row_len: wide_len,
                stride,
                have: &mut self.have[index + 1],
                history: &mut *history,
                new,
                padding,
                padding_row,
            };
            let produced = window.count();
            let filtered = &mut filtered[..produced * tall_len];
            let parts = parts(lent, 9 * filtered.len());
            divide(lent, parts, tall_len, 0, filtered, &|first, output| {
                let rows = |n| window.nth(first + n);
                backend.depthwise(depthwise_region, &block.depthwise, &rows, output);
            });
            window.keep();

            lent.enter(LayerKind::Projection(index));
            let (output, later) = outputs.split_at_mut(produced * output_len);
            outputs = later;
            let mut project = |input: &[i8], residual: Option<&[i8]>, output: &mut [i8]| {
                let residual = residual
                    .zip(block.residual)
                    .map(|(input, factor)| Residual {
                        input,
                        zero_point: block.input_zero_point(),
                        factor,
                    });
                let projection = &block.projection;
                Machine { lent, backend }.pointwise(
                    projection_region,
                    projection,
                    residual,
                    input,
                    // The expanded rows have been used, and those to be kept are.
                    wide,
                    output,
                );
            };
            if block.residual.is_none() {
                project(filtered, None, output);
            } else {
                let (old, new) = delay.inputs(tile, padding, produced);
                let split = old.len() / narrow_len;
                let (old_rows, new_rows) = filtered.split_at(split * tall_len);
                let (old_outputs, new_outputs) = output.split_at_mut(split * output_len);
                project(old_rows, Some(old), old_outputs);
                project(new_rows, Some(new), new_outputs);
                delay.take(tile, padding);
            }
            if narrow.is_empty() {
                return count;
            }
        }
    }

    /// Runs one block by its plan, on a row or a row of padding.
    fn split(
        &mut self,
        lent: Lent<'_>,
        block: &InvertedResidual<'_>,
        uses: SplitUse,
        mut place: Place<'p>,
        feed: Feed,
        end: End,
    ) -> usize {
        debug_assert_eq!(feed.rows + feed.padding, 1, "a plan is for a row at a time");
        let expansion_region = match block.expansion {
            Some(_) => place.layers.next(),
            None => Region::default(),
        };
        let index = place.index;
        let history = &mut self.have[index + 1];
        let produced = usize::from(history.completes());
        let (input_len, output_len) = (
            feed.rows * block.input().row_len(),
            produced * block.projection.output.row_len(),
        );
        let [input, middle, output] = end.split(self.scratch, input_len, output_len);
        let split = Split {
            lent,
            backend: self.prepared.backend(),
            index,
            block,
            uses,
            history,
            state: &mut self.state[place.state..][..uses.state()],
            new: (feed.rows > 0).then_some(&*input),
            regions: [expansion_region, place.layers.next(), place.layers.next()],
        };
        split.run(middle, output);
        produced
    }

    fn head(
        &mut self,
        lent: Lent<'_>,
        mut layers: Layers<'p>,
        rows: usize,
        end: End,
        outputs: &mut Outputs<'_>,
    ) {
        let backend = self.backend();
        let head = self.package().head();
        let region = layers.next();
        let plan = HeadUse::new(head.as_ref(), &self.classifier, self.stripe, rows);
        let [input, rest, _] = end.split(self.scratch, plan.input, 0);
        let (expanded, rest) = rest.split_at_mut(plan.expanded);
        let scratch = &mut rest[..plan.unpacked];
        if let (Some(head), Some(_)) = (&head, self.stripe.head_group()) {
            for input in input.chunks_exact(head.input.row_len()) {
                self.pool.begin(&self.classifier);
                for group in Group::all(head.output.channels, plan.group) {
                    let part = group.pointwise(head);
                    lent.enter(LayerKind::Head);
                    let row = &mut expanded[..part.output.row_len()];
                    backend.pointwise(region.of_group(), &part, None, input, scratch, row);
                    lent.enter(LayerKind::Classifier);
                    self.pool.add_group(&self.classifier, group, row);
                }
                self.pool.advance(&self.classifier);
                if let Outputs::Each(on_logits) = outputs {
                    on_logits(self.pool.logits);
                }
            }
            return;
        }
        let wide_len = self.classifier.input.row_len();
        let input_len = head.map_or(wide_len, |head| head.input.row_len());
        for tile in input.chunks(plan.tile_rows * input_len) {
            let wide = match &head {
                Some(head) => {
                    lent.enter(LayerKind::Head);
                    let wide = &mut expanded[..tile.len() / input_len * wide_len];
                    Machine { lent, backend }.pointwise(region, head, None, tile, scratch, wide);
                    &*wide
                }
                None => tile,
            };
            lent.enter(LayerKind::Classifier);
            for row in wide.chunks_exact(wide_len) {
                match outputs {
                    Outputs::Each(on_logits) => {
                        self.pool.push(&self.classifier, row);
                        on_logits(self.pool.logits);
                    }
                    Outputs::Last { skip: 0 } => self.pool.add(&self.classifier, row),
                    Outputs::Last { skip } => *skip -= 1,
                }
            }
        }
    }
}

/// Where a block keeps its state, and what the backend needs of its layers.
#[derive(Debug, Clone, Copy)]
struct Place<'p> {
    /// The block's number.
    index: usize,
    state: usize,
    layers: Layers<'p>,
}

impl Place<'_> {
    /// Where the next block does, after this one with so much state.
    fn after(mut self, state: usize, block: &InvertedResidual<'_>) -> Self {
        for _ in 0..2 + usize::from(block.expansion.is_some()) {
            self.layers.next();
        }
        self.index += 1;
        self.state += state;
        self
    }
}

/// What runs a layer.
struct Machine<'r> {
    lent: Lent<'r>,
    backend: Backend,
}

impl Machine<'_> {
    /// A 1×1 convolution, shared by the threads if it is large.
    fn pointwise(
        &self,
        region: Region<'_>,
        convolution: &Convolution<'_>,
        residual: Option<Residual<'_>>,
        input: &[i8],
        scratch: &mut [i8],
        output: &mut [i8],
    ) {
        let Self { lent, backend } = *self;
        if backend.is_planar() {
            // No core of this kind has threads to share the scratch.
            return backend.pointwise(region, convolution, residual, input, scratch, output);
        }
        let c_in = usize::from(convolution.input.channels);
        let c_out = usize::from(convolution.output.channels);
        let parts = parts(lent, c_in * output.len());
        divide(lent, parts, c_out, 0, output, &|first, output| {
            let pixels = output.len() / c_out;
            let input = &input[first * c_in..][..pixels * c_in];
            let residual = residual.map(|residual| Residual {
                input: &residual.input[first * c_out..][..output.len()],
                ..residual
            });
            backend.pointwise(region, convolution, residual, input, &mut [], output);
        });
    }
}

/// The last input rows of a block whose output rows are still to come, oldest first.
struct Delay<'a> {
    row_len: usize,
    rows: &'a mut [i8],
}

impl Delay<'_> {
    /// The block's inputs that belong to the `produced` output rows of a tile and so many rows of
    /// padding: those that waited, then those of the tile itself.
    fn inputs<'t>(
        &'t self,
        tile: &'t [i8],
        padding: usize,
        produced: usize,
    ) -> (&'t [i8], &'t [i8]) {
        // Of what waited, the tile and the padding, one after the other, the newest rows as many
        // as the delay stay behind; the `produced` before them are due. There is no more padding
        // than delay.
        let end = tile.len() + padding * self.row_len;
        let start = end - produced * self.row_len;
        let waiting = self.rows.len();
        let old = &self.rows[start.min(waiting)..end.min(waiting)];
        let new = &tile[start.max(waiting) - waiting..end.max(waiting) - waiting];
        (old, new)
    }

    /// Lets the tile's rows, and then the padding, wait in place of older ones.
    fn take(&mut self, tile: &[i8], padding: usize) {
        let waiting = self.rows.len();
        let gone = (tile.len() + padding * self.row_len).min(waiting);
        self.rows.copy_within(gone.., 0);
        // Nothing will be added to what padding gives: its place may hold anything.
        let free = &mut self.rows[waiting - gone..];
        let kept = tile.len().min(free.len());
        free[..kept].copy_from_slice(&tile[tile.len() - kept..]);
    }
}
