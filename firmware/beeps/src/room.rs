//! A room for tests: a speaker, echoes, noise, a microphone whose clock runs on its own.

use std::f64::consts::PI;

use rustfft::algorithm::Radix4;
use rustfft::num_complex::Complex;
use rustfft::{Fft as _, FftDirection};

/// Rate of all sound here.
const RATE_HZ: f64 = 48_000.0;

/// Noise, about Gaussian, of power 1.
#[derive(Debug)]
pub struct Noise(u64);

impl Noise {
    /// The same for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From -1 to 1.
    pub fn even(&mut self) -> f64 {
        // Marsaglia's xorshift64 (2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// The next sample.
    pub fn sample(&mut self) -> f64 {
        // The power of an even one is 1/3.
        (0..3).map(|_| self.even()).sum()
    }
}

/// An impulse response: the direct sound, then echoes that fade.
#[derive(Debug)]
pub struct Room(Vec<f64>);

impl Room {
    /// The way from the speaker: 1.7 m.
    pub const DELAY_S: f64 = 0.005;

    /// Echoes fall by 60 dB in `rt60_s`; their energy is to that of the direct sound as
    /// `echoes` to 1.
    pub fn new(seed: u64, rt60_s: f64, echoes: f64) -> Self {
        let mut noise = Noise::new(seed);
        let count = (rt60_s * RATE_HZ) as usize;
        let mut tail: Vec<f64> = (0..count)
            .map(|n| noise.sample() * 10f64.powf(-3.0 * n as f64 / count as f64))
            .collect();
        let energy: f64 = tail.iter().map(|x| x * x).sum();
        tail.iter_mut().for_each(|x| *x *= (echoes / energy).sqrt());
        let mut response = vec![0.0; (Self::DELAY_S * RATE_HZ) as usize];
        response.push(1.0);
        // The first wall is a metre away.
        response.extend([0.0; 280]);
        response.extend(tail);
        Self(response)
    }

    /// What is heard of it.
    pub fn hear(&self, sound: &[f64]) -> Vec<f64> {
        let size = (sound.len() + self.0.len()).next_power_of_two();
        let spectrum = |samples: &[f64]| {
            let mut all: Vec<Complex<f64>> = samples.iter().map(Complex::from).collect();
            all.resize(size, Complex::default());
            Radix4::new(size, FftDirection::Forward).process(&mut all);
            all
        };
        let mut product = spectrum(sound);
        for (x, h) in product.iter_mut().zip(spectrum(&self.0)) {
            *x *= h / size as f64;
        }
        Radix4::new(size, FftDirection::Inverse).process(&mut product);
        product[..sound.len()].iter().map(|x| x.re).collect()
    }
}

/// The sound as a clock takes it that is faster by `ppm` millionths: more samples of it.
pub fn drift(sound: &[f64], ppm: f64) -> Vec<f64> {
    const REACH: i64 = 16;
    let scale = 1.0 + ppm / 1e6;
    let count = (sound.len() as f64 * scale) as usize;
    let at = |n: i64| usize::try_from(n).ok().and_then(|n| sound.get(n));
    (0..count)
        .map(|n| {
            let place = n as f64 / scale;
            let whole = place.floor() as i64;
            // A windowed sinc.
            (whole - REACH + 1..=whole + REACH)
                .filter_map(|m| {
                    let x = place - m as f64;
                    let window = 0.5 + 0.5 * (PI * x / REACH as f64).cos();
                    let sinc = match x.abs() < 1e-9 {
                        true => 1.0,
                        false => (PI * x).sin() / (PI * x),
                    };
                    at(m).map(|sample| sample * sinc * window)
                })
                .sum()
        })
        .collect()
}
