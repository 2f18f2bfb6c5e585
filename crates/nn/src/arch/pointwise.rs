use bytemuck::cast_slice;

use super::pack::{Header, Layout, Panels};
use super::simd::{Clamp, Kernel, Layer, Simd, part, part_mut};

/// 1×1 convolution of any number of pixels, `[pixels][c_in]` to `[pixels][c_out]`.
///
/// Output channels are taken a panel at a time, so that its weights stay in the first-level
/// cache, and pixels a tile at a time, whose accumulators stay in registers.
pub(crate) struct Pointwise<'a> {
    pub(crate) layout: Layout,
    pub(crate) region: &'a [u8],
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
    pub(crate) clamp: Clamp,
    /// What the residual adds, `[pixels][c_out]`, if the layer was packed with one.
    pub(crate) residual: Option<&'a [i8]>,
    pub(crate) input: &'a [i8],
    pub(crate) output: &'a mut [i8],
}

impl Layer for Pointwise<'_> {
    #[inline]
    fn run<S: Simd>(mut self, simd: S) {
        let (header, mut rest) = self.region.split_at(size_of::<Header>());
        let fast = bytemuck::from_bytes::<Header>(header).fast != 0;
        for panels in self.layout.panels(self.c_out) {
            let layer = &mut self;
            rest = match (panels.vectors, panels.whole) {
                (4, _) => layer.panels::<S, 4, true>(simd, fast, panels, rest),
                (2, _) => layer.panels::<S, 2, true>(simd, fast, panels, rest),
                (_, true) if S::HAS_HALF && panels.half => {
                    layer.panels::<S::Half, 1, true>(simd.half(), fast, panels, rest)
                }
                (_, false) if S::HAS_HALF && panels.half => {
                    layer.panels::<S::Half, 1, false>(simd.half(), fast, panels, rest)
                }
                (_, true) => layer.panels::<S, 1, true>(simd, fast, panels, rest),
                (_, false) => layer.panels::<S, 1, false>(simd, fast, panels, rest),
            };
        }
    }
}

impl<'a> Pointwise<'a> {
    /// Runs panels of `C` vectors, `WHOLE` or not; what of the region comes after them.
    #[inline]
    fn panels<S: Simd, const C: usize, const WHOLE: bool>(
        &mut self,
        simd: S,
        fast: bool,
        panels: Panels,
        region: &'a [u8],
    ) -> &'a [u8] {
        let vectors = 3 + usize::from(self.residual.is_some()) + self.c_in.div_ceil(4);
        let len = panels.count * vectors * size_of::<[S::LaneBlock; C]>();
        let (region, rest) = region.split_at(len);
        simd.vectorize(Run::<C, WHOLE> {
            layer: self,
            fast,
            panels,
            region,
        });
        rest
    }
}

/// Panels over all pixels.
struct Run<'l, 'a, const C: usize, const WHOLE: bool> {
    layer: &'l mut Pointwise<'a>,
    fast: bool,
    panels: Panels,
    region: &'a [u8],
}

impl<const C: usize, const WHOLE: bool> Kernel for Run<'_, '_, C, WHOLE> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let layer = self.layer;
        let (c_in, c_out) = (layer.c_in, layer.c_out);
        let pixels = layer.output.len() / c_out;
        assert_eq!(layer.input.len(), pixels * c_in);
        let vectors = size_of::<[S::LaneBlock; C]>();
        let parameters = (3 + usize::from(layer.residual.is_some())) * vectors;
        let regions = self
            .region
            .chunks_exact(parameters + c_in.div_ceil(4) * vectors);
        for (first, region) in self.panels.starts(C * S::LANES).zip(regions) {
            let (parameters, weights) = region.split_at(parameters);
            let panel = Panel::<S, C, WHOLE> {
                simd,
                c_in,
                c_out,
                clamp: layer.clamp,
                fast: self.fast,
                first,
                parameters: cast_slice::<u8, S::LaneBlock>(parameters).as_chunks().0,
                weights: cast_slice::<u8, S::ByteBlock>(weights).as_chunks().0,
            };
            let mut done = 0;
            // A few sizes are enough: each is compiled for each number of vectors.
            if const { has_tiles_of::<S, C, WHOLE>(8) } {
                done = panel.tiles::<8>(layer, pixels, done);
            }
            if const { has_tiles_of::<S, C, WHOLE>(6) } {
                done = panel.tiles::<6>(layer, pixels, done);
            }
            if const { has_tiles_of::<S, C, WHOLE>(4) } {
                done = panel.tiles::<4>(layer, pixels, done);
            }
            if const { has_tiles_of::<S, C, WHOLE>(3) } {
                done = panel.tiles::<3>(layer, pixels, done);
            }
            if const { has_tiles_of::<S, C, WHOLE>(2) } {
                done = panel.tiles::<2>(layer, pixels, done);
            }
            panel.tiles::<1>(layer, pixels, done);
        }
    }
}

