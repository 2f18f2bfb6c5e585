//! One operator a file, scalar: the specification. A faster backend joins here and
//! equals these bit for bit.

pub(crate) mod classifier;
pub(crate) mod depthwise;
pub(crate) mod pointwise;
pub(crate) mod softmax;
pub(crate) mod stem;

/// Σ w·q. Sums of any order are equal: parsing proved that no partial sum overflows.
#[inline(always)]
fn dot(weights: &[i8], values: &[i8]) -> i32 {
    weights
        .iter()
        .zip(values)
        .map(|(&w, &q)| i32::from(w) * i32::from(q))
        .sum()
}
