//! `sori-pi field-test`: how well it hears where it stands.
//!
//! ```text
//! field-test make FOLDER --out playlist.wav [--package P]
//!     FOLDER/LABEL/*.wav ─► playlist.wav, and playlist.json that says what is where
//! field-test listen --manifest playlist.json [--package P] [--clips FOLDER]
//!         [--recording FILE] [--input FILE] [--patience S] [--json]
//!     the user plays playlist.wav; the microphone's recording ─► a report
//! ```
//!
//! It plays nothing. [`make`] writes what any player plays; [`record`] takes frames of a
//! microphone until all was played; [`judge`] lays the recording, or any WAV file that
//! somebody else recorded, over the playlist by its beeps ([`Alignment`]), and asks the
//! package about every clip, in the way in which it listens.
//!
//! Clips are WAV files; other formats are refused with the line that converts them.

mod judge;
mod playlist;
mod recording;
mod report;
mod sound;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

pub use judge::{Alignment, judge};
pub use playlist::{Clip, Manifest, make};
pub use recording::{Progress, Recorder, record};
pub use report::{Answer, Heard, Line, Report, Share};

use crate::model::Unusable;

/// Why there is no report, in words that say what to do.
#[derive(Debug)]
pub enum Trouble {
    /// The clips cannot be used.
    Clips(String),
    /// A file cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The start beep was not heard.
    NoBeep {
        /// What was listened to.
        seconds: f64,
        /// How loud it was.
        level_dbfs: f64,
    },
    /// The recording ends before the first clip does.
    NoClip {
        /// How long it is.
        seconds: f64,
    },
    /// The microphone stopped.
    Microphone(String),
    /// The package cannot listen at this rate.
    Model(Unusable),
}

impl Trouble {
    fn file(path: &Path, why: &dyn fmt::Display) -> Self {
        Self::File {
            path: path.into(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clips(why) => f.write_str(why),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::NoBeep {
                seconds,
                level_dbfs,
            } => {
                write!(
                    f,
                    "no beep was heard in {seconds:.0} s, the level is {level_dbfs:.0} dBFS: "
                )?;
                match *level_dbfs > -100.0 {
                    true => f.write_str(
                        "play the playlist louder or nearer, from its very beginning, after this says that it waits",
                    ),
                    false => f.write_str(
                        "the microphone hears nothing at all: `sori-pi mic doctor` says why",
                    ),
                }
            }
            Self::NoClip { seconds } => write!(
                f,
                "the recording ends after {seconds:.0} s, within the first clip: let it run until the falling beep"
            ),
            Self::Microphone(why) => f.write_str(why),
            Self::Model(unusable) => unusable.fmt(f),
        }
    }
}

impl std::error::Error for Trouble {}
