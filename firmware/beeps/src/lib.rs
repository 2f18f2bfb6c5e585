//! The beeps by which a recording is laid over what was played.
//!
//! A beep is a chirp, a second long. Correlated with itself it is one peak, a third of a
//! millisecond wide, and 35 dB above noise of its own loudness; an echo is a second peak
//! behind it. It rises at the start and falls at the end, so that neither is taken for the
//! other: the chirps of opposite slope have next to nothing in common.
//!
//! The correlation is divided by the loudness of what is heard (a normalized matched
//! filter): its value says how much of the sound is the beep, at any level.
#![forbid(unsafe_code)]

use std::f64::consts::{PI, TAU};

use rustfft::algorithm::Radix4;
use rustfft::num_complex::Complex32;
use rustfft::{Fft as _, FftDirection};
use sori_dsp::Resampler;

#[cfg(feature = "room")]
pub mod room;

/// Full scale of the samples.
const FULL_SCALE: f64 = sori_sound::FULL_SCALE as f64;

/// Length of a beep, seconds.
pub const BEEP_S: f64 = 1.0;
/// What every small speaker plays and every microphone hears.
const LOW_HZ: f64 = 500.0;
const HIGH_HZ: f64 = 4000.0;
/// A click has all frequencies; a faded edge does not click.
const FADE_S: f64 = 0.02;

/// Rate at which beeps are looked for.
const RATE_HZ: u32 = 16_000;
const BEEP_SAMPLES: usize = (BEEP_S * RATE_HZ as f64) as usize;
/// A block of correlations costs two transforms of this length.
const TRANSFORM: usize = 32_768;
/// Correlations that are right in a block; the others wrap around.
const BLOCK: usize = TRANSFORM - BEEP_SAMPLES + 1;

/// What is a beep. By `what_scores`, noise reaches 0.043 in an hour and the demo clips 0.047;
/// a beep no louder than the noise, whose echoes have six times its energy, has 0.37.
const FOUND: f32 = 0.12;
/// An echo may be louder than the direct sound, which is what came first: within this time
/// and of at least half the strength.
const ECHO_SAMPLES: usize = RATE_HZ as usize * 30 / 1000;
/// Peaks nearer than this are one beep and its echoes.
const APART_S: f64 = 0.5;
/// Power of a window below which there is nothing to look for: less than a 24-bit step.
const NOTHING: f64 = 1e-14;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beep {
    /// Rises.
    Start,
    /// Falls.
    End,
}

impl Beep {
    /// Its samples, at most 1.
    pub fn samples(self, rate_hz: u32) -> Vec<f64> {
        let rate = f64::from(rate_hz);
        let (from, to) = match self {
            Self::Start => (LOW_HZ, HIGH_HZ),
            Self::End => (HIGH_HZ, LOW_HZ),
        };
        let slope = (to - from) / BEEP_S;
        let count = (BEEP_S * rate).round() as usize;
        (0..count)
            .map(|n| {
                let t = n as f64 / rate;
                let edge = t.min(BEEP_S - t).min(FADE_S) / FADE_S;
                let fade = 0.5 - 0.5 * (PI * edge).cos();
                fade * (TAU * (from * t + slope * t * t / 2.0)).sin()
            })
            .collect()
    }
}

/// Where a beep was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its beginning, seconds after the first sample.
    pub at_s: f64,
    /// From `FOUND` to 1: how much of what was heard is the beep.
    pub score: f32,
}

/// Looks for a beep in a channel of any rate, as it comes.
pub struct Ear {
    resampler: Option<Resampler>,
    highpass: Highpass,
    finder: Finder,
}

impl Ear {
    /// None for a rate that cannot be resampled.
    pub fn new(beep: Beep, rate_hz: u32) -> Option<Self> {
        let resampler = match rate_hz {
            RATE_HZ => None,
            _ => Some(Resampler::new(rate_hz, RATE_HZ).ok()?),
        };
        Some(Self {
            resampler,
            highpass: Highpass::default(),
            finder: Finder::new(beep),
        })
    }

    /// Takes samples of 24 bits.
    pub fn push(&mut self, samples: &[i32]) {
        let (highpass, finder) = (&mut self.highpass, &mut self.finder);
        let mut hear = |sample: i32| finder.push(highpass.push(f64::from(sample) / FULL_SCALE));
        match &mut self.resampler {
            Some(resampler) => resampler.push(samples, &mut hear),
            None => samples.iter().copied().for_each(hear),
        }
    }