/// Whether a panel takes so many pixels at a time.
const fn has_tiles_of<S: Simd, const C: usize, const WHOLE: bool>(pixels: usize) -> bool {
    let most = match C {
        4 => S::PIXELS[0],
        2 => S::PIXELS[1],
        _ if WHOLE => S::PIXELS[2],
        _ => FEW,
    };
    let is_size = match C {
        4 => matches!(pixels, 6 | 3 | 2 | 1),
        _ => matches!(pixels, 8 | 4 | 2 | 1),
    };
    is_size && pixels <= most
}

/// Pixels of a tile whose vectors are not full, which is rare: less code.
const FEW: usize = 1;

/// `C` vectors of output channels.
#[derive(Clone, Copy)]
struct Panel<'a, S: Simd, const C: usize, const WHOLE: bool> {
    simd: S,
    c_in: usize,
    c_out: usize,
    clamp: Clamp,
    fast: bool,
    /// First output channel.
    first: usize,
    /// Bias, multiplier, shift, and K with a residual.
    parameters: &'a [[S::LaneBlock; C]],
    /// For each four input channels.
    weights: &'a [[S::ByteBlock; C]],
}

// A loop that is not unrolled, or a call, puts the accumulators in memory: what is done for each
// pixel is written out, and what would call `memcpy` is kept out of whole tiles.
macro_rules! for_each_pixel {
    ($pixels:ident, |$p:ident| $body:expr) => {
        for_each_pixel!(@ $pixels $p $body; 0 1 2 3 4 5 6 7)
    };
    (@ $pixels:ident $p:ident $body:expr; $($n:literal)*) => {$(
        if const { $n < $pixels } {
            let $p = const { if $n < $pixels { $n } else { 0 } };
            $body
        }
    )*};
}

