//! Microphones, by alsa-lib.

use std::ffi::CString;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ::alsa::pcm::{Access, Format as AlsaFormat, Frames, HwParams, PCM};
use ::alsa::{Direction, ValueOr};
use sori_sound::Encoding;
use tracing::{debug, warn};

use super::cards::{self, Recorder};
use super::{Kind, RATES_HZ, Source, Trouble};
use crate::engine::Layout;

/// Frames that the device gathers before it wakes us, where it can.
const PERIOD: Frames = 1024;

/// Frames that it keeps when we are late: a third of a second.
const BUFFER: Frames = 16_384;

/// On a Zero, whose processor is busier.
const BUFFER_ON_ZERO: Frames = 32_768;

/// A read returns after this, with or without sound.
const PATIENCE: Duration = Duration::from_millis(250);

/// A device that is open and has said nothing for so long is opened anew.
const QUIET: Duration = Duration::from_secs(2);

/// The best first: what keeps the most bits.
const FORMATS: [(AlsaFormat, Encoding); 6] = [
    (AlsaFormat::S32LE, Encoding::S32),
    (AlsaFormat::S243LE, Encoding::S24Packed),
    (AlsaFormat::S24LE, Encoding::S24),
    (AlsaFormat::S16LE, Encoding::S16),
    (AlsaFormat::FloatLE, Encoding::Float),
    (AlsaFormat::U8, Encoding::U8),
];

/// 48 kHz, or what becomes 16 kHz without much ado; then as much as there is.
const RATES: [u32; 10] = [
    48_000, 16_000, 32_000, 96_000, 44_100, 192_000, 88_200, 24_000, 22_050, 8_000,
];

mod errno {
    //! Linux's numbers, the same on every processor of a Pi.
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENOENT: i32 = 2;
    pub(super) const EINTR: i32 = 4;
    pub(super) const ENXIO: i32 = 6;
    pub(super) const EAGAIN: i32 = 11;
    pub(super) const EACCES: i32 = 13;
    pub(super) const EBUSY: i32 = 16;
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EPIPE: i32 = 32;
    pub(super) const ESTRPIPE: i32 = 86;
}

/// A microphone.
#[derive(Debug)]
pub struct Microphone {
    device: String,
    root: PathBuf,
    name: String,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    pcm: PCM,
    format: Encoding,
    frame_bytes: usize,
    bytes: Vec<u8>,
    /// When there was sound, or when it was opened.
    heard: Instant,
}

impl Microphone {
    /// The microphone of that ALSA name; `auto` finds one each time that it is opened.
    pub fn new(device: &str) -> Self {
        if cards::is_numbered(device) {
            warn!(
                "{device} is a card number, which may change at every boot: `sori-pi mic list` prints stable names"
            );
        }
        Self {
            device: device.into(),
            root: "/".into(),
            name: device.into(),
            open: None,
        }
    }

    /// ALSA's name, and the card that it is of, if it is of one.
    fn find(&self) -> Result<(String, Option<Recorder>), Trouble> {
        let recorders = cards::recorders_below(&self.root);
        if self.device != "auto" {
            let recorder = cards::named(&recorders, &self.device);
            return Ok((self.device.clone(), recorder.cloned()));
        }
        let recorder = cards::automatic(&recorders).ok_or_else(|| {
            Trouble::new(
                Kind::Absent,
                "no sound card can record: run `sori-pi mic doctor`",
            )
        })?;
        Ok((recorder.name(), Some(recorder.clone())))
    }

    /// What went wrong, in words.
    fn trouble(&self, error: ::alsa::Error, recorder: Option<&Recorder>) -> Trouble {
        let name = &self.name;
        let (kind, text) = match error.errno() {
            errno::EBUSY => {
                let holder = recorder.and_then(|recorder| cards::holder(&self.root, recorder));
                let text = match holder {
                    Some(holder) => {
                        format!("{name} is in use by {holder}: {}", holder.line_to_type())
                    }
                    None => {
                        format!("{name} is in use by another program: sudo fuser -v /dev/snd/*")
                    }
                };
                (Kind::Busy, text)
            }
            errno::ENODEV | errno::ENXIO | errno::ENOENT => (
                match self.open {
                    Some(_) => Kind::Gone,
                    None => Kind::Absent,
                },
                format!(
                    "{name} is missing: check its plug or wires; `sori-pi mic list` shows what is present"
                ),
            ),
            errno::EACCES | errno::EPERM => (
                Kind::Other,
                format!(
                    "no permission to open {name}: sudo usermod -aG audio $USER, then log in again"
                ),
            ),
            _ => (Kind::Other, format!("{name}: {error}")),
        };
        Trouble::new(kind, text)
    }

