use bytemuck::Pod;

use super::pack::Fast;

/// What the vector kernels are written in: one implementation an instruction set.
///
/// The heart is a dot product of four bytes into each `i32` lane. A lane is an output
/// channel (pointwise) or a channel (depthwise), and a vector has `LANES` of them.
///
/// A value of an implementing type exists only where the processor has the
/// instructions, which is what makes the methods safe. They must be inlined into
/// [`Simd::vectorize`] to become single instructions.
///
/// # Order of channels
/// Vectors are narrowed and interleaved within 128-bit quarters, as x86 does it. Of
/// `C` vectors that become one run of bytes, vector `j` holds, in its quarter `q` and
/// place `i`, channel `4·(C·q + j) + i` (see [`channel_of_lane`]).
pub(crate) trait Simd: Copy {
    /// `LANES` accumulators.
    type Acc: Copy;
    /// `4 · LANES` values, each activation or weight in its own byte.
    type Bytes: Copy;
    /// `4 · LANES` weights, as [`dot`](Self::dot) wants them.
    type Weights: Copy;
    /// Activations, as [`dot`](Self::dot) wants them.
    type Input: Copy;
    /// `[i8; 4 · STEPS]`: input channels of a pixel that are loaded at a time.
    type InputBlock: Pod;
    /// `[i8; 4 · LANES]`.
    type ByteBlock: Pod;
    /// `[i32; LANES]`.
    type LaneBlock: Pod;
    /// Vectors of half the lanes, for what is left of a row of channels; itself if there are none.
    type Half: Simd;

    /// Output channels of a vector.
    const LANES: usize;
    /// Whether [`Half`](Self::Half) is another one.
    const HAS_HALF: bool = Self::Half::LANES < Self::LANES;
    /// Groups of four input channels in an [`InputBlock`](Self::InputBlock).
    const STEPS: usize;
    /// Whether activations are kept as `q ^ 0x80`, unsigned, because the dot product
    /// takes unsigned by signed.
    const UNSIGNED: bool;
    /// What makes a layer fast.
    const FAST: Fast;
    /// Pixels of a tile with so many vectors of output channels: `[4, 2, 1]`.
    const PIXELS: [usize; 3];

    /// Runs a kernel with the instruction set switched on: in a function of its own, so that the
    /// compiler has many small ones in place of one whose analysis grows with its square.
    fn vectorize<K: Kernel>(self, kernel: K);
    fn half(self) -> Self::Half;

    fn lanes(self, block: &Self::LaneBlock) -> Self::Acc;
    #[inline(always)]
    fn all_lanes<const C: usize>(self, blocks: &[Self::LaneBlock; C]) -> [Self::Acc; C] {
        let mut lanes = [self.lanes(&blocks[0]); C];
        for c in 1..C {
            lanes[c] = self.lanes(&blocks[c]);
        }
        lanes
    }
    fn weights(self, block: &Self::ByteBlock) -> Self::Weights;
    fn bytes(self, block: &Self::ByteBlock) -> Self::Bytes;
    /// Fewer than a whole vector; the rest is anything.
    fn bytes_partial(self, values: &[i8]) -> Self::Bytes;
    fn splat(self, value: i8) -> Self::Bytes;

    /// Input channels of one pixel, for [`dot_step`](Self::dot_step).
    fn input(self, block: &Self::InputBlock) -> Self::Input;
    /// Fewer than a whole block; the rest is anything.
    fn input_partial(self, values: &[i8]) -> Self::Input;
    /// `acc[lane] + Σ_i input[4·STEP + i] · weights[4·lane + i]`.
    fn dot_step<const STEP: usize>(
        self,
        acc: Self::Acc,
        input: Self::Input,
        weights: Self::Weights,
    ) -> Self::Acc;

    /// Three rows of `4 · LANES` channels and zeros, as four vectors of `[r0, r1, r2, 0]`
    /// a channel.
    fn interleave(self, rows: [Self::Bytes; 3]) -> [Self::Input; 4];
    /// `acc[lane] + Σ_i input[4·lane + i] · weights[4·lane + i]`.
    fn dot(self, acc: Self::Acc, input: Self::Input, weights: Self::Weights) -> Self::Acc;

