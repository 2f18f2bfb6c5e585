//! What a channel of a microphone says of itself: level, offset, hum, clipping, or nothing.
//!
//! Samples are 24-bit in an `i32`, whatever the device delivered.

use std::f64::consts::TAU;

use serde::Serialize;

/// Full scale of 24 bits.
pub const FULL_SCALE: f64 = 8_388_608.0;

/// From here on a sample counts as clipped: 0.01 dB below full scale.
const CLIPPED: i32 = 8_378_955;

/// Harmonics of the mains that are looked for, each of 50 and of 60 Hz.
const HARMONICS: usize = 5;

/// A second of one channel, measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    /// Without the offset, dBFS; minus infinity for a constant.
    pub rms_dbfs: f64,
    /// Farthest from the offset, dBFS.
    pub peak_dbfs: f64,
    /// The mean, as a fraction of full scale.
    pub offset: f64,
    /// Samples at full scale.
    pub clipped: u32,
    /// Share of the power at 50 or 60 Hz and their harmonics, whichever mains has more.
    pub hum: f64,
    /// Samples measured.
    pub samples: u32,
    /// Every sample was the same.
    pub constant: bool,
}

impl Reading {
    /// All zeros: nothing drives the data line in this half of the frame.
    pub fn is_zero(&self) -> bool {
        self.constant && self.offset == 0.0
    }

    /// A microphone's own noise at least. An INMP441 has -87 dBFS; digital silence, or a
    /// line that is stuck, has less than any microphone.
    pub fn is_live(&self) -> bool {
        !self.constant && self.rms_dbfs > -105.0
    }
}

/// Measures one channel.
#[derive(Debug, Clone)]
pub struct Meter {
    samples: u32,
    sum: i64,
    squares: f64,
    least: i32,
    most: i32,
    clipped: u32,
    mains: [[Goertzel; HARMONICS]; 2],
}

impl Meter {
    /// For a channel of that many samples a second.
    pub fn new(rate_hz: u32) -> Self {
        let harmonics = |base: f64| {
            std::array::from_fn(|n| Goertzel::new(base * (n + 1) as f64, f64::from(rate_hz)))
        };
        Self {
            samples: 0,
            sum: 0,
            squares: 0.0,
            least: i32::MAX,
            most: i32::MIN,
            clipped: 0,
            mains: [harmonics(50.0), harmonics(60.0)],
        }
    }

    /// Takes a sample.
    pub fn push(&mut self, sample: i32) {
        self.samples += 1;
        self.sum += i64::from(sample);
        self.squares += f64::from(sample) * f64::from(sample);
        self.least = self.least.min(sample);
        self.most = self.most.max(sample);
        self.clipped += u32::from(sample >= CLIPPED || sample <= -CLIPPED);
        for bin in self.mains.as_flattened_mut() {
            bin.push(f64::from(sample));
        }
    }

    /// What was measured since the last reading; none without a sample.
    pub fn take(&mut self) -> Option<Reading> {
        if self.samples == 0 {
            return None;
        }
        let n = f64::from(self.samples);
        let mean = self.sum as f64 / n;
        let power = (self.squares / n - mean * mean).max(0.0);
        let constant = self.least == self.most;
        let farthest = (f64::from(self.most) - mean).max(mean - f64::from(self.least));
        let mains = self
            .mains
            .each_ref()
            .map(|bins| bins.iter().map(|bin| bin.power(self.samples)).sum::<f64>());
        let reading = Reading {
            rms_dbfs: dbfs(power.sqrt()),
            peak_dbfs: dbfs(farthest),
            offset: mean / FULL_SCALE,
            clipped: self.clipped,
            hum: match power > 0.0 {
                true => (mains[0].max(mains[1]) / power).min(1.0),
                false => 0.0,
            },
            samples: self.samples,
            constant,
        };
        self.samples = 0;
        self.sum = 0;
        self.squares = 0.0;
        (self.least, self.most) = (i32::MAX, i32::MIN);
        self.clipped = 0;
        for bin in self.mains.as_flattened_mut() {
            bin.restart();
        }
        Some(reading)
    }
}

fn dbfs(amplitude: f64) -> f64 {
    20.0 * (amplitude / FULL_SCALE).log10()
}

/// The power at one frequency (Goertzel 1958): a recursion a sample instead of a transform.
#[derive(Debug, Clone)]
struct Goertzel {
    coefficient: f64,
    latest: f64,
    before: f64,
}

impl Goertzel {
    fn new(frequency_hz: f64, rate_hz: f64) -> Self {
        Self {
            coefficient: 2.0 * (TAU * frequency_hz / rate_hz).cos(),
            latest: 0.0,
            before: 0.0,
        }
    }

    fn push(&mut self, sample: f64) {
        let next = sample + self.coefficient * self.latest - self.before;
        (self.before, self.latest) = (self.latest, next);
    }

    /// Of a sine of amplitude a: a² / 2, if whole periods were heard.
    fn power(&self, samples: u32) -> f64 {
        let n = f64::from(samples);
        let squared = self.latest * self.latest + self.before * self.before
            - self.coefficient * self.latest * self.before;
        2.0 * squared.max(0.0) / (n * n)
    }

    fn restart(&mut self) {
        (self.latest, self.before) = (0.0, 0.0);
    }
}

/// Which of several channels has the microphone.
///
/// A channel that is not live is left at once for one that is. Between live ones the choice
/// is kept until another has been louder by [`MARGIN_DB`](Self::MARGIN_DB) for
/// [`PATIENCE`](Self::PATIENCE) readings: two microphones in a room take turns all the time.
#[derive(Debug, Clone)]
pub struct Chooser {
    chosen: usize,
    /// Another channel, and how often in a row it was clearly louder.
    rival: Option<(usize, u32)>,
}

