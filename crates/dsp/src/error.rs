use core::fmt;

/// Why a front end or a resampler cannot be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The workspace is shorter than [`crate::FrontEnd::workspace_len`].
    WorkspaceTooSmall {
        /// `i32` values needed.
        needed: usize,
        /// `i32` values given.
        found: usize,
    },
    /// An unsupported transform length.
    FftLength {
        /// The points asked for.
        found: usize,
    },
    /// The table of taps is shorter than [`crate::Resampler::table_len`].
    TableTooSmall {
        /// `i32` values needed.
        needed: usize,
        /// `i32` values given.
        found: usize,
    },
    /// The mel contract violates a property that the front end relies on.
    Contract(sori_package::Error),
    /// A sample rate outside 8 to 192 kHz.
    SampleRate {
        /// The rate, Hz.
        found_hz: u32,
    },
    /// The input rate is more than 14 times the output rate.
    Decimation {
        /// Rate of the input, Hz.
        from_hz: u32,
        /// Rate of the output, Hz.
        to_hz: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WorkspaceTooSmall { needed, found } => {
                write!(f, "the workspace needs {needed} words but has {found}")
            }
            Self::FftLength { found } => write!(
                f,
                "an FFT of {found} points is not supported: choose 256, 512, 1024 or 2048"
            ),
            Self::TableTooSmall { needed, found } => write!(
                f,
                "the resampler's table needs {needed} words but has {found}"
            ),
            Self::Contract(error) => error.fmt(f),
            Self::Decimation { from_hz, to_hz } => write!(
                f,
                "cannot resample from {from_hz} Hz to {to_hz} Hz: the ratio is limited to 14 to 1"
            ),
            Self::SampleRate { found_hz } => write!(
                f,
                "cannot resample from {found_hz} Hz: rates from 8000 to 192000 Hz are supported"
            ),
        }
    }
}

impl core::error::Error for Error {}
