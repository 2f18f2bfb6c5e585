//! This machine's microphones (feature `microphone`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use cpal::{Device, FromSample, I24, SampleFormat, SizedSample, Stream, StreamConfig};

use crate::exit::Failure;

/// Blocks that may wait for the network: a few seconds at usual block sizes.
const QUEUE: usize = 256;

/// Time without a sample after which the microphone counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between two reports of dropped audio.
const REPORT: Duration = Duration::from_secs(10);

/// An open microphone, which delivers mono samples in 24-bit scale.
pub(crate) struct Microphone {
    name: String,
    config: StreamConfig,
    blocks: Receiver<Vec<i32>>,
    /// Blocks that found the queue full.
    dropped: Arc<AtomicU64>,
    /// Audio flows for as long as this lives.
    _stream: Stream,
}

impl Microphone {
    /// Opens `default`, or the first whose name contains `name`, with its preferred settings;
    /// takes the mean of all channels, or the one given.
    pub(crate) fn open(name: &str, channel: Option<usize>) -> Result<Self> {
        let device = find(name)?;
        let name = device
            .description()
            .map_or_else(|_| name.into(), |d| d.to_string());
        let cannot = || format!("cannot open the microphone {name}");
        let preferred = device.default_input_config().with_context(cannot)?;
        let config = preferred.config();
        if let Some(channel) = channel
            && channel >= config.channels.into()
        {
            return Err(Failure::Usage(format!(
                "{name} has no channel {channel}: it has {}, counted from 0",
                config.channels
            ))
            .into());
        }
        let (sender, blocks) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let route = Route {
            dropped: dropped.clone(),
            channels: config.channels.into(),
            channel,
            sender,
        };
        let stream = match preferred.sample_format() {
            SampleFormat::U8 => route.stream::<u8>(&device, config),
            SampleFormat::I16 => route.stream::<i16>(&device, config),
            SampleFormat::I24 => route.stream::<I24>(&device, config),
            SampleFormat::I32 => route.stream::<i32>(&device, config),
            SampleFormat::F32 => route.stream::<f32>(&device, config),
            SampleFormat::F64 => route.stream::<f64>(&device, config),
            other => bail!("{name} delivers {other} samples, which are not supported"),
        };
        let stream = stream.with_context(cannot)?;
        stream.play().with_context(cannot)?;
        Ok(Self {
            name,
            config,
            blocks,
            dropped,
            _stream: stream,
        })
    }

    pub(crate) fn rate_hz(&self) -> u32 {
        self.config.sample_rate
    }

    pub(crate) fn describe(&self) -> String {
        let StreamConfig {
            channels,
            sample_rate,
            ..
        } = self.config;
        format!("{}, {sample_rate} Hz, channels: {channels}", self.name)
    }

    /// Passes on blocks of samples until the microphone disappears or `on_samples` fails.
    pub(crate) fn run(&self, on_samples: &mut impl FnMut(&[i32]) -> Result<()>) -> Result<()> {
        let (mut reported, mut last) = (0, Instant::now());
        while let Ok(samples) = self.blocks.recv_timeout(PATIENCE) {
            on_samples(&samples)?;
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > reported && last.elapsed() > REPORT {
                eprintln!(
                    "sori: inference is too slow: {dropped} blocks of audio were dropped so far"
                );
                (reported, last) = (dropped, Instant::now());
            }
        }
        Err(Failure::NoDevice(format!(
            "{} no longer delivers audio: plug it in and start again",
            self.name
        ))
        .into())
    }
}

fn find(name: &str) -> Result<Device> {
    let host = cpal::default_host();
    if name == "default" {
        return host.default_input_device().ok_or_else(|| {
            Failure::NoDevice("this machine has no microphone: plug one in".into()).into()
        });
    }
    let mut known = Vec::new();
    for device in host
        .input_devices()
        .context("cannot list the microphones")?
    {
        let Ok(found) = device.description().map(|found| found.to_string()) else {
            continue;
        };
        if found.contains(name) {
            return Ok(device);
        }
        known.push(found);
    }
    Err(Failure::NoDevice(format!(
        "no microphone is named {name}; available: {}",
        known.join(", ")
    ))
    .into())
}

/// Passes blocks from the sound system's thread to ours.
struct Route {
    channels: usize,
    channel: Option<usize>,
    dropped: Arc<AtomicU64>,
    sender: SyncSender<Vec<i32>>,
}

impl Route {
    fn stream<S>(self, device: &Device, config: StreamConfig) -> Result<Stream, cpal::Error>
    where
        S: SizedSample,
        i32: FromSample<S>,
    {
        let on_samples = move |samples: &[S], _: &_| {
            let mono = samples.chunks_exact(self.channels).map(|frame| {
                let sample = |x: &S| sori_dsp::from_i32(i32::from_sample_(*x));
                match self.channel {
                    Some(channel) => sample(&frame[channel]),
                    None => {
                        let sum = frame.iter().map(|x| i64::from(sample(x))).sum();
                        sori_sound::mean(sum, self.channels)
                    }
                }
            });
            if let Err(TrySendError::Full(_)) = self.sender.try_send(mono.collect()) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        };
        let on_error = |error| eprintln!("sori: microphone: {error}");
        device.build_input_stream(config, on_samples, on_error, None)
    }
}
