//! Sound from a microphone or a file, for as long as there is any.
//!
//! ```text
//! Source ─► capture thread ─► ring ─► whoever recognizes
//!              └─► the board: how the microphone is doing
//! ```
//!
//! Whatever happens to a microphone, the thread goes on: it is opened anew until it is back.

pub mod cards;
pub mod file;
pub mod ring;
mod thread;

#[cfg(feature = "alsa")]
pub mod alsa;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use std::fmt;

pub use ring::{Block, Consumer, Next};
pub use thread::start;

use crate::config;
use crate::engine::Layout;

/// Rates that the recognizer's resampler takes, Hz.
pub const RATES_HZ: std::ops::RangeInclusive<u32> = 8_000..=192_000;

/// Something that sound comes from.
pub trait Source: Send {
    /// What it is called, for people; after an opening, what was opened.
    fn name(&self) -> String;

    /// Opens it, or opens it anew.
    ///
    /// # Errors
    /// Why it cannot be opened. That is for now, unless it is [`Kind::Unusable`].
    fn open(&mut self) -> Result<Layout, Trouble>;

    /// Appends whole frames of 24-bit samples as soon as there are any; after a quarter of a
    /// second without any it returns all the same, so that whoever reads can be stopped.
    ///
    /// # Errors
    /// What is wrong; nothing was appended then. After [`Kind::Overrun`] and
    /// [`Kind::Suspended`] it can be read on, after everything else it must be opened anew.
    fn read(&mut self, into: &mut Vec<i32>) -> Result<(), Trouble>;

    /// A microphone sounds whether anybody listens or not, and takes a moment to wake up. A
    /// file that can wait is read no faster than it is listened to, and none of it is lost.
    fn can_wait(&self) -> bool {
        false
    }

    /// Whether what comes first after an opening is not worth hearing.
    fn wakes_up(&self) -> bool {
        true
    }
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was not read in time, and some sound is lost.
    Overrun,
    /// The system slept.
    Suspended,
    /// There is no device of that name.
    Absent,
    /// It was there and is not any more.
    Gone,
    /// Another program has it.
    Busy,
    /// It is open, and nothing comes.
    Quiet,
    /// It will never do: no retry helps.
    Unusable,
    /// A file is over.
    Ended,
    /// Anything else.
    Other,
}

/// Why there is no sound, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For programs.
    pub kind: Kind,
    /// For people.
    pub text: String,
}

impl Trouble {
    /// A new one.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Trouble {}

/// How to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Sound after opening that is not listened to.
    pub settle_ms: u32,
    /// Seconds of sound that may wait; older sound is dropped.
    pub buffer_s: u32,
}

impl From<&config::Microphone> for Settings {
    fn from(microphone: &config::Microphone) -> Self {
        Self {
            // Their bounds are far below 32 bits.
            settle_ms: microphone.settle_ms.get() as u32,
            buffer_s: microphone.buffer_s.get() as u32,
        }
    }
}

/// The microphone of that name; `auto` finds one.
///
/// # Errors
/// Where this program was built without ALSA.
pub fn microphone(device: &str) -> Result<Box<dyn Source>, Trouble> {
    #[cfg(feature = "alsa")]
    return Ok(Box::new(alsa::Microphone::new(device)));
    #[cfg(not(feature = "alsa"))]
    Err(Trouble::new(
        Kind::Unusable,
        format!(
            "this sori-pi was built without microphones and cannot open {device}: build it with --features alsa, or listen to a file with --input"
        ),
    ))
}
