//! Cortex-M: kernels that read a package's weights where they are, in flash.
//!
//! One order of weights serves every processor here, so nothing is packed and nothing is kept
//! twice; what has to be arranged is the activations, a few pixels at a time. Written once for
//! both kinds of core, in the operations of [`Core`]: [`Dsp`](dsp::Dsp) multiplies two pairs of
//! 16 bits at a time (M4, M7, M33), [`Plain`](plain::Plain) one number (M3).
//!
//! # Order of activations
//! Expanded rows are planar, `[channel][width]`: what a depthwise kernel multiplies lies side by
//! side then, and a word holds four columns of it. Every other tensor is HWC.

mod depthwise;
mod dsp;
mod plain;
mod pointwise;
mod scale;

use bytemuck::Pod;
pub(crate) use depthwise::depthwise;
pub(crate) use dsp::Dsp;
pub(crate) use plain::Plain;
pub(crate) use pointwise::{expand, least_unpacked_len, project, stem, unpacked_len};
use scale::Fast;
pub(crate) use scale::is_fast;
use sori_package::TensorShape;

/// Where there is no such core and no test emulates one, the kernels are not compiled.
pub(crate) const COMPILED: bool = cfg!(any(test, feature = "testing", target_arch = "arm"));

/// What the kernels are written in.
///
/// The two loops that make up a network's time are provided in Rust, in terms of the rest. A core
/// has them in assembler, because the compiler brings loads forward until accumulators are in
/// memory; elsewhere, tests run the same kernels with the loops in Rust.
pub(crate) trait Core: Copy {
    /// Part of an unpacked activation.
    type Unit: Pod;
    /// Weights of one channel's 3×3 kernel.
    type Taps: Copy;

    /// Input channels that are multiplied together.
    const GROUP: usize;
    /// Units that a group of one pixel becomes.
    const UNITS: usize;

    /// Unpacks one pixel; its units go to every [`BLOCK`]th place, those of a block being
    /// interleaved. What fills the last group up is 0.
    fn unpack(self, pixel: &[i8], units: &mut [Self::Unit]);

    /// `acc[p] + Σ weights · pixel[p]`, of a block's pixels.
    fn dot(self, acc: [i32; BLOCK], weights: &[i8], units: &[Self::Unit]) -> [i32; BLOCK];

    /// The same of two pixels as they are.
    fn dot_pair(self, acc: [i32; PAIR], weights: &[i8], pixels: [&[i8]; PAIR]) -> [i32; PAIR];

    /// One output channel of whole blocks of pixels, with a residual or without, the first output
    /// at `output`'s first place.
    ///
    /// # Safety
    /// `units` is whole blocks of [`BLOCK`] pixels of `channel.pixel_units`, of which the weights
    /// have as many groups as make those, and at least one. The last of the outputs,
    /// `channel.stride` places apart, is within `output`; with `ADDS` as much is there of
    /// `channel.residual`.
    #[inline(always)]
    unsafe fn blocks<const ADDS: bool>(
        self,
        channel: &OutputChannel<'_>,
        units: &[Self::Unit],
        output: &mut [i8],
    ) {
        let mut at = 0;
        for units in units.chunks_exact(BLOCK * channel.pixel_units) {
            let acc = self.dot([channel.bias; BLOCK], channel.weights, units);
            for acc in acc {
                let added = match ADDS {
                    true => channel.factor.wrapping_mul(channel.residual[at].into()),
                    false => 0,
                };
                output[at] = scale::Scale::apply(channel.scale, acc.wrapping_add(added));
                at += channel.stride;
            }
        }
    }

    /// Of weights `[ky][kx]`.
    fn taps(self, weights: [i8; 9]) -> Self::Taps;

    /// Four neighbouring outputs of a 3×3 kernel with stride 1.
    fn quad(self, bias: i32, rows: [&[i8; SPAN]; 3], taps: &Self::Taps) -> [i32; 4];

    /// Two of stride 2, from the same columns, of which the last one does not count.
    fn pair(self, bias: i32, rows: [&[i8; SPAN]; 3], taps: &Self::Taps) -> [i32; 2];

    /// One channel of a row of windows [`STEP`] columns apart, the first output at `output`'s first
    /// place.
    ///
    /// # Safety
    /// `count` is 1 to [`MOST_WINDOWS`], `channel.start` at most [`FIRST_COLUMN`] and so much more
    /// that the last window ends within the columns. The last of the outputs, `channel.stride`
    /// places apart, is within `output`.
    #[inline(always)]
    unsafe fn windows<const STRIDE: usize>(
        self,
        channel: &DepthwiseChannel<Self::Taps>,
        columns: &Columns,
        count: usize,
        output: &mut [i8],
    ) {
        depthwise::windows::<_, _, STRIDE>(self, channel, channel.scale, columns, count, output);
    }
}

/// Pixels whose accumulators stay in registers. In a row's last block some may be nobody's.
const BLOCK: usize = 4;

/// Pixels that are not worth unpacking.
const PAIR: usize = 2;