    /// Looks at what has not filled a block.
    pub fn finish(&mut self) {
        self.finder.finish();
    }

    /// What was found, in the order of time.
    pub fn hits(&self) -> &[Hit] {
        &self.finder.hits
    }

    /// Until here everything was looked at.
    pub fn looked_at_s(&self) -> f64 {
        self.finder.offset as f64 / f64::from(RATE_HZ)
    }
}

/// Takes offset and hum away, 24 dB an octave below 300 Hz (Butterworth): they are no part of
/// a beep, and would count as loudness.
#[derive(Debug, Clone)]
struct Highpass([Biquad; 2]);

#[derive(Debug, Clone)]
struct Biquad {
    b: f64,
    a: [f64; 2],
    state: [f64; 2],
}

impl Default for Highpass {
    fn default() -> Self {
        Self([0.541_196, 1.306_563].map(|q| {
            let w = TAU * 300.0 / f64::from(RATE_HZ);
            let (alpha, cos) = (w.sin() / (2.0 * q), w.cos());
            let a0 = 1.0 + alpha;
            Biquad {
                b: (1.0 + cos) / 2.0 / a0,
                a: [-2.0 * cos / a0, (1.0 - alpha) / a0],
                state: [0.0; 2],
            }
        }))
    }
}

impl Highpass {
    fn push(&mut self, sample: f64) -> f32 {
        let filtered = self.0.iter_mut().fold(sample, |x, stage| {
            // Transposed direct form II of b·(1, -2, 1).
            let y = stage.b * x + stage.state[0];
            stage.state = [
                -2.0 * stage.b * x - stage.a[0] * y + stage.state[1],
                stage.b * x - stage.a[1] * y,
            ];
            y
        });
        filtered as f32
    }
}

/// The matched filter.
struct Finder {
    forward: Radix4<f32>,
    backward: Radix4<f32>,
    /// Conjugate spectrum of the beep.
    beep: Vec<Complex32>,
    beep_energy: f64,
    block: Vec<f32>,
    /// Samples before the block.
    offset: usize,
    /// Scores of the block before, as far back as an echo reaches.
    scores: Vec<f32>,
    /// `FOUND`; a test measures what is below.
    threshold: f32,
    hits: Vec<Hit>,
}

impl Finder {
    fn new(beep: Beep) -> Self {
        let forward = Radix4::new(TRANSFORM, FftDirection::Forward);
        // What is looked for went through the same filter.
        let mut highpass = Highpass::default();
        let beep: Vec<f32> = beep
            .samples(RATE_HZ)
            .into_iter()
            .map(|sample| highpass.push(sample))
            .collect();
        let mut spectrum = padded(&beep);
        forward.process(&mut spectrum);
        Self {
            beep: spectrum.iter().map(Complex32::conj).collect(),
            beep_energy: beep.iter().map(|&x| f64::from(x) * f64::from(x)).sum(),
            backward: Radix4::new(TRANSFORM, FftDirection::Inverse),
            forward,
            block: Vec::with_capacity(TRANSFORM),
            offset: 0,
            scores: Vec::new(),
            threshold: FOUND,
            hits: Vec::new(),
        }
    }

    fn push(&mut self, sample: f32) {
        self.block.push(sample);
        if self.block.len() == TRANSFORM {
            self.look();
        }
    }

    fn finish(&mut self) {
        if self.block.len() >= BEEP_SAMPLES {
            self.look();
        }
    }

    fn look(&mut self) {
        let mut spectrum = padded(&self.block);
        self.forward.process(&mut spectrum);
        for (bin, beep) in spectrum.iter_mut().zip(&self.beep) {
            *bin *= beep;
        }
        self.backward.process(&mut spectrum);
        let square = |&x: &f32| f64::from(x) * f64::from(x);
        let mut energy: f64 = self.block[..BEEP_SAMPLES].iter().map(square).sum();
        let positions = self.block.len() - BEEP_SAMPLES + 1;
        let before = self.scores.len();
        for (n, product) in spectrum[..positions].iter().enumerate() {
            let score = match energy > NOTHING * BEEP_SAMPLES as f64 {
                true => {
                    let product = f64::from(product.re) / TRANSFORM as f64;
                    product / (energy * self.beep_energy).sqrt()
                }
                false => 0.0,
            };
            self.scores.push(score as f32);
            if let Some(entering) = self.block.get(n + BEEP_SAMPLES) {
                energy += square(entering) - square(&self.block[n]);
            }
        }
        self.peaks(before);
        // The next block begins where the first window is that did not fit.
        let kept = self.scores.len().saturating_sub(ECHO_SAMPLES);
        self.scores.drain(..kept);
        self.block.drain(..positions);
        self.offset += positions;
    }

