//! A microphone without a sound card: alsa-lib's `file` plugin reads a FIFO that a thread
//! fills at the speed of sound, and a preloaded shim lets it fail as it is told.
//!
//! For any program: `Microphone::new()`, then `microphone.prepare(&mut Command)`; the device
//! is called `mic`, S32_LE, 2 channels, 48 kHz.

#![allow(dead_code, reason = "not every test that uses it needs everything")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::preload;

/// ALSA's name of the microphone.
pub(crate) const DEVICE: &str = "mic";
pub(crate) const RATE_HZ: u32 = 48_000;

/// Frames that are written at once: 4096 bytes, which a pipe never tears. The shim reads no
/// more at once, because the plugin takes a piece of what it asked for to be all of it.
const PIECE: u64 = 512;

pub(crate) struct Microphone {
    folder: tempfile::TempDir,
    library: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Microphone {
    /// One that hears what `frame` says, both channels in 32 bits, again and again.
    pub(crate) fn new(mut frame: impl FnMut(u64) -> [i32; 2] + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = preload::library("shim/alsa.c", folder.path());
        let fifo = folder.path().join("mic.raw");
        let made = Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo is there").success());
        // The plugin writes what it reads to `file`, too.
        let configuration = format!(
            "pcm.{DEVICE} {{ type file slave.pcm {{ type null }} file \"/dev/null\" infile \"{}\" format \"raw\" }}\n",
            fifo.display()
        );
        fs::write(folder.path().join("mic.conf"), configuration).expect("a file");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            // Open for reading as well, or it would end each time that the device is closed.
            let mut fifo = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&fifo)
                .expect("a FIFO");
            let (started, mut at) = (Instant::now(), 0_u64);
            while !stopped.load(Ordering::Relaxed) {
                let mut bytes = Vec::new();
                for n in at..at + PIECE {
                    bytes.extend(frame(n).map(i32::to_le_bytes).concat());
                }
                at += PIECE;
                fifo.write_all(&bytes).expect("a FIFO");
                let due = started + Duration::from_secs(at) / RATE_HZ;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self {
            folder,
            library,
            stop,
        }
    }

    /// Lets a program hear it and fail with it.
    pub(crate) fn prepare<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let configuration = self.folder.path().join("mic.conf");
        let configuration = format!("/usr/share/alsa/alsa.conf:{}", configuration.display());
        preload::add(command, &self.library)
            .env("ALSA_CONFIG_PATH", configuration)
            .env("SORI_SHIM", self.told())
            .env("SORI_SHIM_LOG", self.folder.path().join("faults.log"))
    }

    fn told(&self) -> PathBuf {
        self.folder.path().join("fault")
    }

    /// From now on: `epipe 1`, `enodev`, and what else the shim knows.
    pub(crate) fn fail(&self, fault: &str) {
        let new = self.folder.path().join("fault.new");
        fs::write(&new, fault).expect("a file");
        // At once: the shim never sees half a line.
        fs::rename(new, self.told()).expect("the same folder");
    }

    /// From now on nothing is wrong.
    pub(crate) fn heal(&self) {
        let _ = fs::remove_file(self.told());
    }

    /// How often a fault happened.
    pub(crate) fn happened(&self, fault: &str) -> usize {
        let log = fs::read_to_string(self.folder.path().join("faults.log"));
        log.unwrap_or_default()
            .lines()
            .filter(|line| *line == fault)
            .count()
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        // The writer may be waiting where nobody reads any more: nobody waits for it, either.
        self.stop.store(true, Ordering::Relaxed);
    }
}
