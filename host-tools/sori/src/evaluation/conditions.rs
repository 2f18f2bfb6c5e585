//! Simulates what lies between music and listener: level, microphone, room, noise, overload.
//! Everything is seeded, so that every run hears the same.

use rustfft::algorithm::Radix4;
use rustfft::num_complex::Complex64;
use rustfft::{Fft as _, FftDirection};

/// Full scale of 24-bit samples.
pub(crate) const FULL_SCALE: f64 = 8_388_608.0;
const SOUND_M_PER_S: f64 = 343.0;

/// A listening condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Condition {
    pub(crate) name: &'static str,
    /// Peak, dBFS; `None` keeps the recording's.
    gain_db: Option<f64>,
    /// Distance to the loudspeaker in a room, metres.
    room_m: Option<f64>,
    /// Signal-to-noise ratio, dB.
    snr_db: Option<f64>,
    /// A MEMS microphone's corner frequencies.
    microphone: bool,
    /// Overload before the converter, dB.
    clipped_db: f64,
}

const PLAIN: Condition = Condition {
    name: "clean",
    gain_db: None,
    room_m: None,
    snr_db: None,
    microphone: false,
    clipped_db: 0.0,
};

/// The recording as it is.
pub(crate) const CLEAN: Condition = PLAIN;

/// The conditions that a report compares with [`CLEAN`].
pub(crate) const CONDITIONS: [Condition; 8] = [
    Condition {
        name: "gain -20 dB",
        gain_db: Some(-20.0),
        ..PLAIN
    },
    Condition {
        name: "gain -40 dB",
        gain_db: Some(-40.0),
        ..PLAIN
    },
    Condition {
        name: "MEMS microphone, -30 dB",
        gain_db: Some(-30.0),
        microphone: true,
        ..PLAIN
    },
    Condition {
        name: "noise, 20 dB SNR",
        snr_db: Some(20.0),
        ..PLAIN
    },
    Condition {
        name: "noise, 10 dB SNR",
        snr_db: Some(10.0),
        ..PLAIN
    },
    Condition {
        name: "room at 1 m, 20 dB SNR",
        gain_db: Some(-30.0),
        room_m: Some(1.0),
        snr_db: Some(20.0),
        microphone: true,
        ..PLAIN
    },
    Condition {
        name: "room at 3 m, 10 dB SNR",
        gain_db: Some(-40.0),
        room_m: Some(3.0),
        snr_db: Some(10.0),
        microphone: true,
        ..PLAIN
    },
    Condition {
        name: "overloaded by 6 dB",
        clipped_db: 6.0,
        ..PLAIN
    },
];

impl Condition {
    /// The recording under this condition, of the same length. `seed` chooses the room and
    /// the noise.
    pub(crate) fn apply(&self, samples: &[i32], rate_hz: u32, seed: u64) -> Vec<i32> {
        if *self == CLEAN {
            return samples.to_vec();
        }
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut heard: Vec<f64> = samples.iter().map(|&x| f64::from(x) / FULL_SCALE).collect();
        if let Some(distance) = self.room_m {
            let response = room(distance, f64::from(rate_hz), &mut chance);
            heard = convolved(&heard, &response);
        }
        if self.microphone {
            highpass(&mut heard, 60.0, f64::from(rate_hz));
            lowpass(&mut heard, 15_000.0, f64::from(rate_hz));
        }
        if let Some(snr_db) = self.snr_db {
            let noise = noise(heard.len(), 0.5, &mut chance);
            let scale = rms(&heard) * decibels(-snr_db);
            heard
                .iter_mut()
                .zip(noise)
                .for_each(|(x, n)| *x += n * scale);
        }
        let peak = heard.iter().fold(1e-9f64, |peak, x| peak.max(x.abs()));
        if self.clipped_db > 0.0 {
            let gain = decibels(self.clipped_db) / peak;
            heard
                .iter_mut()
                .for_each(|x| *x = (*x * gain).clamp(-1.0, 1.0));
        } else if let Some(gain_db) = self.gain_db {
            // Relative to the peak, so that recordings of all levels are overloaded alike.
            let gain = decibels(gain_db) / peak;
            heard.iter_mut().for_each(|x| *x *= gain);
        }
        as_samples(&heard)
    }
}

/// Synthetic non-music: named sets of clips of `seconds`.
pub(crate) fn not_music(rate_hz: u32, seconds: usize) -> Vec<(&'static str, Vec<Vec<i32>>)> {
    let length = rate_hz as usize * seconds;
    let mut chance = fastrand::Rng::with_seed(1);
    let silence = [-160.0, -90.0, -80.0, -75.0].map(|level_dbfs| {
        let noise = noise(length, 0.5, &mut chance);
        as_samples(&scaled(noise, level_dbfs))
    });
    let noise = (0..40).map(|n| {
        // From white over pink to brown, and from loud to barely not silent.
        let noise = noise(length, f64::from(n % 5) / 4.0, &mut chance);
        as_samples(&scaled(noise, -10.0 - f64::from(n)))
    });
    vec![("silence", silence.to_vec()), ("noise", noise.collect())]
}