    /// Finds beeps among the scores, of which the first `before` were looked at already.
    fn peaks(&mut self, before: usize) {
        let mut from = before;
        while let Some(start) =
            (from..self.scores.len()).find(|&n| self.scores[n] >= self.threshold)
        {
            let end = (start + ECHO_SAMPLES).min(self.scores.len());
            let best = (start..end)
                .max_by(|&a, &b| self.scores[a].total_cmp(&self.scores[b]))
                .unwrap_or(start);
            let score = self.scores[best];
            let earliest = best.saturating_sub(ECHO_SAMPLES);
            // Up to the top of the first peak that is high enough.
            let first = (earliest..best)
                .find(|&n| self.scores[n] >= score / 2.0 && self.scores[n + 1] < self.scores[n]);
            let place = self.offset + first.unwrap_or(best);
            let hit = Hit {
                at_s: (place - before.min(place)) as f64 / f64::from(RATE_HZ),
                score,
            };
            match self.hits.last_mut() {
                Some(last) if hit.at_s - last.at_s < APART_S => {
                    if hit.score > last.score {
                        *last = hit;
                    }
                }
                _ => self.hits.push(hit),
            }
            from = end;
        }
    }
}

fn padded(samples: &[f32]) -> Vec<Complex32> {
    let zeros = std::iter::repeat(0.0);
    let samples = samples.iter().copied().chain(zeros).take(TRANSFORM);
    samples.map(Complex32::from).collect()
}

