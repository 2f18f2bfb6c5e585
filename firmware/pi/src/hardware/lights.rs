//! WS2812 lights as a level bar, their one wire driven by an SPI's MOSI.
//!
//! At 2.4 MHz three SPI bits are one bit of the lights, most significant first, green before
//! red before blue:
//!
//! ```text
//!            SPI   high     low      WS2812B datasheet, ±150 ns
//! a zero     100   417 ns   833 ns   400 ns, 850 ns
//! a one      110   833 ns   417 ns   800 ns, 450 ns
//! ```
//!
//! A Pi divides its core clock and may be a little slower, which these times have room for;
//! a core clock that changes with the load is another matter, see `sori-pi.toml`. A transfer of 96 bytes or more goes by DMA, without gaps between bytes; every frame is
//! longer than that.

use std::path::PathBuf;
use std::time::Duration;

use embedded_hal::spi::SpiBus;

use super::Parts;
use super::retry::Retry;
use crate::config;

/// SPI clock.
pub const CLOCK_HZ: u32 = 2_400_000;

/// Low for 300 µs: newer lights need 280 to take what they were sent.
const RESET_BYTES: usize = 300 * 3 * 800_000 / 1_000_000 / 8;

/// Of 255. A colour at full draws 20 mA, so this one 2.5; 144 lights draw half an ampere at
/// most, most of it only to be on. More needs a supply of its own, and the eyes are grateful.
const BRIGHTNESS: u8 = 32;

/// What the bar spans. Music through a microphone across the room peaks at -50 dBFS.
const FLOOR_DBFS: f64 = -72.0;
const TOP_DBFS: f64 = -12.0;
const YELLOW_FROM_DBFS: f64 = -30.0;
const RED_FROM_DBFS: f64 = -18.0;

/// How fast the bar falls.
const FALL_DB_PER_S: f64 = 24.0;

/// What stays the same is sent again so often: a light that was plugged in anew, or missed
/// a bit, gets right.
const REFRESH: Duration = Duration::from_secs(2);

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

const DARK: Colour = Colour(0, 0, 0);

/// The bytes that MOSI sends for these lights, the first of them first.
pub fn encode(colours: &[Colour]) -> Vec<u8> {
    // MOSI may rest high, so that the first bit would have no rising edge.
    let mut bytes = vec![0];
    for &Colour(red, green, blue) in colours {
        for value in [green, red, blue] {
            let spread = (0..8).rev().fold(0u32, |spread, bit| {
                spread << 3 | 0b100 | u32::from(value >> bit & 1) << 1
            });
            bytes.extend(&spread.to_be_bytes()[1..]);
        }
    }
    bytes.extend([0; RESET_BYTES]);
    bytes
}

/// The lights of a bar at a level.
pub fn bar(level_dbfs: f64, count: usize) -> Vec<Colour> {
    let step_db = (TOP_DBFS - FLOOR_DBFS) / count as f64;
    let colour = |light: usize| {
        let from_dbfs = FLOOR_DBFS + light as f64 * step_db;
        match from_dbfs {
            _ if level_dbfs <= from_dbfs => DARK,
            RED_FROM_DBFS.. => Colour(BRIGHTNESS, 0, 0),
            YELLOW_FROM_DBFS.. => Colour(BRIGHTNESS, BRIGHTNESS / 2, 0),
            _ => Colour(0, BRIGHTNESS, 0),
        }
    };
    (0..count).map(colour).collect()
}

/// Lights on an SPI.
#[derive(Debug)]
pub(super) struct LevelBar<S> {
    path: PathBuf,
    count: usize,
    spi: Retry<S>,
    shown_dbfs: f64,
    shown_at: Duration,
    sent: Vec<Colour>,
    sent_at: Duration,
}

impl<S: SpiBus> LevelBar<S> {
    pub(super) fn new(config: &config::Lights) -> Self {
        Self {
            path: config.spi.clone(),
            count: config.count.get() as usize,
            spi: Retry::new(),
            shown_dbfs: f64::NEG_INFINITY,
            shown_at: Duration::ZERO,
            sent: Vec::new(),
            sent_at: Duration::ZERO,
        }
    }

