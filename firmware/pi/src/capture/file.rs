//! A WAV file, or one that comes on standard input, in place of a microphone.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sori_sound::wav;
use tracing::warn;

use super::{Kind, RATES_HZ, Source, Trouble};
use crate::engine::Layout;

/// How fast a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// As it sounds.
    Real,
    /// As fast as it is listened to; no frame is lost.
    Full,
}

/// A WAV file.
#[derive(Debug)]
pub struct Wav {
    /// None is standard input.
    path: Option<PathBuf>,
    speed: Speed,
    input: Option<File>,
    /// Bytes that were read and not used yet.
    bytes: Vec<u8>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    layout: sori_sound::Layout,
    /// Samples that were no numbers.
    not_finite: u64,
    /// Bytes of samples that the file says are still in `bytes` or to be read.
    left: Option<u64>,
    started: Instant,
    frames: u64,
}

impl Wav {
    /// The file at that path; `-` is standard input.
    pub fn new(path: &Path, speed: Speed) -> Self {
        Self {
            path: (path != Path::new("-")).then(|| path.into()),
            speed,
            input: None,
            bytes: Vec::new(),
            open: None,
        }
    }

    fn unusable(&self, why: impl std::fmt::Display) -> Trouble {
        Trouble::new(
            Kind::Unusable,
            format!(
                "cannot listen to {}: {why}. WAV files of 16, 24 or 32 bits or of floats are supported; ffmpeg -i INPUT -c:a pcm_s24le OUTPUT.wav creates one",
                self.name()
            ),
        )
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        let text = format!("cannot read {}: {error}", self.name());
        Trouble::new(Kind::Unusable, text)
    }

    /// Reads once, if there is something within a quarter of a second. None is the end.
    fn fill(&mut self, most: usize) -> Result<Option<usize>, Trouble> {
        let Some(input) = &mut self.input else {
            return Ok(None);
        };
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 250_000_000,
        };
        let mut ready = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
        match poll(&mut ready, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Some(0)),
            Ok(_) => {}
            Err(error) => return Err(self.failed(&error.into())),
        }
        let before = self.bytes.len();
        self.bytes.resize(before + most, 0);
        let read = input.read(&mut self.bytes[before..]);
        self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Ok(None),
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn input(&self) -> Result<File, Trouble> {
        let opened = match &self.path {
            Some(path) => File::open(path),
            // Without the buffer of `Stdin`, in which `poll` would not see what waits.
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        opened.map_err(|error| {
            let text = format!("cannot open {}: {error}: check the path", self.name());
            Trouble::new(Kind::Unusable, text)
        })
    }

    /// Once the head is there: it goes, and what it says stays.
    fn parse(&mut self) -> Result<Option<Open>, Trouble> {
        let Some(head) = wav::head(&self.bytes).map_err(|why| self.unusable(why))? else {
            return Ok(None);
        };
        let rate_hz = head.layout.rate_hz;
        if !RATES_HZ.contains(&rate_hz) {
            return Err(self.unusable(format_args!(
                "its sample rate is {rate_hz} Hz; {} to {} Hz are supported",
                RATES_HZ.start(),
                RATES_HZ.end()
            )));
        }
        self.bytes.drain(..head.begin);
        Ok(Some(Open {
            layout: head.layout,
            left: head.len,
            not_finite: 0,
            started: Instant::now(),
            frames: 0,
        }))
    }
}

impl Source for Wav {
    fn name(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => "standard input".into(),
        }
    }

    fn open(&mut self) -> Result<Layout, Trouble> {
        if self.input.is_none() {
            self.input = Some(self.input()?);
        }
        let open = loop {
            if let Some(open) = self.parse()? {
                break open;
            }
            if self.bytes.len() > wav::MAX_HEAD {
                return Err(self.unusable(wav::Unsupported::Endless));
            }
            match self.fill(64 << 10)? {
                None if self.bytes.is_empty() => return Err(self.unusable("it is empty")),
                None => return Err(self.unusable("it ends before its samples begin")),
                Some(0) => {
                    // What came so far is kept for the next try.
                    let text = format!("no data from {} yet", self.name());
                    return Err(Trouble::new(Kind::Quiet, text));
                }
                Some(_) => {}
            }
        };
        let layout = Layout {
            rate_hz: open.layout.rate_hz,
            channels: open.layout.channels,
        };
        self.open = Some(open);
        Ok(layout)
    }

    fn read(&mut self, into: &mut Vec<i32>) -> Result<(), Trouble> {
        let Some(mut open) = self.open.take() else {
            return Err(Trouble::new(
                Kind::Ended,
                format!("{} is over", self.name()),
            ));
        };
        let frame = open.layout.frame_bytes();
        let blocks_per_second = match self.speed {
            Speed::Real => 50,
            Speed::Full => 10,
        };
        let most = (open.layout.rate_hz / blocks_per_second).max(1) as usize * frame;
        let most = open.left.map_or(most, |left| most.min(left as usize));
        let mut over = most == 0;
        while self.bytes.len() < most && !over {
            match self.fill(most - self.bytes.len())? {
                None => over = true,
                Some(0) => break,
                Some(_) => {}
            }
        }
        let frames = self.bytes.len().min(most) / frame;
        if over && frames == 0 {
            if let Some(left @ 1..) = open.left.map(|left| left / frame as u64) {
                warn!("{} ends {left} frames early: it was cut off", self.name());
            }
            if open.not_finite > 0 {
                warn!(
                    "{}: {} samples are NaN or infinite and count as 0",
                    self.name(),
                    open.not_finite
                );
            }
            return Err(Trouble::new(
                Kind::Ended,
                format!("{} is over", self.name()),
            ));
        }
        let used = frames * frame;
        open.not_finite += open.layout.encoding.decode(&self.bytes[..used], into);
        self.bytes.drain(..used);
        open.left = open.left.map(|left| left.saturating_sub(used as u64));
        open.frames += frames as u64;
        if self.speed == Speed::Real {
            let sounds = open.frames * 1_000_000 / u64::from(open.layout.rate_hz);
            let due = open.started + Duration::from_micros(sounds);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        self.open = Some(open);
        Ok(())
    }

    fn can_wait(&self) -> bool {
        self.speed == Speed::Full
    }

    fn wakes_up(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
