//! Pins that two things would drive at once.
//!
//! rppal writes registers and cannot see what the kernel has claimed, and who may not read
//! /sys/kernel/debug cannot either; so what the configuration itself shows is refused.

use std::path::Path;

use crate::config::Config;

const I2C: [u8; 2] = [2, 3];
/// CE1, CE0, MISO, MOSI, SCLK of SPI 0: `dtparam=spi=on` claims all of them.
const SPI: [u8; 5] = [7, 8, 9, 10, 11];

const ADVICE: &str = "use 5, 6, 13, 17, 22, 23, 26 or 27";

/// Why a pin of `[gpio]` cannot be used.
fn taken(config: &Config, pin: u8) -> Option<&'static str> {
    if config.display.is_some() && I2C.contains(&pin) {
        return Some("the display's I2C uses 2 and 3");
    }
    if config.lights.is_some() && SPI.contains(&pin) {
        return Some("the SPI of [lights] uses 7 to 11");
    }
    None
}

/// Whether a pin of `[gpio]` is not to be touched.
pub(super) fn is_refused(config: &Config, pin: u8) -> bool {
    taken(config, pin).is_some()
}

/// Whether an SPI shares its pins with the microphone: SPI 1 has GPIO 16 to 21.
pub(super) fn is_i2s(spi: &Path) -> bool {
    spi.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"spidev1."))
}

/// What is configured twice, in words that say what to do. None of it is touched by
/// [`run`](super::run).
pub fn conflicts(config: &Config) -> Vec<String> {
    let gpio = &config.gpio;
    let lights = gpio.lights.iter();
    let pins = lights
        .map(|(label, pin)| (format!("lights.{label}"), *pin))
        .chain(gpio.activity.map(|pin| ("activity".into(), pin)))
        .chain(gpio.button.map(|pin| ("button".into(), pin)));
    let mut conflicts: Vec<String> = pins
        .filter_map(|(what, pin)| {
            let why = taken(config, pin.number())?;
            let number = pin.number();
            Some(format!(
                "[gpio] {what} on GPIO {number} is disabled, because {why}: {ADVICE}"
            ))
        })
        .collect();
    if let Some(bar) = config.lights.as_ref().filter(|bar| is_i2s(&bar.spi)) {
        conflicts.push(format!(
            "[lights] spi = \"{}\" is disabled, because its pins belong to the I2S microphone: wire the lights to GPIO 10 and set spi = \"/dev/spidev0.0\"",
            bar.spi.display()
        ));
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts_of(text: &str) -> Vec<String> {
        let config = Config::read(text, Path::new("c"), []).expect(text);
        conflicts(&config)
    }

    #[test]
    fn what_would_be_driven_twice_is_refused_in_words() {
        let gpio = "[gpio]\nlights = { jazz = 2 }\nbutton = 10\nactivity = 5\n";
        let (display, bar) = (
            "[display]\nbus = \"/dev/i2c-1\"\n",
            "[lights]\nspi = \"/dev/spidev0.0\"\ncount = 8\n",
        );
        assert_eq!(conflicts_of(gpio), [""; 0]);
        assert_eq!(conflicts_of(&[display, bar].concat()), [""; 0]);
        let both = conflicts_of(&[gpio, display, bar].concat());
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(
            both[0].contains("lights.jazz on GPIO 2 is disabled") && both[0].contains("display")
        );
        assert!(both[1].contains("button on GPIO 10 is disabled") && both[1].contains("SPI"));
        assert!(both.iter().all(|text| text.ends_with(ADVICE)));
        let i2s = conflicts_of("[lights]\nspi = \"/dev/spidev1.2\"\ncount = 8\n");
        assert!(
            i2s[0].contains("I2S") && i2s[0].contains("/dev/spidev0.0"),
            "{i2s:?}"
        );
    }
}
