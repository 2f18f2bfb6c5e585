//! The classifier runs once a row; the compiler's own vectors do for it.

use sori_package::Classifier;

use super::simd::{Kernel, Simd};
use crate::kernels::classifier::{add_sums, row_totals, totals};

/// A cache line of weights.
const LANES: usize = 64;

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

pub(crate) struct Totals<'a> {
    pub(crate) classifier: &'a Classifier<'a>,
    pub(crate) sums: &'a [i32],
    pub(crate) rows: usize,
    pub(crate) totals: &'a mut [i32],
}

impl Kernel for Totals<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        totals::<LANES>(self.classifier, self.sums, self.rows, self.totals);
    }
}
