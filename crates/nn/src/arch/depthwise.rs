use bytemuck::cast_slice;
use sori_package::Spatial;

use super::pack::{Header, Layout};
use super::simd::{Clamp, Kernel, Simd};

/// Any number of output rows of a 3×3 depthwise convolution, each from three input rows
/// `[width][channels]`.
///
/// Channels are taken a group at a time; its weights stay at hand while the window slides along
/// the row, and each column of the window is interleaved once.
pub(crate) struct Depthwise<'a, R> {
    pub(crate) layout: Layout,
    pub(crate) region: &'a [u8],
    pub(crate) channels: usize,
    pub(crate) spatial: Spatial,
    pub(crate) clamp: Clamp,
    /// What the padding is made of, as the backend keeps it.
    pub(crate) padding: i8,
    /// The input rows of an output row.
    pub(crate) rows: R,
    /// Values of an output row.
    pub(crate) row_len: usize,
    pub(crate) output: &'a mut [i8],
}

/// Vectors of accumulators that go with one of bytes.
const VECTORS: usize = 4;

impl<'r, R: Fn(usize) -> [&'r [i8]; 3]> Kernel for Depthwise<'_, R> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (header, mut rest) = self.region.split_at(size_of::<Header>());
        let float = bytemuck::from_bytes::<Header>(header).float != 0;
        for group in self.layout.groups(self.channels) {
            rest = match group.half {
                false => self.group(simd, float, group.first, rest),
                true => self.group(simd.half(), float, group.first, rest),
            };
        }
    }
}

impl<'a, 'r, R: Fn(usize) -> [&'r [i8]; 3]> Depthwise<'a, R> {
    #[inline(always)]
    fn group<S: Simd>(&mut self, simd: S, float: bool, first: usize, region: &'a [u8]) -> &'a [u8] {
        let vectors = size_of::<[S::LaneBlock; VECTORS]>();
        let (parameters, rest) = region.split_at(3 * vectors);
        let (weights, rest) = rest.split_at(3 * vectors);
        let group = Group {
            simd,
            clamp: self.clamp,
            float,
            first,
            parameters: cast_slice::<u8, S::LaneBlock>(parameters).as_chunks().0,
            weights: cast_slice::<u8, S::ByteBlock>(weights).as_chunks().0,
        };
        if first + VECTORS * S::LANES <= self.channels {
            self.rows::<S, true>(&group);
        } else {
            self.rows::<S, false>(&group);
        }
        rest
    }

    #[inline(always)]
    fn rows<S: Simd, const WHOLE: bool>(&mut self, group: &Group<'_, S>) {
        let simd = group.simd;
        let padding = simd.splat(self.padding);
        let padding = simd.interleave([padding; 3]);
        for (n, output) in self.output.chunks_exact_mut(self.row_len).enumerate() {
            let [a, b, c] = (self.rows)(n);
            let mut columns = Columns {
                group,
                padding,
                before: self.spatial.pad_freq[0].into(),
                rows: [a, b, c].map(|row| row.chunks_exact(self.channels)),
            };
            let pixels = output.chunks_exact_mut(self.channels);
            match self.spatial.stride_freq {
                1 => columns.stride_1::<WHOLE>(pixels),
                _ => columns.stride_2::<WHOLE>(pixels),
            }
        }
    }
}

/// One group of channels.
struct Group<'a, S: Simd> {
    simd: S,
    clamp: Clamp,
    float: bool,
    /// First channel.
    first: usize,
    /// Bias, multiplier, shift.
    parameters: &'a [[S::LaneBlock; VECTORS]],
    /// For each kx.
    weights: &'a [[S::ByteBlock; VECTORS]],
}

/// A group's columns of three rows, padding on both sides included.
struct Columns<'g, 'a, 'r, S: Simd> {
    group: &'g Group<'a, S>,
    padding: [S::Input; VECTORS],
    /// Columns of padding that are still to come.
    before: usize,
    rows: [core::slice::ChunksExact<'r, i8>; 3],
}

impl<S: Simd> Columns<'_, '_, '_, S> {
    #[inline(always)]
    fn stride_1<const WHOLE: bool>(&mut self, mut pixels: core::slice::ChunksExactMut<'_, i8>) {
        let mut a = self.next::<WHOLE>();
        let mut b = self.next::<WHOLE>();
        // Three at a time, so that no column moves from register to register.
        while pixels.len() >= 3 {
            let c = self.next::<WHOLE>();
            self.group.pixel::<WHOLE>([a, b, c], pixels.next());
            a = self.next::<WHOLE>();
            self.group.pixel::<WHOLE>([b, c, a], pixels.next());
            b = self.next::<WHOLE>();
            self.group.pixel::<WHOLE>([c, a, b], pixels.next());
        }
        if pixels.len() > 0 {
            let c = self.next::<WHOLE>();
            self.group.pixel::<WHOLE>([a, b, c], pixels.next());
            if pixels.len() > 0 {
                a = self.next::<WHOLE>();
                self.group.pixel::<WHOLE>([b, c, a], pixels.next());
            }
        }
    }

    #[inline(always)]
    fn stride_2<const WHOLE: bool>(&mut self, mut pixels: core::slice::ChunksExactMut<'_, i8>) {
        let mut a = self.next::<WHOLE>();
        while pixels.len() > 0 {
            let b = self.next::<WHOLE>();
            let c = self.next::<WHOLE>();
            self.group.pixel::<WHOLE>([a, b, c], pixels.next());
            a = c;
        }
    }

    #[inline(always)]
    fn next<const WHOLE: bool>(&mut self) -> [S::Input; VECTORS] {
        if self.before > 0 {
            self.before -= 1;
            return self.padding;
        }
        let [a, b, c] = &mut self.rows;
        match (a.next(), b.next(), c.next()) {
            (Some(a), Some(b), Some(c)) => self.group.simd.interleave([
                self.group.bytes::<WHOLE>(a),
                self.group.bytes::<WHOLE>(b),
                self.group.bytes::<WHOLE>(c),
            ]),
            _ => self.padding,
        }
    }
}

