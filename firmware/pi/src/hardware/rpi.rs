//! The Pi's own pins and buses, by rppal. Nothing else here knows of it.

use std::fmt::Display;
use std::io;
use std::path::Path;

use rppal::gpio::{self, Gpio, InputPin, OutputPin, Pin};
use rppal::i2c::{self, I2c};
use rppal::spi::{self, Bus, Mode, SlaveSelect, Spi};

use super::Parts;

/// Of a bus that hangs: a display must not hold the button up for the second that the
/// kernel would wait.
const I2C_TIMEOUT_MS: u32 = 50;

/// A Raspberry Pi, if this is one.
#[derive(Debug, Default)]
pub struct RaspberryPi {
    gpio: Option<Gpio>,
}

impl RaspberryPi {
    fn pin(&mut self, number: u8) -> Result<Pin, String> {
        if self.gpio.is_none() {
            self.gpio = Some(Gpio::new().map_err(|error| of_gpio(&error))?);
        }
        let gpio = self.gpio.as_ref().ok_or("no GPIO")?;
        gpio.get(number).map_err(|error| of_gpio(&error))
    }
}

impl Parts for RaspberryPi {
    type Output = OutputPin;
    type Input = InputPin;
    type I2c = I2c;
    type Spi = Spi;

    fn output(&mut self, number: u8) -> Result<OutputPin, String> {
        Ok(self.pin(number)?.into_output_low())
    }

    fn input(&mut self, number: u8) -> Result<InputPin, String> {
        Ok(self.pin(number)?.into_input_pullup())
    }

    fn i2c(&mut self, bus: &Path) -> Result<I2c, String> {
        let number = number_after(bus, "/dev/i2c-").ok_or_else(|| {
            format!(
                "[display] bus = \"{}\": the bus is named /dev/i2c-1",
                bus.display()
            )
        })?;
        let opened = I2c::with_bus(number).and_then(|bus| {
            bus.set_timeout(I2C_TIMEOUT_MS)?;
            Ok(bus)
        });
        opened.map_err(|error| {
            let io = match &error {
                i2c::Error::Io(error) => Some(error),
                _ => None,
            };
            of_bus(bus, &error, io, "dtparam=i2c_arm=on", "i2c")
        })
    }

    fn spi(&mut self, device: &Path, clock_hz: u32) -> Result<Spi, String> {
        let (bus, select) = spi_of(device).ok_or_else(|| {
            format!(
                "[lights] spi = \"{}\": the device is named /dev/spidev0.0",
                device.display()
            )
        })?;
        Spi::new(bus, select, clock_hz, Mode::Mode0).map_err(|error| {
            let io = match &error {
                spi::Error::Io(error) => Some(error),
                _ => None,
            };
            of_bus(device, &error, io, "dtparam=spi=on", "spi")
        })
    }
}

fn of_gpio(error: &gpio::Error) -> String {
    let advice = match error {
        gpio::Error::UnknownModel => {
            "this is not a Raspberry Pi, or one unknown to this version: remove [gpio] from the configuration"
        }
        gpio::Error::PermissionDenied(_) => {
            "the user must be in the group gpio: sudo usermod -aG gpio USER, then log in again"
        }
        gpio::Error::PinUsed(_) => "use another pin",
        gpio::Error::PinNotAvailable(_) => "use 5, 6, 13, 17, 22, 23, 26 or 27",
        _ => "check that /dev/gpiomem exists; Raspberry Pi OS has it",
    };
    format!("no GPIO: {error}: {advice}")
}

fn of_bus(
    path: &Path,
    error: &dyn Display,
    io: Option<&io::Error>,
    parameter: &str,
    group: &str,
) -> String {
    let advice = match io.map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => {
            format!("add {parameter} to /boot/firmware/config.txt and reboot")
        }
        Some(io::ErrorKind::PermissionDenied) => format!(
            "the user must be in the group {group}: sudo usermod -aG {group} USER, then log in again"
        ),
        _ => format!("check that {parameter} is in /boot/firmware/config.txt"),
    };
    format!("{} cannot be opened: {error}: {advice}", path.display())
}

fn number_after(path: &Path, prefix: &str) -> Option<u8> {
    path.to_str()?.strip_prefix(prefix)?.parse().ok()
}

fn spi_of(path: &Path) -> Option<(Bus, SlaveSelect)> {
    let (bus, select) = path
        .to_str()?
        .strip_prefix("/dev/spidev")?
        .split_once('.')?;
    let bus = match bus {
        "0" => Bus::Spi0,
        "3" => Bus::Spi3,
        "4" => Bus::Spi4,
        "5" => Bus::Spi5,
        "6" => Bus::Spi6,
        _ => return None,
    };
    let select = match select {
        "0" => SlaveSelect::Ss0,
        "1" => SlaveSelect::Ss1,
        "2" => SlaveSelect::Ss2,
        _ => return None,
    };
    Some((bus, select))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let denied = of_gpio(&gpio::Error::PermissionDenied("/dev/gpiomem".into()));
        assert!(denied.contains("usermod -aG gpio"), "{denied}");
        let elsewhere = of_gpio(&gpio::Error::UnknownModel);
        assert!(elsewhere.contains("not a Raspberry Pi"), "{elsewhere}");
        let io = |kind| {
            let error = io::Error::from(kind);
            of_bus(
                Path::new("/dev/i2c-1"),
                &error,
                Some(&error),
                "dtparam=i2c_arm=on",
                "i2c",
            )
        };
        assert!(io(io::ErrorKind::NotFound).contains("add dtparam=i2c_arm=on to"));
        assert!(io(io::ErrorKind::PermissionDenied).contains("group i2c"));
        assert!(io(io::ErrorKind::TimedOut).contains("/dev/i2c-1"));
    }

    #[test]
    fn devices_are_known_by_their_names() {
        assert_eq!(
            number_after(Path::new("/dev/i2c-11"), "/dev/i2c-"),
            Some(11)
        );
        for odd in ["/dev/i2c-", "/dev/i2c-999", "i2c-1", "/dev/spidev0.0"] {
            let mut pi = RaspberryPi::default();
            let why = pi.i2c(Path::new(odd)).expect_err(odd);
            assert!(why.contains(odd) && why.contains("/dev/i2c-1"), "{why}");
        }
        let zero = spi_of(Path::new("/dev/spidev0.1"));
        assert_eq!(zero, Some((Bus::Spi0, SlaveSelect::Ss1)));
        for odd in [
            "/dev/spidev0",
            "/dev/spidev9.0",
            "/dev/spidev0.9",
            "/dev/i2c-1",
        ] {
            let mut pi = RaspberryPi::default();
            let why = pi.spi(Path::new(odd), 1).expect_err(odd);
            assert!(why.contains("/dev/spidev0.0"), "{why}");
        }
    }
}
