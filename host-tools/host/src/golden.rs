//! A package's golden vectors, in memory of its own.

use sori_dsp::FrontEnd;
use sori_listener::{Memory, Mismatch, Verified};
use sori_nn::{Network, Prepared};

/// The stripe heights, in rows, with which [`verify`] runs the network.
pub const VERIFIED_STRIPES: [usize; 3] = [1, 7, 128];

/// Recomputes the golden vectors with several stripe heights and
/// compares every bit, on the backend that the package was prepared for.
///
/// # Errors
/// The first difference.
pub fn verify<'p>(prepared: impl Into<Prepared<'p>>) -> Result<Verified, Mismatch> {
    let prepared = prepared.into();
    let mel = prepared.package().mel();
    let mut frontend = vec![0; mel.map_or(0, |mel| FrontEnd::workspace_len(&mel))];
    let mut verified = Verified {
        feature_rows: 0,
        output_rows: 0,
    };
    for stripe in VERIFIED_STRIPES {
        // `u32` gives the arena its alignment.
        let words = Network::arena_bytes(&prepared, stripe).div_ceil(size_of::<u32>());
        let mut arena = vec![0u32; words];
        let memory = Memory {
            frontend: &mut frontend,
            arena: bytemuck::cast_slice_mut(&mut arena),
        };
        verified = sori_listener::verify(&prepared, memory, stripe)?;
    }
    Ok(verified)
}
