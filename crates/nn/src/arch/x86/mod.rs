//! x86-64. `vpdpbusd` multiplies unsigned by signed bytes, so activations are kept as
//! `q + 128`, and what that adds is taken off the bias.

mod avx512;
mod ymm;

pub(crate) use avx512::Avx512Vnni;
pub(crate) use ymm::{Avx2, AvxVnni};

/// Calls intrinsics that need the features of the token at hand.
macro_rules! supported {
    ($call:expr) => {
        // SAFETY: nothing but registers is read or written, and only methods of a token, which
        // exists only where the processor has the features, come here.
        unsafe { $call }
    };
}
use supported;

/// `1.5 · 2^23`: added to a float of magnitude below 2^22 it rounds it to the nearest
/// integer, which then stands in the low bits.
const ROUNDING: f32 = 12_582_912.0;