    fn buffer(&self) -> Frames {
        let model = std::fs::read_to_string(self.root.join("proc/device-tree/model"));
        match model.is_ok_and(|model| model.contains("Zero")) {
            true => BUFFER_ON_ZERO,
            false => BUFFER,
        }
    }
}

impl Source for Microphone {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(&mut self) -> Result<Layout, Trouble> {
        // One that is still open would be in its own way.
        self.open = None;
        let (name, recorder) = self.find()?;
        self.name = name;
        let pcm = open(&self.name).map_err(|error| self.trouble(error, recorder.as_ref()))?;
        let buffer = self.buffer();
        let agreed = agree(&pcm, buffer).map_err(|error| match error {
            Disagreement::Alsa(error) => self.trouble(error, recorder.as_ref()),
            Disagreement::None(what) => Trouble::new(
                Kind::Other,
                format!(
                    "{} offers no supported {what}: if it is a card, plug{} converts",
                    self.name, self.name
                ),
            ),
        })?;
        let (format, layout, period) = agreed;
        let start = pcm.prepare().and_then(|()| pcm.start());
        start.map_err(|error| self.trouble(error, recorder.as_ref()))?;
        let frame_bytes = format.bytes() * layout.channels;
        self.open = Some(Open {
            pcm,
            format,
            frame_bytes,
            bytes: vec![0; period * frame_bytes],
            heard: Instant::now(),
        });
        Ok(layout)
    }

    fn read(&mut self, into: &mut Vec<i32>) -> Result<(), Trouble> {
        let Some(open) = &mut self.open else {
            return Err(Trouble::new(
                Kind::Gone,
                format!("{} is not open", self.name),
            ));
        };
        match open.read(into) {
            Ok(()) if open.heard.elapsed() < QUIET => Ok(()),
            Ok(()) => Err(Trouble::new(
                Kind::Quiet,
                format!(
                    "{} is open but delivers no data: check the wires BCLK (GPIO 18) and LRCLK (GPIO 19), and run `sori-pi mic doctor`",
                    self.name
                ),
            )),
            Err(error) => Err(self.recover(error)),
        }
    }
}

impl Microphone {
    /// Makes the device go on, if it can.
    fn recover(&mut self, error: ::alsa::Error) -> Trouble {
        let recovered = match (&self.open, error.errno()) {
            (Some(open), errno::EPIPE) => {
                let text = format!(
                    "{}: overrun: it was not read in time, and some audio was lost",
                    self.name
                );
                open.restart().map(|()| Trouble::new(Kind::Overrun, text))
            }
            (Some(open), errno::ESTRPIPE) => {
                let text = format!(
                    "{}: the system was suspended, and some audio was lost",
                    self.name
                );
                open.wake().map(|()| Trouble::new(Kind::Suspended, text))
            }
            _ => Err(error),
        };
        recovered.unwrap_or_else(|error| {
            let trouble = self.trouble(error, None);
            self.open = None;
            trouble
        })
    }
}