const _: () = assert!(BLOCK > ECHO_SAMPLES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::{Noise, Room};

    fn hits(beep: Beep, rate_hz: u32, sound: &[f64]) -> Vec<Hit> {
        let samples: Vec<i32> = sound.iter().map(|x| (x * FULL_SCALE) as i32).collect();
        let mut ear = Ear::new(beep, rate_hz).expect("a rate");
        for part in samples.chunks(1000) {
            ear.push(part);
        }
        ear.finish();
        ear.hits().to_vec()
    }

    fn placed(beep: Beep, rate_hz: u32, at_s: f64, seconds: f64, gain: f64) -> Vec<f64> {
        let mut sound = vec![0.0; (seconds * f64::from(rate_hz)) as usize];
        let at = (at_s * f64::from(rate_hz)) as usize;
        for (n, sample) in beep.samples(rate_hz).into_iter().enumerate() {
            sound[at + n] += gain * sample;
        }
        sound
    }

    #[test]
    fn a_beep_is_found_wherever_it_lies_at_any_rate_and_level() {
        for rate_hz in [16_000, 44_100, 48_000] {
            // Also over the border of two blocks, and at the very end.
            for at_s in [0.0, 1.02, 1.05, 2.5, 4.0] {
                for gain in [0.5, 1e-4] {
                    let found = hits(
                        Beep::Start,
                        rate_hz,
                        &placed(Beep::Start, rate_hz, at_s, 5.02, gain),
                    );
                    let [hit] = found[..] else {
                        panic!("{rate_hz} Hz, {at_s} s, {gain}: {found:?}");
                    };
                    assert!((hit.at_s - at_s).abs() < 0.001, "{at_s}: {hit:?}");
                    assert!(hit.score > 0.9, "{hit:?}");
                }
            }
        }
    }

    #[test]
    fn neither_beep_is_taken_for_the_other_nor_is_noise_or_silence() {
        let other = placed(Beep::End, 48_000, 1.0, 4.0, 0.5);
        assert_eq!(hits(Beep::Start, 48_000, &other), []);
        let mut noise = Noise::new(1);
        let noise: Vec<f64> = (0..48_000 * 60).map(|_| 0.1 * noise.sample()).collect();
        assert_eq!(hits(Beep::Start, 48_000, &noise), []);
        assert_eq!(hits(Beep::Start, 48_000, &[0.0; 48_000 * 3]), []);
        assert_eq!(hits(Beep::Start, 48_000, &[0.25; 48_000 * 3]), []);
        assert_eq!(hits(Beep::Start, 48_000, &[]), []);
        // A swept tone is not enough: it has to be this one.
        let sweep: Vec<f64> = (0..48_000 * 8)
            .map(|n| f64::from(n) / 48_000.0)
            .map(|t| 0.3 * (TAU * (200.0 * t + 250.0 * t * t)).sin())
            .collect();
        assert_eq!(hits(Beep::Start, 48_000, &sweep), []);
    }

    #[test]
    fn what_came_first_counts_though_an_echo_is_louder() {
        for echo_s in [0.004, 0.012, 0.025] {
            let mut sound = placed(Beep::Start, 48_000, 1.5, 4.0, 0.1);
            let echo = placed(Beep::Start, 48_000, 1.5 + echo_s, 4.0, 0.15);
            sound.iter_mut().zip(echo).for_each(|(x, echo)| *x += echo);
            let found = hits(Beep::Start, 48_000, &sound);
            let [hit] = found[..] else {
                panic!("{echo_s} s: {found:?}");
            };
            assert!((hit.at_s - 1.5).abs() < 0.001, "{echo_s} s: {hit:?}");
        }
    }

    #[test]
    fn a_beep_is_found_in_an_echoing_room_with_hum_offset_and_louder_noise() {
        let mut sound = Room::new(7, 0.8, 0.5).hear(&placed(Beep::Start, 48_000, 1.5, 6.0, 0.01));
        let mut noise = Noise::new(2);
        for (n, sample) in sound.iter_mut().enumerate() {
            let t = n as f64 / 48_000.0;
            *sample += 0.02 * noise.sample() + 0.1 * (TAU * 50.0 * t).sin() + 0.1;
        }
        let found = hits(Beep::Start, 48_000, &sound);
        let best = found.iter().max_by(|a, b| a.score.total_cmp(&b.score));
        let best = best.expect("found");
        assert!((best.at_s - 1.5 - Room::DELAY_S).abs() < 0.01, "{found:?}");
    }

    /// Of 16-bit mono WAV files: `SORI_CLIPS=FOLDER cargo test -p sori-beeps what_scores -- --ignored --nocapture`
    #[test]
    #[ignore = "measures, with clips that are not here"]
    fn what_scores() {
        let highest = |rate_hz: u32, sound: &mut dyn Iterator<Item = f64>| {
            let mut ear = Ear::new(Beep::Start, rate_hz).expect("a rate");
            ear.finder.threshold = 0.0;
            for sample in sound {
                ear.push(&[(sample * FULL_SCALE) as i32]);
            }
            ear.finish();
            let scores = ear.hits().iter().map(|hit| hit.score);
            scores.fold(0.0, f32::max)
        };
        let mut noise = Noise::new(3);
        let hour = (0..16_000 * 3600).map(|_| 0.1 * noise.sample());
        println!(
            "an hour of noise: {:.3}",
            highest(16_000, &mut hour.into_iter())
        );
        let clips = std::env::var_os("SORI_CLIPS").expect("a folder of clips");
        for label in std::fs::read_dir(clips).unwrap() {
            for clip in std::fs::read_dir(label.unwrap().path()).unwrap() {
                let path = clip.unwrap().path();
                let reader = hound::WavReader::open(&path).unwrap();
                let rate_hz = reader.spec().sample_rate;
                let samples = reader.into_samples::<i16>().map(Result::unwrap);
                let mut sound = samples.map(|x| f64::from(x) / 32_768.0);
                println!("{}: {:.3}", path.display(), highest(rate_hz, &mut sound));
            }
        }
        for (rt60_s, echoes, noise_db) in [(0.3, 0.5, -20.0), (0.6, 2.0, -10.0), (1.0, 6.0, 0.0)] {
            let beep = placed(Beep::Start, 48_000, 1.5, 6.0, 0.1);
            let mut hiss = Noise::new(4);
            // In the band of the beep, whose power is 1/200, as in all of the 8 kHz.
            let gain = 0.07 * 10f64.powf(noise_db / 20.0) * 3f64.sqrt();
            let sound = Room::new(5, rt60_s, echoes).hear(&beep);
            let sound: Vec<f64> = sound.iter().map(|x| x + gain * hiss.sample()).collect();
            let score = highest(48_000, &mut sound.into_iter());
            println!("RT60 {rt60_s} s, echoes {echoes}, noise {noise_db} dB: {score:.3}");
        }
    }
}