impl Chooser {
    /// What makes one live channel clearly louder than another.
    pub const MARGIN_DB: f64 = 6.0;
    /// Readings for which it has to be.
    pub const PATIENCE: u32 = 5;

    /// Starts with the first channel.
    pub fn new() -> Self {
        Self {
            chosen: 0,
            rival: None,
        }
    }

    /// The channel to listen to.
    pub fn chosen(&self) -> usize {
        self.chosen
    }

    /// Takes a reading of each channel and returns the channel to listen to.
    pub fn judge(&mut self, readings: &[Reading]) -> usize {
        let loudest = readings
            .iter()
            .enumerate()
            .filter(|(_, reading)| reading.is_live())
            .max_by(|(_, a), (_, b)| a.rms_dbfs.total_cmp(&b.rms_dbfs));
        let Some((loudest, reading)) = loudest else {
            return self.chosen;
        };
        let current = readings
            .get(self.chosen)
            .filter(|reading| reading.is_live());
        let Some(current) = current else {
            (self.chosen, self.rival) = (loudest, None);
            return self.chosen;
        };
        if loudest == self.chosen || reading.rms_dbfs < current.rms_dbfs + Self::MARGIN_DB {
            self.rival = None;
            return self.chosen;
        }
        let times = match self.rival {
            Some((rival, times)) if rival == loudest => times + 1,
            _ => 1,
        };
        self.rival = Some((loudest, times));
        if times >= Self::PATIENCE {
            (self.chosen, self.rival) = (loudest, None);
        }
        self.chosen
    }
}

impl Default for Chooser {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 48_000;

    fn read(samples: impl Iterator<Item = f64>) -> Reading {
        let mut meter = Meter::new(RATE_HZ);
        for sample in samples.take(RATE_HZ as usize) {
            meter.push((sample * FULL_SCALE).clamp(-FULL_SCALE, FULL_SCALE - 1.0) as i32);
        }
        meter.take().expect("a second was pushed")
    }

    fn sine(frequency_hz: f64, amplitude: f64) -> impl Iterator<Item = f64> {
        let step = TAU * frequency_hz / f64::from(RATE_HZ);
        (0..).map(move |n| amplitude * (step * f64::from(n)).sin())
    }

    fn live(rms_dbfs: f64) -> Reading {
        Reading {
            rms_dbfs,
            ..read(sine(440.0, 0.1))
        }
    }

    #[test]
    fn a_sine_has_its_level_whatever_the_offset() {
        let reading = read(sine(1000.0, 0.1).map(|x| x + 0.25));
        assert!((reading.rms_dbfs - -23.01).abs() < 0.02, "{reading:?}");
        assert!((reading.peak_dbfs - -20.0).abs() < 0.02, "{reading:?}");
        assert!((reading.offset - 0.25).abs() < 1e-4, "{reading:?}");
        assert!(reading.hum < 0.01 && reading.clipped == 0, "{reading:?}");
        assert!(reading.is_live());
    }

    #[test]
    fn hum_is_the_share_of_either_mains() {
        for mains in [50.0, 60.0] {
            let hum = sine(mains, 0.1).zip(sine(3.0 * mains, 0.1));
            let reading = read(hum.zip(sine(1000.0, 0.1)).map(|((a, b), c)| a + b + c));
            assert!(
                (reading.hum - 2.0 / 3.0).abs() < 0.01,
                "{mains}: {reading:?}"
            );
        }
    }

    #[test]
    fn what_is_no_microphone_is_not_live() {
        let zeros = read(std::iter::repeat(0.0));
        assert!(zeros.is_zero() && !zeros.is_live());
        let stuck = read(std::iter::repeat(-1.0));
        assert!(stuck.constant && !stuck.is_zero() && !stuck.is_live());
        assert_eq!(stuck.clipped, RATE_HZ);
        // The floor of an INMP441 is a microphone.
        assert!(read(sine(777.0, 6e-5)).is_live());
    }

    #[test]
    fn clipping_is_counted() {
        let reading = read(sine(100.0, 2.0));
        // A sine of twice full scale is above it for two thirds of the time.
        let share = f64::from(reading.clipped) / f64::from(RATE_HZ);
        assert!((share - 2.0 / 3.0).abs() < 0.01, "{share}");
    }

    #[test]
    fn a_reading_starts_anew() {
        let mut meter = Meter::new(RATE_HZ);
        assert_eq!(meter.take(), None);
        meter.push(1 << 22);
        assert_eq!(meter.take().map(|r| r.samples), Some(1));
        assert_eq!(meter.take(), None);
    }

    #[test]
    fn the_live_channel_is_chosen_at_once_and_kept_against_a_little_more() {
        let dead = read(std::iter::repeat(0.0));
        let mut chooser = Chooser::new();
        assert_eq!(chooser.judge(&[dead, live(-60.0)]), 1);
        // A little louder never wins, much louder only after a while.
        for _ in 0..20 {
            assert_eq!(chooser.judge(&[live(-55.0), live(-60.0)]), 1);
        }
        for _ in 1..Chooser::PATIENCE {
            assert_eq!(chooser.judge(&[live(-40.0), live(-60.0)]), 1);
        }
        assert_eq!(chooser.judge(&[live(-40.0), live(-60.0)]), 0);
        // One that dies is left at once, and nobody is chosen over silence everywhere.
        assert_eq!(chooser.judge(&[dead, live(-60.0)]), 1);
        assert_eq!(chooser.judge(&[dead, dead]), 1);
        assert_eq!(chooser.judge(&[]), 1);
    }
}
