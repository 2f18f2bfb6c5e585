use core::fmt;

use sori_dsp::FrontEnd;
use sori_nn::memory::for_each_layer;
use sori_nn::{Backend, Network, Prepared};
use sori_package::Package;

/// What a row of a layer, or a feature row, takes beside its multiplications: many rows of
/// almost nothing are work too.
const PER_ROW: u64 = 1 << 10;

/// What a package takes of the machine that verifies it and listens with it, or may take of it.
/// It follows from shapes alone: nothing is allocated or computed for it.
///
/// ```
/// use sori_listener::Budget;
/// use sori_nn::Backend;
/// use sori_package::{Aligned, Package};
///
/// static GENRE: &Aligned<[u8]> = &Aligned(*sori_genre::PACKAGE);
///
/// let package = Package::parse(&GENRE.0)?;
/// let budget = Budget { memory_bytes: 64 << 20, verification: 20_000_000_000 };
/// let cost = budget.admit(&package, Backend::detect(), 1).expect("the genre network is small");
/// assert!(cost.memory_bytes < 4 << 20);
/// # Ok::<(), sori_package::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of packed weights, arena and front end.
    pub memory_bytes: u64,
    /// Work of one pass over the golden vectors: multiplications, and a little for each row.
    pub verification: u64,
}

/// Why a package is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverBudget {
    /// It takes too much memory.
    Memory {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that it may take.
        limit: u64,
    },
    /// Its golden vectors take too long.
    Verification {
        /// Multiplications that they take.
        needed: u64,
        /// Multiplications that they may take.
        limit: u64,
    },
}

impl Budget {
    /// The cost of a package on a backend, run in stripes of up to `stripe` rows.
    pub fn of(package: &Package<'_>, backend: Backend, stripe: usize) -> Self {
        let lines = Prepared::lines(package, backend) as u64;
        let frontend = package
            .mel()
            .map_or(0, |mel| FrontEnd::workspace_len(&mel) * size_of::<i32>());
        Self {
            memory_bytes: lines * size_of::<sori_nn::CacheLine>() as u64
                + Network::arena_bytes(package, stripe) as u64
                + frontend as u64,
            verification: verification(package),
        }
    }

    /// Its cost, if that is within this budget. To be asked before memory is taken for a package
    /// that somebody else made, and before it is verified.
    ///
    /// # Errors
    /// See [`OverBudget`].
    pub fn admit(
        &self,
        package: &Package<'_>,
        backend: Backend,
        stripe: usize,
    ) -> Result<Self, OverBudget> {
        let cost = Self::of(package, backend, stripe);
        if cost.memory_bytes > self.memory_bytes {
            return Err(OverBudget::Memory {
                needed: cost.memory_bytes,
                limit: self.memory_bytes,
            });
        }
        if cost.verification > self.verification {
            return Err(OverBudget::Verification {
                needed: cost.verification,
                limit: self.verification,
            });
        }
        Ok(cost)
    }
}

fn verification(package: &Package<'_>) -> u64 {
    let Some(golden) = package.golden() else {
        return 0;
    };
    let frontend = match (golden.audio, package.mel()) {
        (Some(audio), Some(mel)) => {
            let frames = (audio.len() / mel.hop_samples) as u64;
            // log2 of 2048 is 11; then bands, logarithms, quantization.
            audio.len() as u64 + frames * (16 * mel.fft as u64 + PER_ROW)
        }
        _ => 0,
    };
    let mut rows = golden.features.len() / package.input().row_len();
    let mut network = 0u64;
    for_each_layer(package, &mut |layer| {
        rows = layer.output_rows(rows);
        let work = (rows as u64).saturating_mul(layer.macs_per_row.saturating_add(PER_ROW));
        network = network.saturating_add(work);
    });
    network.saturating_add(frontend)
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { needed, limit } => write!(
                f,
                "the network needs {needed} bytes of memory; the limit here is {limit}"
            ),
            Self::Verification { needed, limit } => write!(
                f,
                "its golden vectors take {needed} multiplications to verify; the limit here is {limit}: quantize it again with fewer clips"
            ),
        }
    }
}

impl core::error::Error for OverBudget {}