/// Columns by which a window of the depthwise kernel moves: four outputs, or two of stride 2.
const STEP: usize = 4;
/// Columns that they are computed from.
const SPAN: usize = 6;
/// Windows that are computed together.
const MOST_WINDOWS: usize = 16;
/// Columns of a plane, and where they begin: what lies before is padding.
const COLUMNS: usize = FIRST_COLUMN + MOST_WINDOWS * STEP + SPAN;
const FIRST_COLUMN: usize = 4;

/// One channel of three rows, with padding around them.
#[repr(align(4))]
pub(crate) struct Columns([[i8; COLUMNS.next_multiple_of(4)]; 3]);

/// One output channel of a 1×1 convolution.
pub(crate) struct OutputChannel<'a> {
    scale: Fast,
    bias: i32,
    /// Places from one pixel's output to the next one's.
    stride: usize,
    weights: &'a [i8],
    /// Units of a pixel.
    pixel_units: usize,
    /// What is added to an accumulator, times the factor: as long as the outputs, or none.
    residual: &'a [i8],
    factor: i32,
}

/// One channel of a depthwise convolution.
pub(crate) struct DepthwiseChannel<T> {
    scale: Fast,
    bias: i32,
    /// Places from one pixel's output to the next one's.
    stride: usize,
    /// Columns before the first window.
    start: usize,
    taps: T,
}

/// What the loop over blocks reads: words at places that the assembler knows.
#[cfg(target_arch = "arm")]
#[repr(C)]
struct BlockLoop {
    scale: Fast,
    stride: usize,
    /// Where the next block's outputs begin.
    output: *mut i8,
    weights: *const i8,
    /// Turns of the loop over input channels.
    turns: usize,
    bias: i32,
    /// Of the units.
    end: *const u8,
    /// Where what is added to the next block's accumulators begins.
    residual: *const i8,
    factor: i32,
}

#[cfg(target_arch = "arm")]
impl BlockLoop {
    #[inline(always)]
    fn new(channel: &OutputChannel<'_>, turns: usize, end: *const u8, output: &mut [i8]) -> Self {
        Self {
            scale: channel.scale,
            stride: channel.stride,
            output: output.as_mut_ptr(),
            weights: channel.weights.as_ptr(),
            turns,
            bias: channel.bias,
            end,
            residual: channel.residual.as_ptr(),
            factor: channel.factor,
        }
    }
}

/// What the loop over windows reads, likewise.
#[cfg(target_arch = "arm")]
#[repr(C)]
struct WindowLoop<T> {
    scale: Fast,
    stride: usize,
    bias: i32,
    /// Where the first row's window after the last one would begin.
    end: *const i8,
    taps: T,
}

#[cfg(target_arch = "arm")]
impl<T: Copy> WindowLoop<T> {
    /// And where each row's first window begins.
    #[inline(always)]
    fn new(
        channel: &DepthwiseChannel<T>,
        columns: &Columns,
        count: usize,
    ) -> (Self, [*const i8; 3]) {
        debug_assert!(count > 0);
        let last = channel.start + count * STEP;
        let windows = columns
            .0
            .each_ref()
            .map(|row| row.as_ptr().wrapping_add(channel.start));
        let turns = Self {
            scale: channel.scale,
            stride: channel.stride,
            bias: channel.bias,
            end: columns.0[0].as_ptr().wrapping_add(last),
            taps: channel.taps,
        };
        (turns, windows)
    }
}

/// Rows `[width][channels]` as the depthwise kernel wants them, `[channels][width]` each.
pub(crate) fn transpose(shape: TensorShape, input: &[i8], output: &mut [i8]) {
    let channels = usize::from(shape.channels);
    let rows = input
        .chunks_exact(shape.row_len())
        .zip(output.chunks_exact_mut(shape.row_len()));
    for (input, output) in rows {
        for (c, plane) in output.chunks_exact_mut(shape.width.into()).enumerate() {
            let channel = input[c..].iter().step_by(channels);
            for (to, &from) in plane.iter_mut().zip(channel) {
                *to = from;
            }
        }
    }
}

/// Without a look at the end: bounds are checked once a layer, and what a check costs is counted
/// for each output.
///
/// # Safety
/// `at` is less than `values.len()`.
#[inline(always)]
unsafe fn get<T: Copy>(values: &[T], at: usize) -> T {
    debug_assert!(at < values.len());
    // SAFETY: the caller's promise.
    unsafe { *values.get_unchecked(at) }
}

/// The same, to be written.
///
/// # Safety
/// `at` is less than `values.len()`.
#[inline(always)]
unsafe fn put(values: &mut [i8], at: usize, value: i8) {
    debug_assert!(at < values.len());
    // SAFETY: the caller's promise.
    unsafe { *values.get_unchecked_mut(at) = value };
}

/// Fewer than four values, the first in the lowest byte, and zeros.
#[inline(always)]
fn partial_word(values: &[i8]) -> u32 {
    let mut word = 0;
    for (n, &value) in values.iter().take(3).enumerate() {
        word |= u32::from(value as u8) << (8 * n);
    }
    word
}