    /// Rises at once, falls slowly; dark without a level.
    pub(super) fn show(
        &mut self,
        level_dbfs: Option<f64>,
        now: Duration,
        parts: &mut impl Parts<Spi = S>,
    ) {
        let fallen = FALL_DB_PER_S * now.saturating_sub(self.shown_at).as_secs_f64();
        self.shown_at = now;
        self.shown_dbfs = match level_dbfs {
            Some(level) => level.max(self.shown_dbfs - fallen),
            None => f64::NEG_INFINITY,
        };
        let path = &self.path;
        let Some((spi, is_new)) = self.spi.get(now, || parts.spi(path, CLOCK_HZ)) else {
            return;
        };
        let colours = bar(self.shown_dbfs, self.count);
        let is_old = now.saturating_sub(self.sent_at) >= REFRESH;
        if !is_new && !is_old && colours == self.sent {
            return;
        }
        match spi.write(&encode(&colours)) {
            Ok(()) => {
                (self.sent, self.sent_at) = (colours, now);
                self.spi.worked();
            }
            Err(error) => {
                let why = format!("{} rejects the lights' data: {error:?}", path.display());
                self.spi.failed(now, why);
            }
        }
    }

    pub(super) fn off(&mut self) {
        if let Some(spi) = self.spi.open() {
            // There is nobody left to tell.
            let _ = spi.write(&encode(&vec![DARK; self.count]));
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.spi.problem()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels of MOSI with their lengths, nanoseconds, without the zeros at either end.
    fn pulses(bytes: &[u8]) -> Vec<(bool, f64)> {
        let bit_ns = 1e9 / f64::from(CLOCK_HZ);
        let bits = bytes
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1 == 1));
        let mut pulses: Vec<(bool, f64)> = Vec::new();
        for level in bits {
            match pulses.last_mut() {
                Some((last, ns)) if *last == level => *ns += bit_ns,
                _ => pulses.push((level, bit_ns)),
            }
        }
        pulses
    }

    #[test]
    fn known_colours_are_known_bytes() {
        let (zero, full) = ([0x92, 0x49, 0x24], [0xdb, 0x6d, 0xb6]);
        let body = |colour| {
            let bytes = encode(&[colour]);
            assert_eq!(bytes.len(), 1 + 9 + 90);
            assert_eq!((bytes[0], &bytes[10..]), (0, [0; 90].as_slice()));
            bytes[1..10].to_vec()
        };
        // Green goes first.
        assert_eq!(body(Colour(0, 255, 0)), [full, zero, zero].concat());
        assert_eq!(body(Colour(255, 0, 0)), [zero, full, zero].concat());
        assert_eq!(body(Colour(0, 0, 255)), [zero, zero, full].concat());
        // 0x81: a one at either end. 110 100 100 100 100 100 100 110
        let ends = [0b1101_0010, 0b0100_1001, 0b0010_0110];
        assert_eq!(body(Colour(0x81, 0, 0)), [zero, ends, zero].concat());
    }

    #[test]
    fn the_times_are_those_of_the_datasheet() {
        let colours = [Colour(0x00, 0xff, 0xa5), Colour(0x5a, 0x80, 0x01)];
        let pulses = pulses(&encode(&colours));
        let mut pairs = pulses[1..].chunks_exact(2);
        let mut bits = Vec::new();
        for pair in pairs.by_ref() {
            let [(true, high), (false, low)] = pair else {
                panic!("levels do not alternate: {pair:?}");
            };
            let is_one = *high > 600.0;
            let (high_ns, low_ns) = if is_one {
                (800.0, 450.0)
            } else {
                (400.0, 850.0)
            };
            assert!((high - high_ns).abs() <= 150.0, "{pair:?}");
            let is_last = bits.len() == 47;
            match is_last {
                true => assert!(*low >= 280_000.0, "reset: {low}"),
                false => assert!((low - low_ns).abs() <= 150.0, "{pair:?}"),
            }
            bits.push(is_one);
        }
        assert!(pairs.remainder().is_empty());
        let bytes: Vec<u8> = bits
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |all, &bit| all << 1 | u8::from(bit)))
            .collect();
        assert_eq!(bytes, [0xff, 0x00, 0xa5, 0x80, 0x5a, 0x01]);
    }

    #[test]
    fn a_louder_sound_lights_more_from_green_to_red() {
        let lit = |level| bar(level, 10).iter().filter(|&&c| c != DARK).count();
        let counts: Vec<usize> = [f64::NEG_INFINITY, -90.0, -71.0, -50.0, -20.0, 0.0]
            .map(lit)
            .to_vec();
        assert_eq!(counts, [0, 0, 1, 4, 9, 10]);
        let (green, yellow, red) = (
            Colour(0, BRIGHTNESS, 0),
            Colour(BRIGHTNESS, BRIGHTNESS / 2, 0),
            Colour(BRIGHTNESS, 0, 0),
        );
        let full = bar(0.0, 10);
        assert_eq!(full[..7], [green; 7]);
        assert_eq!(full[7..], [yellow, yellow, red]);
        for count in 1..=144 {
            assert_eq!(bar(-40.0, count).len(), count);
            assert!(bar(0.0, count).iter().all(|&c| c != DARK));
        }
    }
}
