use bytemuck::cast_slice;
use sori_package::Spatial;

use super::pack::{Header, Layout, Panels};
use super::simd::{Clamp, Kernel, Layer, Simd, part, part_mut};

/// Any number of output rows of a 3×3 depthwise convolution, each from three input rows
/// `[width][channels]`.
///
/// Channels are taken a group at a time; its weights stay at hand while the window slides along
/// the row, and each column of the window is interleaved once.
pub(crate) struct Depthwise<'a> {
    pub(crate) layout: Layout,
    pub(crate) region: &'a [u8],
    pub(crate) channels: usize,
    pub(crate) spatial: Spatial,
    pub(crate) clamp: Clamp,
    /// What the padding is made of, as the backend keeps it.
    pub(crate) padding: i8,
    /// Pixels of an input row.
    pub(crate) width: usize,
    /// The input rows of each output row.
    pub(crate) windows: &'a [[&'a [i8]; 3]],
    /// Values of an output row.
    pub(crate) row_len: usize,
    pub(crate) output: &'a mut [i8],
}

/// Vectors of accumulators that go with one of bytes.
const VECTORS: usize = 4;

impl Layer for Depthwise<'_> {
    #[inline]
    fn run<S: Simd>(mut self, simd: S) {
        let (header, mut rest) = self.region.split_at(size_of::<Header>());
        let fast = bytemuck::from_bytes::<Header>(header).fast != 0;
        for groups in self.layout.groups(self.channels) {
            rest = match S::HAS_HALF && groups.half {
                true => self.groups(simd.half(), fast, groups, rest),
                false => self.groups(simd, fast, groups, rest),
            };
        }
    }
}

/// Vectors of parameters and weights for each vector of channels.
const PARAMETERS: usize = 3;
const WEIGHTS: usize = 3;

impl<'a> Depthwise<'a> {
    /// Runs some groups; what of the region comes after them.
    #[inline]
    fn groups<S: Simd>(
        &mut self,
        simd: S,
        fast: bool,
        groups: Panels,
        region: &'a [u8],
    ) -> &'a [u8] {
        let len = groups.count * (PARAMETERS + WEIGHTS) * size_of::<[S::LaneBlock; VECTORS]>();
        let (region, rest) = region.split_at(len);
        let layer = self;
        match (groups.whole, fast) {
            (true, true) => simd.vectorize(Run::<true, true> {
                layer,
                groups,
                region,
            }),
            (true, false) => simd.vectorize(Run::<true, false> {
                layer,
                groups,
                region,
            }),
            (false, true) => simd.vectorize(Run::<false, true> {
                layer,
                groups,
                region,
            }),
            (false, false) => simd.vectorize(Run::<false, false> {
                layer,
                groups,
                region,
            }),
        }
        rest
    }
}

/// Groups over all rows.
struct Run<'l, 'a, const WHOLE: bool, const FAST: bool> {
    layer: &'l mut Depthwise<'a>,
    groups: Panels,
    region: &'a [u8],
}

impl<const WHOLE: bool, const FAST: bool> Kernel for Run<'_, '_, WHOLE, FAST> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let layer = self.layer;
        let padding = simd.splat(layer.padding);
        let padding = simd.interleave([padding; 3]);
        let vectors = size_of::<[S::LaneBlock; VECTORS]>();
        let regions = self.region.chunks_exact((PARAMETERS + WEIGHTS) * vectors);
        for (first, region) in self.groups.starts(VECTORS * S::LANES).zip(regions) {
            let (parameters, weights) = region.split_at(PARAMETERS * vectors);
            let group = Group {
                simd,
                clamp: layer.clamp,
                first,
                channels: layer.channels,
                stride: layer.spatial.stride_freq.into(),
                pad_low: layer.spatial.pad_freq[0].into(),
                parameters: cast_slice::<u8, S::LaneBlock>(parameters).as_chunks().0,
                weights: cast_slice::<u8, S::ByteBlock>(weights).as_chunks().0,
            };
            let outputs = layer.output.chunks_exact_mut(layer.row_len);
            for (output, &rows) in outputs.zip(layer.windows) {
                let row = Row {
                    group: &group,
                    padding,
                    width: layer.width,
                    rows,
                };
                row.run::<WHOLE, FAST>(output);
            }
        }
    }
}

/// One group of channels.
struct Group<'a, S: Simd> {
    simd: S,
    clamp: Clamp,
    /// First channel.
    first: usize,
    /// Of a pixel.
    channels: usize,
    stride: usize,
    pad_low: usize,
    /// Bias, multiplier, shift.
    parameters: &'a [[S::LaneBlock; VECTORS]],
    /// For each kx.
    weights: &'a [[S::ByteBlock; VECTORS]],
}

/// A group's channels of three rows.
struct Row<'g, 'a, 'r, S: Simd> {
    group: &'g Group<'a, S>,
    padding: [S::Input; VECTORS],
    /// Pixels of an input row.
    width: usize,
    rows: [&'r [i8]; 3],
}

