use core::fmt;

/// Why a front end or a resampler cannot be made.
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
    /// A transform of a length that there is none for.
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
    /// The mel contract breaks a promise that the front end relies on.
    Contract(sori_package::Error),
    /// A sample rate outside 8 to 192 kHz.
    SampleRate {
        /// The rate, Hz.
        found_hz: u32,
    },
    /// A rate more than 14 times the rate it is to become.
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
                write!(f, "the workspace needs {needed} words and has {found}")
            }
            Self::FftLength { found } => write!(
                f,
                "there is no FFT of {found} points: there are of 256, 512, 1024 and 2048"
            ),
            Self::TableTooSmall { needed, found } => write!(
                f,
                "the resampler's table needs {needed} words and was given {found}"
            ),
            Self::Contract(error) => error.fmt(f),
            Self::Decimation { from_hz, to_hz } => write!(
                f,
                "{from_hz} Hz cannot be brought down to {to_hz} Hz: 14 to 1 is the most"
            ),
            Self::SampleRate { found_hz } => write!(
                f,
                "a sample rate of {found_hz} Hz cannot be resampled: 8000 to 192000 Hz can"
            ),
        }
    }
}

impl core::error::Error for Error {}