fn scaled(samples: Vec<f64>, rms_dbfs: f64) -> Vec<f64> {
    let gain = decibels(rms_dbfs);
    samples.into_iter().map(|x| x * gain).collect()
}

fn as_samples(heard: &[f64]) -> Vec<i32> {
    let limit = FULL_SCALE - 1.0;
    let sample = |x: &f64| (x * FULL_SCALE).round().clamp(-FULL_SCALE, limit) as i32;
    heard.iter().map(sample).collect()
}

fn decibels(db: f64) -> f64 {
    10f64.powf(db / 20.0)
}

fn rms(samples: &[f64]) -> f64 {
    let power: f64 = samples.iter().map(|x| x * x).sum();
    (power / samples.len().max(1) as f64).sqrt()
}

/// Noise whose amplitude falls with frequency to the power `slope` (0 white, ½ pink, 1 brown); rms 1.
fn noise(length: usize, slope: f64, chance: &mut fastrand::Rng) -> Vec<f64> {
    let size = length.next_power_of_two().max(2);
    let mut spectrum = vec![Complex64::ZERO; size];
    for k in 1..size / 2 {
        // The slope ends below a thousandth of the rate.
        let amplitude = (k as f64).max(size as f64 / 1000.0).powf(-slope);
        let phase = chance.f64() * std::f64::consts::TAU;
        spectrum[k] = Complex64::from_polar(amplitude, phase);
        spectrum[size - k] = spectrum[k].conj();
    }
    transform(&mut spectrum, FftDirection::Inverse);
    let mut samples: Vec<f64> = spectrum[..length].iter().map(|x| x.re).collect();
    let level = rms(&samples).max(1e-12);
    samples.iter_mut().for_each(|x| *x /= level);
    samples
}

/// Impulse response of a rectangular room by the image-source method (Allen and Berkley,
/// JASA 65, 1979), from the direct sound on; its energy is 1.
fn room(distance: f64, rate_hz: f64, chance: &mut fastrand::Rng) -> Vec<f64> {
    let mut between = |low: f64, high: f64| low + (high - low) * chance.f64();
    let size = [between(3.5, 7.0), between(3.0, 5.5), between(2.3, 3.0)];
    let reverberation_s = between(0.25, 0.6);
    // The loudspeaker stands about a metre from two walls, the microphone before it.
    let source = [
        between(0.6, 1.2),
        between(0.8, size[1] - 0.8),
        between(0.7, 1.4),
    ];
    let farthest = size[0] - 0.2 - source[0];
    let ahead = distance.min(farthest);
    let aside = (distance * distance - ahead * ahead).sqrt();
    let room_aside = size[1] - 0.2 - source[1];
    let side = if room_aside > aside { aside } else { -aside };
    let microphone = [
        source[0] + ahead,
        (source[1] + side).clamp(0.2, size[1] - 0.2),
        source[2],
    ];
    let surface = 2.0 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2]);
    let volume: f64 = size.iter().product();
    // Sabine's formula, solved for the absorption.
    let absorption = (0.161 * volume / (surface * reverberation_s)).min(0.9);
    let reflection = (1.0 - absorption).sqrt();
    let reach = reverberation_s * SOUND_M_PER_S;
    let axis = |n: usize| -> Vec<(f64, i32)> {
        let order = (reach / (2.0 * size[n])) as i32 + 1;
        (-order..=order)
            .flat_map(|k| {
                let room = 2.0 * f64::from(k) * size[n];
                [
                    (room + source[n] - microphone[n], 2 * k.abs()),
                    (room - source[n] - microphone[n], k.abs() + (k - 1).abs()),
                ]
            })
            .collect()
    };
    let [x, y, z] = [axis(0), axis(1), axis(2)];
    let straight = (0..3)
        .map(|n| (source[n] - microphone[n]).powi(2))
        .sum::<f64>()
        .sqrt();
    let mut response = vec![0.0; (reverberation_s * rate_hz) as usize + 1];
    for &(dx, walls_x) in &x {
        for &(dy, walls_y) in &y {
            for &(dz, walls_z) in &z {
                let path = (dx * dx + dy * dy + dz * dz).sqrt();
                let at = ((path - straight) / SOUND_M_PER_S * rate_hz).round() as usize;
                if let Some(tap) = response.get_mut(at) {
                    *tap += reflection.powi(walls_x + walls_y + walls_z) / path.max(0.1);
                }
            }
        }
    }
    let energy: f64 = response.iter().map(|x| x * x).sum();
    response.iter_mut().for_each(|x| *x /= energy.sqrt());
    response
}

/// Of a power of two values. Not by a planner, which compiles what any length may need: as long as
/// all the rest of `sori`.
fn transform(values: &mut [Complex64], direction: FftDirection) {
    Radix4::new(values.len(), direction).process(values);
}

