//! The classifier runs once a row, or once a clip; the compiler's own vectors nearly do for it.

use bytemuck::{cast_slice, cast_slice_mut};
use sori_package::Classifier;

use super::simd::{Kernel, Simd};
use crate::kernels::classifier::{add_sums, row_totals, totals};

/// A cache line of weights.
const LANES: usize = 64;

/// The largest sum whose upper byte is one whatever the lower.
const MOST: u32 = 127 * 256 + 127;

#[inline(always)]
fn value<S: Simd>(kept: i8) -> i32 {
    match S::UNSIGNED {
        true => i32::from(kept as u8) - 128,
        false => kept.into(),
    }
}

pub(crate) struct RowTotals<'a> {
    pub(crate) classifier: &'a Classifier<'a>,
    pub(crate) row: &'a [i8],
    pub(crate) totals: &'a mut [i32],
}

impl Kernel for RowTotals<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        row_totals::<LANES>(self.classifier, value::<S>, self.row, self.totals);
    }
}

pub(crate) struct AddSums<'a> {
    pub(crate) classifier: &'a Classifier<'a>,
    pub(crate) row: &'a [i8],
    pub(crate) sums: &'a mut [i32],
}

impl Kernel for AddSums<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        add_sums::<LANES>(self.classifier, value::<S>, self.row, self.sums);
    }
}

/// The sums are lost: their memory is used for their bytes.
pub(crate) struct Totals<'a> {
    pub(crate) classifier: &'a Classifier<'a>,
    pub(crate) sums: &'a mut [i32],
    pub(crate) rows: usize,
    pub(crate) totals: &'a mut [i32],
}

impl Kernel for Totals<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            classifier,
            sums,
            rows,
            totals: class_totals,
        } = self;
        let fit = sums
            .iter()
            .fold(0, |most, &sum| most.max(sum.unsigned_abs()))
            <= MOST;
        let block = size_of::<S::ByteBlock>();
        if S::UNSIGNED || !fit || !sums.len().is_multiple_of(block) {
            return totals::<LANES>(classifier, sums, rows, class_totals);
        }
        // A sum is 256 · high + low, both signed bytes, and a dot product takes those. They come to
        // lie before the sums that are still unread.
        let channels = sums.len();
        for start in (0..channels).step_by(block) {
            let mut chunk = [0; LANES];
            chunk[..block].copy_from_slice(&sums[start..][..block]);
            let bytes: &mut [i8] = cast_slice_mut(sums);
            let (low, high) = bytes[2 * start..][..2 * block].split_at_mut(block);
            for ((low, high), &sum) in low.iter_mut().zip(high).zip(&chunk) {
                *low = sum as i8;
                *high = ((sum - i32::from(*low)) >> 8) as i8;
            }
        }
        let bytes: &[i8] = cast_slice(sums);
        let (pairs, _) = cast_slice::<i8, S::ByteBlock>(&bytes[..2 * channels]).as_chunks::<2>();
        let kernel = classifier.kernel;
        let weights = kernel.weights.chunks_exact(channels);
        for ((total, &bias), weights) in class_totals.iter_mut().zip(kernel.bias).zip(weights) {
            let weights: &[S::ByteBlock] = cast_slice(weights);
            let (mut low, mut high) = (simd.zero(), simd.zero());
            for ([l, h], weights) in pairs.iter().zip(weights) {
                let weights = simd.weights(weights);
                low = simd.dot(low, simd.spread(simd.bytes(l)), weights);
                high = simd.dot(high, simd.spread(simd.bytes(h)), weights);
            }
            *total = bias * rows as i32 + simd.sum(low) + (simd.sum(high) << 8);
        }
    }
}
