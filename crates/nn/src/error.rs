use core::fmt;

/// Why a network cannot be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The arena is shorter than [`crate::Network::arena_bytes`].
    ArenaTooSmall {
        /// Bytes needed for this stripe.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// The arena does not start at a multiple of [`crate::ARENA_ALIGNMENT`].
    ArenaMisaligned {
        /// The alignment needed, bytes.
        needed: usize,
    },
    /// The memory for packed weights is shorter than [`crate::Prepared::lines`].
    WeightMemoryTooSmall {
        /// Cache lines needed for this backend.
        needed: usize,
        /// Cache lines given.
        found: usize,
    },
    /// The memory plan does not fit this network.
    Plan(sori_package::Error),
    /// A stripe of no rows.
    StripeZero,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ArenaTooSmall { needed, found } => {
                write!(
                    f,
                    "the network needs an arena of {needed} bytes and was given {found}"
                )
            }
            Self::ArenaMisaligned { needed } => write!(
                f,
                "the arena must start at a multiple of {needed} bytes: use sori_nn::Arena"
            ),
            Self::WeightMemoryTooSmall { needed, found } => write!(
                f,
                "the backend packs the weights into {needed} cache lines and was given {found}"
            ),
            Self::Plan(error) => error.fmt(f),
            Self::StripeZero => f.write_str("a stripe needs at least 1 row"),
        }
    }
}

impl core::error::Error for Error {}
