//! The threads, and the view of the layers, that a program may lend the network.

use crate::memory::LayerKind;

/// The network has neither threads nor clocks; a program lends its own through this trait.
///
/// The bits do not depend on how layers are divided.
pub trait Runtime: Sync {
    /// Whether there is anything to lend; otherwise the network never asks.
    const LENDS: bool = true;

    /// Number of parts into which a large layer should be divided. Never called on bare metal.
    fn threads(&self) -> usize {
        1
    }

    /// Runs two parts of a layer, in parallel if possible (`rayon::join`), and returns when both
    /// are done.
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        a();
        b();
    }

    /// Called when a layer starts; it runs until the next call. A block's layers alternate tile by
    /// tile.
    fn enter(&self, layer: LayerKind) {
        let _ = layer;
    }
}

/// One thread and no clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bare;

impl Runtime for Bare {
    const LENDS: bool = false;
}

/// A [`Runtime`] whose type the executor need not know.
trait Lender: Sync {
    fn threads(&self) -> usize;
    fn join(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send));
    fn enter(&self, layer: LayerKind);
}

impl<R: Runtime> Lender for R {
    fn threads(&self) -> usize {
        Runtime::threads(self)
    }

    fn join(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
        Runtime::join(self, a, b);
    }

    fn enter(&self, layer: LayerKind) {
        Runtime::enter(self, layer);
    }
}

/// The runtime, if it lends anything.
#[derive(Clone, Copy)]
pub(crate) struct Lent<'r>(Option<&'r dyn Lender>);

impl<'r> Lent<'r> {
    pub(crate) fn by<R: Runtime>(runtime: &'r R) -> Self {
        Self(if R::LENDS { Some(runtime) } else { None })
    }

    #[inline]
    pub(crate) fn enter(self, layer: LayerKind) {
        if let Some(lender) = self.0 {
            lender.enter(layer);
        }
    }
}

/// Whether a layer may be divided. On a microcontroller the code for it would take 7 KB of flash in
/// every program, for threads that none of them has.
const DIVIDES: bool = !cfg!(target_os = "none");

/// Multiplications below which a part is not worth waking a thread for.
const WORTHWHILE: usize = 400_000;

/// Number of parts for a layer with `macs` multiplications.
pub(crate) fn parts(lent: Lent<'_>, macs: usize) -> usize {
    match lent.0.filter(|_| DIVIDES).map_or(1, Lender::threads) {
        0 | 1 => 1,
        threads => (macs / WORTHWHILE).clamp(1, threads),
    }
}

/// Calls `run` on `parts` runs of whole items that together are `output`; it is told the number of
/// the first.
pub(crate) fn divide(
    lent: Lent<'_>,
    parts: usize,
    item_len: usize,
    first: usize,
    output: &mut [i8],
    run: &(impl Fn(usize, &mut [i8]) + Sync),
) {
    let items = output.len() / item_len;
    let is_worthwhile = DIVIDES && parts > 1 && items > 1;
    let Some(lender) = lent.0.filter(|_| is_worthwhile) else {
        return run(first, output);
    };
    let left = parts / 2;
    let split = items * left / parts;
    let (low, high) = output.split_at_mut(split * item_len);
    lender.join(
        &mut || divide(lent, left, item_len, first, low, run),
        &mut || divide(lent, parts - left, item_len, first + split, high, run),
    );
}