impl<S: Simd> Group<'_, S> {
    /// The group's channels of one pixel.
    #[inline(always)]
    fn bytes<const WHOLE: bool>(&self, pixel: &[i8]) -> S::Bytes {
        let values = &pixel[self.first..];
        if WHOLE {
            let values: &[S::ByteBlock] = cast_slice(&values[..size_of::<S::ByteBlock>()]);
            self.simd.bytes(&values[0])
        } else {
            self.simd.bytes_partial(values)
        }
    }

    #[inline(always)]
    fn pixel<const WHOLE: bool>(
        &self,
        columns: [[S::Input; VECTORS]; 3],
        output: Option<&mut [i8]>,
    ) {
        let Some(output) = output else {
            return;
        };
        let simd = self.simd;
        let [bias, multiplier, shift] = self.parameters else {
            return;
        };
        let mut acc = simd.all_lanes(bias);
        for v in 0..VECTORS {
            for kx in 0..3 {
                let weights = simd.weights(&self.weights[kx][v]);
                acc[v] = simd.dot(acc[v], columns[kx][v], weights);
            }
        }
        let bytes = if self.float {
            for v in 0..VECTORS {
                acc[v] = simd.scale_float(acc[v], simd.lanes(&multiplier[v]), self.clamp);
            }
            simd.narrow::<true>(acc, self.clamp)
        } else {
            for v in 0..VECTORS {
                let (multiplier, shift) = (simd.lanes(&multiplier[v]), simd.lanes(&shift[v]));
                acc[v] = simd.scale(acc[v], multiplier, shift);
            }
            simd.narrow::<false>(acc, self.clamp)
        };
        let output = &mut output[self.first..];
        if WHOLE {
            simd.store::<VECTORS>(bytes, 0, output);
        } else {
            simd.store_partial(bytes, output);
        }
    }
}
