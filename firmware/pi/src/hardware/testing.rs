//! Parts without a Pi: what is done to them is written down.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};

use embedded_hal::{digital, i2c, spi};

use super::{Parts, View};
use crate::board::State;

/// A microphone hears this.
pub(super) fn view(verdict: &str) -> View {
    View {
        state: State::Listening,
        heard: Some((verdict.into(), (verdict != "silence").then_some(0.5))),
        level_dbfs: -40.0,
    }
}

/// The world that parts are wired to.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Pins that were driven, and how.
    pub(super) outputs: BTreeMap<u8, bool>,
    /// The button is held.
    pub(super) held: bool,
    /// Why what is opened cannot be.
    pub(super) missing: BTreeMap<&'static str, String>,
    /// A display answers.
    pub(super) has_display: bool,
    /// The display shines.
    pub(super) display_on: bool,
    /// Bytes that it was sent.
    pub(super) display_bytes: usize,
    /// The last frame of the level bar.
    pub(super) bar: Vec<u8>,
    /// Frames of it.
    pub(super) bar_frames: usize,
    /// What was opened, in order.
    pub(super) opened: Vec<String>,
}

/// A handle of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Bench(pub(super) Arc<Mutex<World>>);

impl Bench {
    pub(super) fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.0.lock().unwrap())
    }

    fn open<T>(&self, what: &'static str, name: String, part: T) -> Result<T, String> {
        self.world(|world| {
            if let Some(problem) = world.missing.get(what) {
                return Err(problem.clone());
            }
            world.opened.push(name);
            Ok(part)
        })
    }
}

impl Parts for Bench {
    type Output = Pin;
    type Input = Pin;
    type I2c = Bus;
    type Spi = Bus;

    fn output(&mut self, number: u8) -> Result<Pin, String> {
        self.open(
            "gpio",
            format!("output {number}"),
            Pin(number, self.clone()),
        )
    }

    fn input(&mut self, number: u8) -> Result<Pin, String> {
        self.open("gpio", format!("input {number}"), Pin(number, self.clone()))
    }

    fn i2c(&mut self, bus: &Path) -> Result<Bus, String> {
        self.open("i2c", bus.display().to_string(), Bus(self.clone()))
    }

    fn spi(&mut self, device: &Path, clock_hz: u32) -> Result<Bus, String> {
        assert_eq!(clock_hz, super::lights::CLOCK_HZ);
        self.open("spi", device.display().to_string(), Bus(self.clone()))
    }
}

#[derive(Debug)]
pub(super) struct Pin(u8, Bench);

impl digital::ErrorType for Pin {
    type Error = Infallible;
}

impl digital::OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.1.world(|world| world.outputs.insert(self.0, false));
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.1.world(|world| world.outputs.insert(self.0, true));
        Ok(())
    }
}

impl digital::InputPin for Pin {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(!self.1.world(|world| world.held))
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(self.1.world(|world| world.held))
    }
}

#[derive(Debug)]
pub(super) struct Bus(Bench);

impl i2c::ErrorType for Bus {
    type Error = i2c::ErrorKind;
}

impl i2c::I2c for Bus {
    fn transaction(
        &mut self,
        _: u8,
        operations: &mut [i2c::Operation<'_>],
    ) -> Result<(), i2c::ErrorKind> {
        self.0.world(|world| {
            if !world.has_display {
                let source = i2c::NoAcknowledgeSource::Address;
                return Err(i2c::ErrorKind::NoAcknowledge(source));
            }
            for operation in operations {
                if let i2c::Operation::Write(bytes) = operation {
                    world.display_bytes += bytes.len();
                    match bytes {
                        [0, 0xaf] => world.display_on = true,
                        [0, 0xae] => world.display_on = false,
                        _ => {}
                    }
                }
            }
            Ok(())
        })
    }
}

impl spi::ErrorType for Bus {
    type Error = Infallible;
}

impl spi::SpiBus for Bus {
    fn read(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        panic!("lights say nothing")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.world(|world| {
            world.bar = bytes.to_vec();
            world.bar_frames += 1;
        });
        Ok(())
    }

    fn transfer(&mut self, _: &mut [u8], _: &[u8]) -> Result<(), Infallible> {
        panic!("lights say nothing")
    }

    fn transfer_in_place(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        panic!("lights say nothing")
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
