use sori_package::{Activation, Convolution, Kernel};

use super::scale::{Fast, Scale};
use super::{BLOCK, Core, Dsp, OutputChannel, PAIR, get, put};
use crate::Requantize;
use crate::kernels::pointwise::Residual;

/// Bytes of scratch for so many pixels at a time, on whichever core needs more. A pair needs none,
/// and is what all pixels are taken as where there is none.
pub(crate) fn unpacked_len(c_in: u16, pixels: u16) -> usize {
    if usize::from(pixels) <= PAIR {
        return 0;
    }
    let [c_in, pixels] = [c_in, pixels].map(usize::from);
    let units = units_of::<Dsp>(c_in) * pixels.next_multiple_of(BLOCK);
    units * size_of::<<Dsp as Core>::Unit>() + ALIGNMENT
}

/// Bytes of scratch for a block at a time of so many pixels.
pub(crate) fn least_unpacked_len(c_in: u16, pixels: u16) -> usize {
    unpacked_len(c_in, pixels.min(BLOCK as u16))
}

/// Bytes that are lost where units must begin at a whole word.
const ALIGNMENT: usize = align_of::<u32>() - 1;

/// Units of an unpacked pixel.
fn units_of<K: Core>(c_in: usize) -> usize {
    c_in.div_ceil(K::GROUP) * K::UNITS
}

/// 1×1 convolution of whole rows `[width][c_in]` to planar ones, `[c_out][width]`.
pub(crate) fn expand<K: Core>(
    core: K,
    fast: bool,
    convolution: &Convolution<'_>,
    input: &[i8],
    scratch: &mut [i8],
    output: &mut [i8],
) {
    let rows = input
        .chunks_exact(convolution.input.row_len())
        .zip(output.chunks_exact_mut(convolution.output.row_len()));
    for (input, output) in rows {
        let c_in = convolution.input.channels.into();
        let mut layer = Layer::new(core, convolution, c_in, input, output);
        layer.run::<PLANAR>(fast, scratch);
    }
}

/// 1×1 convolution of any number of pixels, `[pixels][c_in]` to `[pixels][c_out]`.
pub(crate) fn project<K: Core>(
    core: K,
    fast: bool,
    convolution: &Convolution<'_>,
    residual: Option<Residual<'_>>,
    input: &[i8],
    scratch: &mut [i8],
    output: &mut [i8],
) {
    let c_in = convolution.input.channels.into();
    let mut layer = Layer {
        residual,
        ..Layer::new(core, convolution, c_in, input, output)
    };
    layer.run::<HWC>(fast, scratch);
}

/// The stem: its windows, `[pixels][patch_len]`, as a 1×1 convolution.
pub(crate) fn stem<K: Core>(
    core: K,
    fast: bool,
    stem: &Convolution<'_>,
    patches: &[i8],
    scratch: &mut [i8],
    output: &mut [i8],
) {
    let patch_len = patches.len() / usize::from(stem.output.width);
    let mut layer = Layer::new(core, stem, patch_len, patches, output);
    layer.run::<HWC>(fast, scratch);
}

/// Where an output goes.
const PLANAR: bool = true;
const HWC: bool = false;

struct Layer<'a, K> {
    core: K,
    kernel: Kernel<'a>,
    activation: Activation,
    /// Values of an input pixel: those that have no weight do not count.
    pixel_len: usize,
    pixels: usize,
    residual: Option<Residual<'a>>,
    input: &'a [i8],
    output: &'a mut [i8],
}

impl<'a, K: Core> Layer<'a, K> {
    fn new(
        core: K,
        convolution: &Convolution<'a>,
        pixel_len: usize,
        input: &'a [i8],
        output: &'a mut [i8],
    ) -> Self {
        Self {
            core,
            kernel: convolution.kernel,
            activation: convolution.activation,
            pixel_len,
            pixels: input.len() / pixel_len,
            residual: None,
            input,
            output,
        }
    }

    /// `fast` is what the packer proved of the layer's requantization.
    #[inline(always)]
    fn run<const PLANAR: bool>(&mut self, fast: bool, scratch: &mut [i8]) {
        match fast {
            true => self.run_scaled::<Fast, PLANAR>(scratch),
            false => self.run_scaled::<Requantize, PLANAR>(scratch),
        }
    }