    /// Bytes as an input of [`dot`](Self::dot).
    fn spread(self, bytes: Self::Bytes) -> Self::Input;
    fn zero(self) -> Self::Acc;
    /// The sum of all lanes.
    fn sum(self, acc: Self::Acc) -> i32;
    fn multiply_add(self, acc: Self::Acc, a: Self::Acc, b: Self::Acc) -> Self::Acc;
    /// `C · LANES` activations as `i32`.
    fn widen<const C: usize>(self, values: &[i8]) -> [Self::Acc; C];
    /// `⌊acc · multiplier / 2^(31 + shift) + ½⌋`, exact. `FAST` where the packer found the layer
    /// to be [`Fast`](super::pack::Fast); then the zero point may be in it already.
    fn scale<const FAST: bool>(
        self,
        acc: Self::Acc,
        multiplier: Self::Acc,
        shift: Self::Acc,
        clamp: Clamp,
    ) -> Self::Acc;
    /// Adds the zero point, if `scale` did not, and clamps four vectors to one of bytes.
    fn narrow<const FAST: bool>(self, scaled: [Self::Acc; 4], clamp: Clamp) -> Self::Bytes;
    /// Of narrowed vectors of which each `C` are another pixel's: pixel after pixel.
    fn arrange<const C: usize>(self, bytes: Self::Bytes) -> Self::Bytes;
    /// Writes the `C · LANES` activations of pixel `n` of arranged ones.
    fn store<const C: usize>(self, bytes: Self::Bytes, n: usize, output: &mut [i8]);
    /// Writes the first activations, fewer than a vector has.
    fn store_partial(self, bytes: Self::Bytes, output: &mut [i8]);
}

/// A computation that is the same on every [`Simd`], all of it inlined into
/// [`Simd::vectorize`].
pub(crate) trait Kernel {
    fn run<S: Simd>(self, simd: S);
}

/// One or several kernels, called from outside of the instruction set.
pub(crate) trait Layer {
    fn run<S: Simd>(self, simd: S);
}

impl<K: Kernel> Layer for K {
    #[inline]
    fn run<S: Simd>(self, simd: S) {
        simd.vectorize(self);
    }
}

/// How scaled accumulators become activations, as the backend keeps them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clamp {
    pub(crate) zero_point: i16,
    pub(crate) min: i8,
    pub(crate) max: i8,
}

/// The channel that lane `lane` of vector `vector` of `vectors` holds.
pub(crate) fn channel_of_lane(vectors: usize, vector: usize, lane: usize) -> usize {
    4 * (vectors * (lane / 4) + vector) + lane % 4
}

/// `len` values from `start` on, without a look at the end: the bounds of a kernel's pixels follow
/// from those of its rows, which it checks once, and what a check costs is counted for each pixel.
///
/// # Safety
/// `start + len` is at most `values.len()`.
#[inline(always)]
pub(crate) unsafe fn part(values: &[i8], start: usize, len: usize) -> &[i8] {
    debug_assert!(start + len <= values.len());
    // SAFETY: the caller's promise.
    unsafe { values.get_unchecked(start..start + len) }
}

/// The same, to be written.
///
/// # Safety
/// `start + len` is at most `values.len()`.
#[inline(always)]
pub(crate) unsafe fn part_mut(values: &mut [i8], start: usize, len: usize) -> &mut [i8] {
    debug_assert!(start + len <= values.len());
    // SAFETY: the caller's promise.
    unsafe { values.get_unchecked_mut(start..start + len) }
}

// Closures and the functions of arrays that take them are compiled without the instruction
// set, and are too large to be inlined later: kernels are loops.

/// The first `C` of `N` vectors.
#[inline(always)]
pub(crate) fn first<A: Copy, const N: usize, const C: usize>(vectors: [A; N]) -> [A; C] {
    let mut taken = [vectors[0]; C];
    for c in 0..C {
        taken[c] = vectors[c % N];
    }
    taken
}

/// Fewer than 16 values as a vector's bits, without the call that a copy of so many would be.
#[inline(always)]
pub(crate) fn partial(values: &[i8]) -> u128 {
    let (low, high) = values.split_at(values.len().min(8));
    match low.first_chunk::<8>() {
        Some(low) => u128::from(read(low)) | u128::from(up_to_7(high)) << 64,
        None => up_to_7(low).into(),
    }
}

#[inline(always)]
fn read(values: &[i8; 8]) -> u64 {
    u64::from_le_bytes(bytemuck::cast(*values))
}

#[inline(always)]
fn up_to_7(values: &[i8]) -> u64 {
    let byte = |n: usize| u64::from(values[n] as u8) << (8 * n);
    match (
        values.len(),
        values.first_chunk::<4>(),
        values.last_chunk::<4>(),
    ) {
        (0, ..) => 0,
        (len @ ..8, Some(first), Some(last)) => {
            let [first, last] =
                [*first, *last].map(|four| u32::from_le_bytes(bytemuck::cast(four)));
            // Where the two overlap they agree.
            u64::from(first) | u64::from(last) << (8 * (len - 4))
        }
        (len, ..) => byte(0) | byte(len / 2) | byte(len - 1),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn partial_blocks_are_the_values_and_zeros() {
        let values: [i8; 15] = core::array::from_fn(|n| n as i8 - 7);
        for len in 0..16 {
            let mut expected = [0; 16];
            for n in 0..len {
                expected[n] = values[n] as u8;
            }
            assert_eq!(
                super::partial(&values[..len]).to_le_bytes(),
                expected,
                "{len}"
            );
        }
    }
}
