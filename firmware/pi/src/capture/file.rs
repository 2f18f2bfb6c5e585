//! A WAV file, or one that comes on standard input, in place of a microphone.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hound::SampleFormat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use super::sample::Format;
use super::{Kind, RATES_HZ, Source, Trouble};
use crate::engine::Layout;

/// What comes before the samples: no more of it is read in search of them.
const LONGEST_HEAD: usize = 16 << 20;

/// A writer that does not know the length yet writes one near the end of 31 or 32 bits.
const UNKNOWN_LENGTH: u32 = 0x7fff_0000;

/// A header that claims more is damaged, and would ask for gigabytes.
const MOST_CHANNELS: u16 = 64;

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
    format: Format,
    layout: Layout,
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
        let Some(head) = head(&self.bytes).map_err(|why| self.unusable(why))? else {
            return Ok(None);
        };
        let (format, layout) = understood(head.format).map_err(|why| self.unusable(why))?;
        let (begin, length) = (head.begin, head.length);
        self.bytes.drain(..begin);
        Ok(Some(Open {
            format,
            layout,
            left: (length != 0 && length < UNKNOWN_LENGTH).then_some(length.into()),
            started: Instant::now(),
            frames: 0,
        }))
    }
}

/// What comes before the samples.
struct Head<'b> {
    /// The chunk that describes them, with its name and length.
    format: &'b [u8],
    /// Where they begin.
    begin: usize,
    /// Their bytes, as far as the writer knew.
    length: u32,
}

/// Finds the samples; none if there are too few bytes to say. hound would do it, but not
/// before a file is whole, and not with a length that nobody knew.
fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, &'static str> {
    let tag = &bytes[..bytes.len().min(4)];
    let kind = bytes.get(8..12).unwrap_or(b"WAVE");
    if !b"RIFF".starts_with(tag) || kind != b"WAVE" {
        return Err("it is not a WAV file");
    }
    let (mut at, mut format) = (12, None);
    while let Some((&name, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<4>) {
        let Some((&length, _)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let (begin, length) = (at + 8, u32::from_le_bytes(length));
        match &name {
            b"data" => {
                let format = format.ok_or("nothing describes its samples")?;
                return Ok(Some(Head {
                    format,
                    begin,
                    length,
                }));
            }
            b"fmt " => format = bytes.get(at..begin.saturating_add(length as usize)),
            _ => {}
        }
        // Chunks begin at even places.
        at = begin
            .saturating_add(length as usize)
            .saturating_add(length as usize % 2);
    }
    Ok(None)
}

fn understood(format: &[u8]) -> Result<(Format, Layout), String> {
    let file = [&b"RIFF\0\0\0\0WAVE"[..], format, b"data\0\0\0\0"].concat();
    let reader = hound::WavReader::new(&file[..]).map_err(|error| error.to_string())?;
    let spec = reader.spec();
    // After the name, the length, and 12 bytes of other things: the bytes of a frame.
    let frame = format
        .get(20..22)
        .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
    let bytes = frame / spec.channels.max(1);
    let format = match (spec.sample_format, spec.bits_per_sample, bytes) {
        (SampleFormat::Int, 8, 1) => Format::U8,
        (SampleFormat::Int, 16, 2) => Format::S16,
        (SampleFormat::Int, 24, 3) => Format::S24,
        (SampleFormat::Int, 24, 4) => Format::S24In32,
        (SampleFormat::Int, 32, 4) => Format::S32,
        (SampleFormat::Float, 32, 4) => Format::F32,
        (_, bits, bytes) => return Err(format!("its samples have {bits} bits in {bytes} bytes")),
    };
    if !RATES_HZ.contains(&spec.sample_rate) {
        return Err(format!(
            "its sample rate is {} Hz; {} to {} Hz are supported",
            spec.sample_rate,
            RATES_HZ.start(),
            RATES_HZ.end()
        ));
    }
    if spec.channels > MOST_CHANNELS {
        return Err(format!(
            "it has {} channels; at most {MOST_CHANNELS} are supported",
            spec.channels
        ));
    }
    let layout = Layout {
        rate_hz: spec.sample_rate,
        channels: spec.channels.into(),
    };
    Ok((format, layout))
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
            if self.bytes.len() > LONGEST_HEAD {
                return Err(self.unusable("no samples begin in its first 16 MB"));
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
        let layout = open.layout;
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
        let frame = open.format.bytes() * open.layout.channels;
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
            return Err(Trouble::new(
                Kind::Ended,
                format!("{} is over", self.name()),
            ));
        }
        let used = frames * frame;
        open.format.decode(&self.bytes[..used], into);
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
