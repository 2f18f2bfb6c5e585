use sori_package::Convolution;

use super::pack::Layout;
use crate::plan::spatial;

/// Lays the 3×3 windows of one output row out as pixels `[width_out][patch_len]`, so that the
/// stem becomes a pointwise layer with `9 · c_in` inputs; what fills a patch up has weight 0.
pub(crate) fn patches(
    patch_len: usize,
    stem: &Convolution<'_>,
    rows: [&[i8]; 3],
    patches: &mut [i8],
) {
    match stem.input.channels {
        1 => patches_of_1(patch_len, stem, rows, patches),
        2 => patches_of::<6>(patch_len, stem, rows, patches),
        3 => patches_of_3(patch_len, stem, rows, patches),
        c_in => {
            let taps = 3 * usize::from(c_in);
            fill(patch_len, stem, rows, patches, |patch, windows| {
                for (part, window) in patch.chunks_exact_mut(taps).zip(windows) {
                    part.copy_from_slice(&window[..taps]);
                }
            });
        }
    }
}

/// With `TAPS`, 3 · c_in, known the copies are loads and stores.
fn patches_of<const TAPS: usize>(
    patch_len: usize,
    stem: &Convolution<'_>,
    rows: [&[i8]; 3],
    patches: &mut [i8],
) {
    fill(patch_len, stem, rows, patches, |patch, windows| {
        let (parts, _) = patch.as_chunks_mut::<TAPS>();
        for (part, window) in parts.iter_mut().zip(windows) {
            if let Some(window) = window.first_chunk() {
                *part = *window;
            }
        }
    });
}

/// With one channel a copy of four bytes is a load and a store; the next one, or a weight of 0,
/// covers the fourth.
fn patches_of_1(patch_len: usize, stem: &Convolution<'_>, rows: [&[i8]; 3], patches: &mut [i8]) {
    fill(patch_len, stem, rows, patches, |patch, windows| {
        let Some(patch) = patch.first_chunk_mut::<10>() else {
            return;
        };
        for (n, window) in windows.into_iter().enumerate() {
            match window.first_chunk::<4>() {
                Some(four) => patch[3 * n..][..4].copy_from_slice(four),
                None => patch[3 * n..][..3].copy_from_slice(&window[..3]),
            }
        }
    });
}

/// With three channels nine bytes are two copies of eight that overlap.
fn patches_of_3(patch_len: usize, stem: &Convolution<'_>, rows: [&[i8]; 3], patches: &mut [i8]) {
    fill(patch_len, stem, rows, patches, |patch, windows| {
        let Some(patch) = patch.first_chunk_mut::<27>() else {
            return;
        };
        for (n, window) in windows.into_iter().enumerate() {
            if let Some(nine) = window.first_chunk::<9>() {
                patch[9 * n..][..8].copy_from_slice(&nine[..8]);
                patch[9 * n + 1..][..8].copy_from_slice(&nine[1..]);
            }
        }
    });
}

/// Calls `copy` with each patch and the rows from where its window begins, and fills those
/// that hang over an edge itself.
#[inline(always)]
fn fill(
    patch_len: usize,
    stem: &Convolution<'_>,
    rows: [&[i8]; 3],
    patches: &mut [i8],
    copy: impl Fn(&mut [i8], [&[i8]; 3]),
) {
    let spatial = spatial(stem);
    let [width, c_in] = [stem.input.width, stem.input.channels].map(usize::from);
    let [stride, pad_low] = [spatial.stride_freq, spatial.pad_freq[0]].map(usize::from);
    let patches = patches.chunks_exact_mut(patch_len).enumerate();
    for (x, patch) in patches {
        let first = (x * stride).wrapping_sub(pad_low);
        if first < width && width - first >= 3 {
            let start = first * c_in;
            copy(patch, rows.map(|row| &row[start..]));
            continue;
        }
        for (part, row) in patch.chunks_exact_mut(3 * c_in).zip(rows) {
            for (kx, pixel) in part.chunks_exact_mut(c_in).enumerate() {
                let column = first.wrapping_add(kx);
                match column < width {
                    true => pixel.copy_from_slice(&row[column * c_in..][..c_in]),
                    false => pixel.fill(stem.input_zero_point),
                }
            }
        }
    }
}

/// Bytes of a patch.
pub(crate) fn patch_len(layout: Layout, stem: &Convolution<'_>) -> usize {
    patch_len_of(layout.patch_multiple, stem)
}

/// Bytes of a patch, a multiple of `multiple`.
pub(crate) fn patch_len_of(multiple: usize, stem: &Convolution<'_>) -> usize {
    (9 * usize::from(stem.input.channels)).next_multiple_of(multiple)
}