    /// As many pixels at a time as the scratch holds unpacked.
    #[inline(never)]
    fn run_scaled<S: Scale, const PLANAR: bool>(&mut self, scratch: &mut [i8]) {
        let (kernel, pixel_len) = (self.kernel, self.pixel_len);
        let c_out = kernel.bias.len();
        let c_in = kernel.weights.len() / c_out;
        // What loads and stores rely on.
        assert_eq!(self.output.len(), self.pixels * c_out);
        assert!(kernel.multiplier.len() == c_out && kernel.shift.len() == c_out);
        assert!(kernel.weights.len() == c_in * c_out && c_in <= pixel_len);
        if let Some(residual) = self.residual {
            assert!(residual.input.len() == self.output.len() && residual.factor.len() == c_out);
        }
        let units = units_of::<K>(c_in);
        let start = scratch.as_ptr().align_offset(align_of::<K::Unit>());
        let start = start.min(scratch.len());
        let aligned = &mut scratch[start..];
        let whole = aligned.len() / size_of::<K::Unit>() * size_of::<K::Unit>();
        // Too short to be aligned is too short to be used.
        let scratch = bytemuck::try_cast_slice_mut::<_, K::Unit>(&mut aligned[..whole]);
        let scratch = scratch.unwrap_or_default();
        let room = scratch.len() / (BLOCK * units) * BLOCK;
        let mut first = 0;
        while first < self.pixels {
            let left = self.pixels - first;
            let packed = match left.min(room) {
                // The last one of a block of three is computed and not stored.
                some if some % BLOCK == BLOCK - 1 => some,
                some => some / BLOCK * BLOCK,
            };
            let count = if packed > 0 { packed } else { left.min(PAIR) };
            let input = &self.input[first * pixel_len..][..count * pixel_len];
            if packed > 0 {
                let blocks = input
                    .chunks(BLOCK * pixel_len)
                    .zip(scratch.chunks_exact_mut(BLOCK * units));
                for (block, units) in blocks {
                    for (p, pixel) in block.chunks_exact(pixel_len).enumerate() {
                        self.core.unpack(&pixel[..c_in], &mut units[p..]);
                    }
                }
                for c in 0..c_out {
                    self.channel::<S, PLANAR>(c, first, count, scratch);
                }
            } else {
                let (low, high) = (&input[..c_in], &input[(count - 1) * pixel_len..][..c_in]);
                for c in 0..c_out {
                    self.channel_of_pair::<S, PLANAR>(c, first, count, [low, high]);
                }
            }
            first += count;
        }
    }

    /// The output channel `c` of the pixel `first` and perhaps the next one.
    #[inline(always)]
    fn channel_of_pair<S: Scale, const PLANAR: bool>(
        &mut self,
        c: usize,
        first: usize,
        count: usize,
        pixels: [&[i8]; PAIR],
    ) {
        let kernel = self.kernel;
        let c_out = kernel.bias.len();
        let c_in = kernel.weights.len() / c_out;
        // SAFETY: `run` asserted that every channel has these.
        let (weights, bias, multiplier, shift) = unsafe {
            (
                kernel.weights.get_unchecked(c * c_in..(c + 1) * c_in),
                get(kernel.bias, c),
                get(kernel.multiplier, c),
                get(kernel.shift, c),
            )
        };
        let scale = S::channel(multiplier, shift, self.activation);
        let acc = self.core.dot_pair([bias; PAIR], weights, pixels);
        for p in 0..count {
            let at = match PLANAR {
                true => c * self.pixels + first + p,
                false => (first + p) * c_out + c,
            };
            let mut acc = acc[p];
            if let (false, Some(residual)) = (PLANAR, self.residual) {
                // SAFETY: `run` asserted that every channel has a factor, and every output
                // something that is added.
                let (factor, value) = unsafe { (get(residual.factor, c), get(residual.input, at)) };
                let value = i32::from(value) - i32::from(residual.zero_point);
                acc = acc.wrapping_add(factor.wrapping_mul(value));
            }
            // SAFETY: `run` asserted that all pixels of all channels are there.
            unsafe { put(self.output, at, scale.apply(acc)) };
        }
    }