impl<S: Simd> Row<'_, '_, '_, S> {
    #[inline(always)]
    fn run<const WHOLE: bool, const FAST: bool>(&self, output: &mut [i8]) {
        let Group {
            stride,
            pad_low,
            channels,
            ..
        } = *self.group;
        // What `column` and `pixel` rely on.
        assert!(
            self.rows
                .iter()
                .all(|row| row.len() == self.width * channels)
        );
        let width_out = output.len() / channels;
        // Windows between these hang over neither edge.
        let first = pad_low.div_ceil(stride).min(width_out);
        let last = match (self.width + pad_low).checked_sub(3) {
            Some(last) => (last / stride + 1).clamp(first, width_out),
            None => first,
        };
        for x in (0..first).chain(last..width_out) {
            let start = x * stride;
            let columns = [
                self.any_column::<WHOLE>(start),
                self.any_column::<WHOLE>(start + 1),
                self.any_column::<WHOLE>(start + 2),
            ];
            self.pixel::<WHOLE, FAST>(columns, x * channels + self.group.first, output);
        }
        if first == last {
            return;
        }
        // Where the next column and the next output pixel begin.
        let mut at = (first * stride - pad_low) * channels + self.group.first;
        let mut to = first * channels + self.group.first;
        let mut a = self.column::<WHOLE>(at);
        if stride == 1 {
            let mut b = self.column::<WHOLE>(at + channels);
            at += 2 * channels;
            // Three at a time, so that no column moves from register to register.
            for _ in 0..(last - first) / 3 {
                let c = self.column::<WHOLE>(at);
                self.pixel::<WHOLE, FAST>([a, b, c], to, output);
                (at, to) = (at + channels, to + channels);
                a = self.column::<WHOLE>(at);
                self.pixel::<WHOLE, FAST>([b, c, a], to, output);
                (at, to) = (at + channels, to + channels);
                b = self.column::<WHOLE>(at);
                self.pixel::<WHOLE, FAST>([c, a, b], to, output);
                (at, to) = (at + channels, to + channels);
            }
            for _ in 0..(last - first) % 3 {
                let c = self.column::<WHOLE>(at);
                self.pixel::<WHOLE, FAST>([a, b, c], to, output);
                (a, b) = (b, c);
                (at, to) = (at + channels, to + channels);
            }
        } else {
            for _ in first..last {
                let b = self.column::<WHOLE>(at + channels);
                let c = self.column::<WHOLE>(at + 2 * channels);
                self.pixel::<WHOLE, FAST>([a, b, c], to, output);
                a = c;
                (at, to) = (at + 2 * channels, to + channels);
            }
        }
    }

    /// Column `x` of the rows with their padding.
    #[inline(always)]
    fn any_column<const WHOLE: bool>(&self, x: usize) -> [S::Input; VECTORS] {
        match x.checked_sub(self.group.pad_low) {
            Some(x) if x < self.width => {
                self.column::<WHOLE>(x * self.group.channels + self.group.first)
            }
            _ => self.padding,
        }
    }

    /// The column whose first channel of the group is at this place of each row.
    #[inline(always)]
    fn column<const WHOLE: bool>(&self, at: usize) -> [S::Input; VECTORS] {
        self.group.simd.interleave([
            self.bytes::<WHOLE>(self.rows[0], at),
            self.bytes::<WHOLE>(self.rows[1], at),
            self.bytes::<WHOLE>(self.rows[2], at),
        ])
    }

    #[inline(always)]
    fn bytes<const WHOLE: bool>(&self, row: &[i8], at: usize) -> S::Bytes {
        let Group {
            simd,
            first,
            channels,
            ..
        } = *self.group;
        if WHOLE {
            // SAFETY: `run` asserted that the row has `width` pixels and asks for none beyond, and
            // a whole group's channels are within each.
            let values = unsafe { part(row, at, size_of::<S::ByteBlock>()) };
            simd.bytes(&cast_slice(values)[0])
        } else {
            simd.bytes_partial(&row[at..][..channels - first])
        }
    }

    /// The output pixel whose first channel of the group is at place `to`, from its columns.
    #[inline(always)]
    fn pixel<const WHOLE: bool, const FAST: bool>(
        &self,
        columns: [[S::Input; VECTORS]; 3],
        to: usize,
        output: &mut [i8],
    ) {
        let group = self.group;
        let simd = group.simd;
        let [bias, multiplier, shift] = group.parameters else {
            return;
        };
        let mut acc = simd.all_lanes(bias);
        for v in 0..VECTORS {
            for kx in 0..3 {
                let weights = simd.weights(&group.weights[kx][v]);
                acc[v] = simd.dot(acc[v], columns[kx][v], weights);
            }
            let (multiplier, shift) = (simd.lanes(&multiplier[v]), simd.lanes(&shift[v]));
            acc[v] = simd.scale::<FAST>(acc[v], multiplier, shift, group.clamp);
        }
        let bytes = simd.narrow::<FAST>(acc, group.clamp);
        if WHOLE {
            // SAFETY: `run` counts the output's pixels and asks for none beyond, and a whole
            // group's channels are within each.
            let output = unsafe { part_mut(output, to, size_of::<S::ByteBlock>()) };
            simd.store::<VECTORS>(bytes, 0, output);
        } else {
            let count = group.channels - group.first;
            simd.store_partial(bytes, &mut output[to..][..count]);
        }
    }
}
