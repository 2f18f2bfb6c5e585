use crate::executor::Executor;
use crate::plan::{ArenaLayout, Stripe};
use crate::runtime::Lent;
use crate::{Bare, Error, Prepared, Runtime};

/// A network on its stream.
///
/// [`push`](Self::push) takes rows and returns logits with every output row;
/// [`finish`](Self::finish) ends a clip with each layer's bottom padding. The bits do not depend
/// on how the rows are split, on the stripe or on the backend.
///
/// After [`new`](Self::new) nothing can fail.
#[derive(Debug)]
pub struct Network<'p, 'a, R = Bare> {
    executor: Executor<'p, 'a>,
    runtime: R,
}

impl<'p, 'a> Network<'p, 'a> {
    /// The exact size of the arena, in bytes, for stripes of up to `stripe` rows.
    ///
    /// A stripe of 1 needs the least memory; a larger one reads the weights less often.
    pub fn arena_bytes<'x>(prepared: impl Into<Prepared<'x>>, stripe: usize) -> usize {
        let prepared = prepared.into();
        let stripe = Stripe::new(&prepared, stripe);
        ArenaLayout::new(&prepared, stripe).bytes()
    }

    /// A network at the start of a stream, of a [`Prepared`] package or, for
    /// [`Backend::SCALAR`](crate::Backend::SCALAR), of a package as it is.
    ///
    /// # Errors
    /// [`Error::ArenaTooSmall`], [`Error::ArenaMisaligned`], [`Error::StripeZero`].
    pub fn new(
        prepared: impl Into<Prepared<'p>>,
        arena: &'a mut [u8],
        stripe: usize,
    ) -> Result<Self, Error> {
        Self::with_runtime(prepared, arena, stripe, Bare)
    }
}

impl<'p, 'a, R: Runtime> Network<'p, 'a, R> {
    /// A network that uses the program's runtime.
    ///
    /// # Errors
    /// As [`new`](Network::new).
    pub fn with_runtime(
        prepared: impl Into<Prepared<'p>>,
        arena: &'a mut [u8],
        stripe: usize,
        runtime: R,
    ) -> Result<Self, Error> {
        let executor = Executor::new(prepared.into(), arena, stripe)?;
        Ok(Self { executor, runtime })
    }

    /// Starts a new stream: histories contain only top padding, and the mean is empty.
    pub fn reset(&mut self) {
        self.executor.reset();
    }

    /// Takes any number of whole rows, `[rows][width][channels]`; `on_logits` gets the
    /// logits after each output row. Values beyond the last whole row are ignored.
    ///
    /// After a [`finish`](Self::finish) the next rows start a new stream.
    pub fn push(&mut self, rows: &[i8], on_logits: &mut impl FnMut(&[i8])) {
        let lent = Lent::by(&self.runtime);
        self.executor.push(lent, rows, on_logits);
    }

    /// Takes the last rows of a clip, if any, and then feeds every layer its bottom padding.
    /// Finishing again before new rows does nothing.
    pub fn finish(&mut self, rows: &[i8], on_logits: &mut impl FnMut(&[i8])) {
        let lent = Lent::by(&self.runtime);
        self.executor.finish(lent, rows, on_logits);
    }

    /// Ends a clip whose rows were all pushed: [`finish`](Self::finish) without rows.
    pub fn flush(&mut self, on_logits: &mut impl FnMut(&[i8])) {
        self.finish(&[], on_logits);
    }

    /// Runs a whole clip: the logits after its last output row, or `None` if it is too short.
    ///
    /// The bits are those of [`reset`](Self::reset) and [`finish`](Self::finish); the earlier logits
    /// are not computed.
    pub fn clip(&mut self, rows: &[i8]) -> Option<&[i8]> {
        let lent = Lent::by(&self.runtime);
        self.executor.clip(lent, rows)
    }

    /// The latest logits, `[classes]`; `None` before the first output row.
    pub fn logits(&self) -> Option<&[i8]> {
        self.executor.logits()
    }

    /// The runtime given to [`with_runtime`](Self::with_runtime).
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    /// Values in a row.
    pub fn row_len(&self) -> usize {
        self.executor.row_len()
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.executor.classes()
    }
}
