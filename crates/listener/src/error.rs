use core::fmt;

/// Why a listener cannot be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The package has no mel contract: it takes feature rows, not audio.
    NoMelContract,
    /// More classes than [`crate::MAX_CLASSES`].
    TooManyClasses {
        /// Classes in the package.
        found: usize,
    },
    /// The front end's memory or the sample rate does not fit.
    FrontEnd(sori_dsp::Error),
    /// The network's memory does not fit.
    Network(sori_nn::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMelContract => f.write_str(
                "the package has no mel contract, so it takes only feature rows: quantize it with --contract FILE.toml",
            ),
            Self::TooManyClasses { found } => write!(
                f,
                "the package has {found} classes, but a listener supports at most {}",
                crate::MAX_CLASSES
            ),
            Self::FrontEnd(error) => error.fmt(f),
            Self::Network(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Error {}