impl<S: Simd, const C: usize, const WHOLE: bool> Panel<'_, S, C, WHOLE> {
    /// Runs as many tiles of `P` pixels as there are after the `done` first; how many are done then.
    #[inline(always)]
    fn tiles<const P: usize>(
        &self,
        layer: &mut Pointwise<'_>,
        pixels: usize,
        done: usize,
    ) -> usize {
        let end = done + (pixels - done) / P * P;
        let (input_len, output_len) = (P * self.c_in, P * self.c_out);
        let written = done * self.c_out..end * self.c_out;
        let residual = layer.residual.map(|residual| &residual[written.clone()]);
        let inputs = layer.input[done * self.c_in..end * self.c_in].chunks_exact(input_len);
        let outputs = layer.output[written].chunks_exact_mut(output_len);
        for (n, (input, output)) in inputs.zip(outputs).enumerate() {
            let residual = residual.map(|residual| &residual[n * output_len..][..output_len]);
            self.tile::<P>(input, residual, output);
        }
        end
    }

    #[inline(always)]
    fn tile<const P: usize>(&self, input: &[i8], residual: Option<&[i8]>, output: &mut [i8]) {
        let simd = self.simd;
        let mut acc = [simd.all_lanes(&self.parameters[0]); P];
        let whole = self.c_in / (4 * S::STEPS);
        assert!(input.len() == P * self.c_in && output.len() == P * self.c_out);
        let mut blocks: [&[S::InputBlock]; P] = [&[]; P];
        for_each_pixel!(P, |p| {
            // SAFETY: of P pixels this is the beginning of number p, as just asserted.
            let pixel = unsafe { part(input, p * self.c_in, 4 * S::STEPS * whole) };
            blocks[p] = &cast_slice(pixel)[..whole];
        });
        let (weights, last) = self.weights.split_at(S::STEPS * whole);
        let steps = blocks[0].iter().zip(weights.chunks_exact(S::STEPS));
        for (k, (block, weights)) in steps.enumerate() {
            let mut input = [simd.input(block); P];
            for_each_pixel!(P, |p| if p > 0 {
                input[p] = simd.input(&blocks[p][k]);
            });
            self.steps(&mut acc, input, weights);
        }
        if !last.is_empty() {
            let (from, len) = (4 * S::STEPS * whole, self.c_in % (4 * S::STEPS));
            let mut rests = [simd.input_partial(&input[from..][..len]); P];
            for_each_pixel!(P, |p| if p > 0 {
                // SAFETY: of P pixels this is the end of number p.
                rests[p] = simd.input_partial(unsafe { part(input, p * self.c_in + from, len) });
            });
            self.steps(&mut acc, rests, last);
        }

        if let Some(residual) = residual {
            for_each_pixel!(P, |p| {
                self.add(&mut acc[p], &residual[p * self.c_out + self.first..]);
            });
        }
        match self.fast {
            true => self.finish::<P, true>(acc, output),
            false => self.finish::<P, false>(acc, output),
        }
    }

    /// Requantizes and writes the tile.
    #[inline(always)]
    fn finish<const P: usize, const FAST: bool>(
        &self,
        mut acc: [[S::Acc; C]; P],
        output: &mut [i8],
    ) {
        let simd = self.simd;
        for_each_pixel!(P, |p| for c in 0..C {
            let multiplier = simd.lanes(&self.parameters[1][c]);
            let shift = simd.lanes(&self.parameters[2][c]);
            acc[p][c] = simd.scale::<FAST>(acc[p][c], multiplier, shift, self.clamp);
        });
        for_each_pixel!(P, |p| if p % (4 / C) == 0 {
            // What is not there is not stored, and anything will do for it.
            let scaled = [
                acc[p][0],
                acc[(p + 1 / C) % P][1 % C],
                acc[(p + 2 / C) % P][2 % C],
                acc[(p + 3 / C) % P][3 % C],
            ];
            let bytes = simd.narrow::<FAST>(scaled, self.clamp);
            self.store(bytes, p, (P - p).min(4 / C), output);
        });
    }

    /// Up to `STEPS` times four input channels of each pixel.
    #[inline(always)]
    fn steps<const P: usize>(
        &self,
        acc: &mut [[S::Acc; C]; P],
        input: [S::Input; P],
        weights: &[[S::ByteBlock; C]],
    ) {
        if let Some(weights) = weights.first() {
            self.step::<P, 0>(acc, input, weights);
        }
        if const { S::STEPS >= 2 }
            && let Some(weights) = weights.get(1)
        {
            self.step::<P, 1>(acc, input, weights);
        }
        if const { S::STEPS >= 4 } {
            if let Some(weights) = weights.get(2) {
                self.step::<P, 2>(acc, input, weights);
            }
            if let Some(weights) = weights.get(3) {
                self.step::<P, 3>(acc, input, weights);
            }
        }
    }

    #[inline(always)]
    fn step<const P: usize, const STEP: usize>(
        &self,
        acc: &mut [[S::Acc; C]; P],
        input: [S::Input; P],
        weights: &[S::ByteBlock; C],
    ) {
        for c in 0..C {
            let weights = self.simd.weights(&weights[c]);
            for_each_pixel!(P, |p| {
                acc[p][c] = self.simd.dot_step::<STEP>(acc[p][c], input[p], weights);
            });
        }
    }

    /// Adds the residual of one pixel.
    #[inline(always)]
    fn add(&self, acc: &mut [S::Acc; C], residual: &[i8]) {
        let simd = self.simd;
        let values = if WHOLE {
            simd.widen::<C>(residual)
        } else {
            let mut padded = [0; MOST];
            let count = residual.len().min(self.c_out - self.first);
            padded[..count].copy_from_slice(&residual[..count]);
            simd.widen::<C>(&padded)
        };
        for c in 0..C {
            let factor = simd.lanes(&self.parameters[3][c]);
            acc[c] = simd.multiply_add(acc[c], values[c], factor);
        }
    }

    /// Writes `count` pixels from pixel `p` of the tile on, `C` vectors each.
    #[inline(always)]
    fn store(&self, bytes: S::Bytes, p: usize, count: usize, output: &mut [i8]) {
        let simd = self.simd;
        let bytes = simd.arrange::<C>(bytes);
        for_each_pixel!(MOST_PIXELS, |n| if n < count {
            let start = (p + n) * self.c_out + self.first;
            if WHOLE {
                // SAFETY: the tile asserted that its pixels are all there, and the channels of a
                // whole panel are.
                simd.store::<C>(bytes, n, unsafe { part_mut(output, start, C * S::LANES) });
            } else {
                let output = &mut output[start..];
                let mut block = [0; MOST];
                simd.store::<C>(bytes, n, &mut block);
                let channels = self.c_out - self.first;
                output[..channels].copy_from_slice(&block[..channels]);
            }
        });
    }
}

/// Activations of the widest panel.
const MOST: usize = 64;

/// Pixels that one vector of bytes can hold.
const MOST_PIXELS: usize = 4;