impl Open {
    /// Appends what there is, after it was waited for.
    fn read(&mut self, into: &mut Vec<i32>) -> Result<(), ::alsa::Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            // Bytes: typed access asks for the parameters at every call.
            let read = match self.pcm.io_bytes().readi(&mut self.bytes) {
                Err(error) if matches!(error.errno(), errno::EAGAIN | errno::EINTR) => 0,
                read => read?,
            };
            if read > 0 {
                let bytes = self.bytes.len().min(read * self.frame_bytes);
                self.format.decode(&self.bytes[..bytes], into);
                self.heard = Instant::now();
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let waited = self.pcm.wait(Some(left.as_millis() as u32 + 1));
            match waited {
                Err(error) if error.errno() == errno::EINTR => {}
                waited => {
                    waited?;
                }
            }
            // A device that says that it is ready and has nothing must not keep a processor,
            // whose other threads have no such priority, busy.
            if until.saturating_duration_since(Instant::now()) + Duration::from_millis(1) >= left {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn restart(&self) -> Result<(), ::alsa::Error> {
        self.pcm.prepare()?;
        self.pcm.start()
    }

    /// After the system slept. Not every device can go on where it was.
    fn wake(&self) -> Result<(), ::alsa::Error> {
        for _ in 0..10 {
            match self.pcm.resume() {
                Ok(()) => return Ok(()),
                // Its driver is not awake yet.
                Err(error) if error.errno() == errno::EAGAIN => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(_) => break,
            }
        }
        self.restart()
    }
}

/// Without waiting: who waits for a device that is in use waits for as long as it is.
fn open(name: &str) -> Result<PCM, ::alsa::Error> {
    // No device has a zero in its name.
    let name = CString::new(name).map_err(|_| ::alsa::Error::new("snd_pcm_open", errno::ENOENT))?;
    // alsa-lib writes to standard error, each time that a device is looked for.
    let said = ::alsa::Output::local_error_handler()?;
    PCM::open(&name, Direction::Capture, true).inspect_err(|_| debug!("{}", said.borrow()))
}

enum Disagreement {
    Alsa(::alsa::Error),
    None(&'static str),
}

impl From<::alsa::Error> for Disagreement {
    fn from(error: ::alsa::Error) -> Self {
        Self::Alsa(error)
    }
}

/// The best that the device offers: format, layout, frames of a period.
fn agree(pcm: &PCM, buffer: Frames) -> Result<(Encoding, Layout, usize), Disagreement> {
    let parameters = HwParams::any(pcm)?;
    let none = |what| move |_| Disagreement::None(what);
    parameters
        .set_access(Access::RWInterleaved)
        .map_err(none("interleaved access"))?;
    // Where ALSA itself converts, ours is the better resampler.
    parameters.set_rate_resample(false)?;
    let offered = FORMATS
        .iter()
        .find(|(f, _)| parameters.test_format(*f).is_ok());
    let &(alsa_format, format) = offered.ok_or(Disagreement::None("format"))?;
    parameters.set_format(alsa_format)?;
    let channels = match parameters.test_channels(2) {
        Ok(()) => 2,
        Err(_) => parameters.get_channels_min()?,
    };
    parameters.set_channels(channels)?;
    let offered = RATES
        .iter()
        .find(|rate| parameters.test_rate(**rate).is_ok());
    let rate_hz = match offered {
        Some(&rate) => {
            parameters.set_rate(rate, ValueOr::Nearest)?;
            rate
        }
        None => parameters.set_rate_near(RATES[0], ValueOr::Nearest)?,
    };
    if !RATES_HZ.contains(&rate_hz) {
        return Err(Disagreement::None("rate from 8 to 192 kHz"));
    }
    let period = parameters.set_period_size_near(PERIOD, ValueOr::Nearest)?;
    parameters.set_buffer_size_near(buffer)?;
    pcm.hw_params(&parameters)?;
    let layout = Layout {
        rate_hz,
        channels: channels as usize,
    };
    Ok((format, layout, period.clamp(1, BUFFER_ON_ZERO) as usize))
}

/// What a device offers, in words.
///
/// # Errors
/// It cannot be opened.
pub fn offers(name: &str) -> Result<String, Trouble> {
    let microphone = Microphone {
        device: name.into(),
        root: "/".into(),
        name: name.into(),
        open: None,
    };
    let (_, recorder) = microphone.find()?;
    let read = || -> Result<String, ::alsa::Error> {
        let pcm = open(name)?;
        let parameters = HwParams::any(&pcm)?;
        let formats = FORMATS
            .iter()
            .filter(|(f, _)| parameters.test_format(*f).is_ok());
        let formats: Vec<String> = formats.map(|(f, _)| f.to_string()).collect();
        let range = |least: u32, most: u32| match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        };
        Ok(format!(
            "{}; {} channels; {} Hz",
            formats.join(", "),
            range(
                parameters.get_channels_min()?,
                parameters.get_channels_max()?
            ),
            range(parameters.get_rate_min()?, parameters.get_rate_max()?),
        ))
    };
    read().map_err(|error| microphone.trouble(error, recorder.as_ref()))
}
