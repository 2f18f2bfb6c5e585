//! What a program may lend the network: threads, and an eye on the layers.

use crate::memory::LayerKind;

/// The network knows neither threads nor clocks; a program that has them lends them by this.
///
/// However a layer is divided, the bits are the same.
pub trait Runtime: Sync {
    /// Parts of a large layer that are worth making.
    fn threads(&self) -> usize {
        1
    }

    /// Runs two parts of a layer, at the same time if it can (`rayon::join`), and returns when
    /// both are done.
    fn join(&self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        a();
        b();
    }

    /// What is computed from here to the next call. A block's layers take turns, a tile each.
    fn enter(&self, layer: LayerKind) {
        let _ = layer;
    }
}

/// One thread and no clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bare;

impl Runtime for Bare {}

/// Multiplications below which a part is not worth waking a thread for.
const WORTHWHILE: usize = 400_000;

/// Parts for a layer of so many multiplications.
pub(crate) fn parts(runtime: &impl Runtime, macs: usize) -> usize {
    match runtime.threads() {
        0 | 1 => 1,
        threads => (macs / WORTHWHILE).clamp(1, threads),
    }
}

/// Calls `run` on `parts` runs of whole items that together are `output`; it is told the number of
/// the first.
pub(crate) fn divide<R: Runtime>(
    runtime: &R,
    parts: usize,
    item_len: usize,
    first: usize,
    output: &mut [i8],
    run: &(impl Fn(usize, &mut [i8]) + Sync),
) {
    let items = output.len() / item_len;
    if parts <= 1 || items <= 1 {
        return run(first, output);
    }
    let left = parts / 2;
    let split = items * left / parts;
    let (low, high) = output.split_at_mut(split * item_len);
    runtime.join(
        || divide(runtime, left, item_len, first, low, run),
        || divide(runtime, parts - left, item_len, first + split, high, run),
    );
}