/// Keeps the number of samples.
fn convolved(samples: &[f64], response: &[f64]) -> Vec<f64> {
    let size = (samples.len() + response.len()).next_power_of_two();
    let padded = |values: &[f64]| {
        let mut spectrum = vec![Complex64::ZERO; size];
        spectrum.iter_mut().zip(values).for_each(|(z, &x)| z.re = x);
        transform(&mut spectrum, FftDirection::Forward);
        spectrum
    };
    let mut product = padded(samples);
    let other = padded(response);
    product.iter_mut().zip(other).for_each(|(a, b)| *a *= b);
    transform(&mut product, FftDirection::Inverse);
    product[..samples.len()]
        .iter()
        .map(|x| x.re / size as f64)
        .collect()
}

/// One pole at a frequency.
fn lowpass(samples: &mut [f64], hz: f64, rate_hz: f64) {
    if 2.0 * hz >= rate_hz {
        return;
    }
    let keep = (-std::f64::consts::TAU * hz / rate_hz).exp();
    let mut state = 0.0;
    for x in samples {
        state = keep * state + (1.0 - keep) * *x;
        *x = state;
    }
}

fn highpass(samples: &mut [f64], hz: f64, rate_hz: f64) {
    let mut low = samples.to_vec();
    lowpass(&mut low, hz, rate_hz);
    samples.iter_mut().zip(low).for_each(|(x, low)| *x -= low);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 16_000;

    fn tone() -> Vec<i32> {
        let sample = |n: usize| (4e6 * (n as f64 * 0.35).sin()) as i32;
        (0..RATE as usize).map(sample).collect()
    }

    fn level_db(samples: &[i32]) -> f64 {
        let floats: Vec<f64> = samples.iter().map(|&x| f64::from(x) / FULL_SCALE).collect();
        20.0 * rms(&floats).log10()
    }

    #[test]
    fn clean_is_untouched_and_a_seed_gives_the_same_room() {
        let music = tone();
        assert_eq!(CLEAN.apply(&music, RATE, 1), music);
        for condition in CONDITIONS {
            let heard = condition.apply(&music, RATE, 7);
            assert_eq!(heard.len(), music.len(), "{}", condition.name);
            assert_eq!(
                heard,
                condition.apply(&music, RATE, 7),
                "{}",
                condition.name
            );
            assert_ne!(heard, music, "{}", condition.name);
        }
        let room = CONDITIONS[5];
        assert_ne!(room.apply(&music, RATE, 1), room.apply(&music, RATE, 2));
    }

    #[test]
    fn gain_sets_the_peak() {
        let heard = CONDITIONS[1].apply(&tone(), RATE, 1);
        let peak = heard.iter().map(|x| x.abs()).max().unwrap_or(0);
        assert!((peak - 83_886).abs() < 200, "{peak}");
    }

    /// Noise 20 dB below a tone has a hundredth of its power.
    #[test]
    fn noise_has_its_ratio_and_its_colour() {
        let mut chance = fastrand::Rng::with_seed(3);
        for slope in [0.0, 0.5, 1.0] {
            let noise = noise(50_000, slope, &mut chance);
            assert!((rms(&noise) - 1.0).abs() < 1e-9);
            let steps: Vec<f64> = noise.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // White differs from sample to sample, brown hardly.
            assert_eq!(rms(&steps) > 1.0, slope == 0.0, "{slope}: {}", rms(&steps));
        }
    }

    /// The energy before and after the first tenth of a second matches the reverberation time.
    #[test]
    fn a_room_begins_with_the_direct_sound_and_decays() {
        for seed in 0..8 {
            let mut chance = fastrand::Rng::with_seed(seed);
            let response = room(1.0, f64::from(RATE), &mut chance);
            let largest = response.iter().fold(0.0f64, |max, x| max.max(x.abs()));
            assert_eq!(response[0], largest, "the direct sound is the strongest");
            let energy = |part: &[f64]| part.iter().map(|x| x * x).sum::<f64>();
            assert!((energy(&response) - 1.0).abs() < 1e-9);
            let late = energy(&response[response.len() * 3 / 4..]);
            let early = energy(&response[..response.len() / 4]);
            assert!(late < early / 30.0, "seed {seed}: {late} of {early}");
        }
    }

    #[test]
    fn convolution_is_a_sum_of_echoes() {
        let samples = [1.0, 2.0, 0.0, -1.0];
        let heard = convolved(&samples, &[1.0, 0.0, 0.5]);
        let expected = [1.0, 2.0, 0.5, 0.0];
        for (a, b) in heard.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{heard:?}");
        }
    }

    #[test]
    fn silence_is_below_minus_seventy_and_noise_above() {
        let made = not_music(RATE, 1);
        for (name, clips) in &made {
            for clip in clips {
                let quiet = level_db(clip) < -70.0;
                assert_eq!(quiet, *name == "silence", "{name}: {}", level_db(clip));
            }
        }
    }
}