    /// The output channel `c` of the pixels from `first` on.
    #[inline(always)]
    fn channel<S: Scale, const PLANAR: bool>(
        &mut self,
        c: usize,
        first: usize,
        count: usize,
        units: &[K::Unit],
    ) {
        let (core, kernel) = (self.core, self.kernel);
        let c_out = kernel.bias.len();
        let c_in = kernel.weights.len() / c_out;
        // SAFETY: `run` asserted that every channel has these.
        let (weights, bias, multiplier, shift) = unsafe {
            (
                kernel.weights.get_unchecked(c * c_in..(c + 1) * c_in),
                get(kernel.bias, c),
                get(kernel.multiplier, c),
                get(kernel.shift, c),
            )
        };
        let (stride, at) = match PLANAR {
            true => (1, c * self.pixels + first),
            false => (c_out, first * c_out + c),
        };
        let mut channel = OutputChannel {
            scale: Fast::channel(multiplier, shift, self.activation),
            bias,
            stride,
            weights,
            pixel_units: units_of::<K>(c_in),
            residual: &[],
            factor: 0,
        };
        // SAFETY: `run` asserted that all pixels of all channels are there.
        let output = unsafe { self.output.get_unchecked_mut(at..) };
        // In whole groups of weights, the last of which may end with those of the next channel:
        // what they are multiplied with is 0.
        let groups = c * c_in..c * c_in + c_in.next_multiple_of(K::GROUP);
        if let (false, Some(residual)) = (PLANAR, self.residual) {
            // SAFETY: `run` asserted that every channel has a factor, and every output something
            // that is added.
            unsafe {
                channel.factor = get(residual.factor, c);
                channel.residual = residual.input.get_unchecked(at..);
            }
            // Wrapping: the accumulator that it belongs to fits.
            let zero = channel.factor.wrapping_mul(residual.zero_point.into());
            channel.bias = channel.bias.wrapping_sub(zero);
        }
        if let (true, Some(weights)) = (S::FAST, kernel.weights.get(groups)) {
            let whole = count / BLOCK * BLOCK;
            channel.weights = weights;
            // SAFETY: `run` unpacked so many pixels, to whole blocks.
            let (blocks, rest) = unsafe {
                let end = count.next_multiple_of(BLOCK) * channel.pixel_units;
                let units = units.get_unchecked(..end);
                units.split_at_unchecked(whole * channel.pixel_units)
            };
            let adds = !PLANAR && self.residual.is_some();
            let run = |channel: &OutputChannel<'_>, units: &[K::Unit], output: &mut [i8]| {
                // SAFETY: the units below are whole blocks, and the weights whole groups of a
                // pixel's; `run` asserted that all outputs of this channel are there and, where
                // something is added, as much of that, and `some` and `added` are a block.
                unsafe {
                    match adds {
                        true => core.blocks::<true>(channel, units, output),
                        false => core.blocks::<false>(channel, units, output),
                    }
                }
            };
            if whole > 0 {
                run(&channel, blocks, output);
            }
            if whole < count {
                let (mut some, mut added) = ([0; BLOCK], [0; BLOCK]);
                for p in 0..if adds { count - whole } else { 0 } {
                    added[p] = channel.residual[(whole + p) * stride];
                }
                let channel = OutputChannel {
                    stride: 1,
                    residual: &added,
                    ..channel
                };
                run(&channel, rest, &mut some);
                for (p, &value) in some[..count - whole].iter().enumerate() {
                    // SAFETY: so many pixels are left.
                    unsafe { put(output, (whole + p) * stride, value) };
                }
            }
            return;
        }
        let scale = S::channel(multiplier, shift, self.activation);
        let blocks = units.chunks_exact(BLOCK * channel.pixel_units);
        for (block, first) in blocks.zip((0..count).step_by(BLOCK)) {
            let acc = core.dot([channel.bias; BLOCK], channel.weights, block);
            for p in 0..BLOCK.min(count - first) {
                let place = (first + p) * stride;
                let mut acc = acc[p];
                if !channel.residual.is_empty() {
                    let added = i32::from(channel.residual[place]);
                    acc = acc.wrapping_add(channel.factor.wrapping_mul(added));
                }
                // SAFETY: so many pixels are left.
                unsafe { put(output, place, scale.apply(acc)) };
            }
        }
    }
}
