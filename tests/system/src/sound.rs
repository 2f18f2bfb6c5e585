//! What emulated systems hear through their microphones.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::tools;

const CLIP: &str = "models/genre/demo/jazz.flac";
/// What is heard there.
pub(crate) const GENRE: &str = "jazz";

/// As an I2S microphone is read: 48 kHz, two channels, S32_LE.
pub(crate) const BYTES_A_SECOND: usize = 48_000 * 2 * 4;

/// A clip, and a pause.
pub(crate) fn clip() -> anyhow::Result<Vec<u8>> {
    tools::require_quiet("ffmpeg", "ffmpeg")?;
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-nostdin", "-v", "error", "-i", CLIP])
        .args(["-af", "apad=pad_dur=4", "-ar", "48000", "-ac", "2"])
        .args(["-f", "s32le", "-"]);
    Ok(tools::captured(&mut ffmpeg)?.stdout)
}

/// Plays it over and over as fast as time goes, in pieces of so many bytes, until nobody takes
/// them any more.
pub(crate) fn play(sound: &[u8], piece: usize, mut to: impl Write) {
    let mut next = Instant::now();
    for piece in sound.chunks(piece).cycle() {
        if to.write_all(piece).is_err() {
            return;
        }
        // Who was not ready is not caught up with.
        let lasts = Duration::from_secs(piece.len() as u64) / BYTES_A_SECOND as u32;
        next = (next + lasts).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
