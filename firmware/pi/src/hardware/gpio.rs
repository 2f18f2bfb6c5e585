//! Lights on pins: one a label, and one for music.

use std::time::Duration;

use embedded_hal::digital::OutputPin;

use super::retry::Retry;
use super::{Parts, View};
use crate::config::Gpio;

/// A light and what it is for.
#[derive(Debug)]
pub(super) struct Light<P> {
    /// A label; none lights for all of them.
    label: Option<String>,
    number: u8,
    pin: Retry<P>,
    lit: Option<bool>,
}

impl<P: OutputPin> Light<P> {
    /// Those that are configured, but for refused pins.
    pub(super) fn of(config: &Gpio, refused: impl Fn(u8) -> bool) -> Vec<Self> {
        let lights = config.lights.iter();
        lights
            .map(|(label, pin)| (Some(label.clone()), pin.number()))
            .chain(config.activity.map(|pin| (None, pin.number())))
            .filter(|&(_, number)| !refused(number))
            .map(|(label, number)| Self {
                label,
                number,
                pin: Retry::new(),
                lit: None,
            })
            .collect()
    }

    /// Lights it or not, as what is heard asks.
    pub(super) fn show(&mut self, view: &View, now: Duration, parts: &mut impl Parts<Output = P>) {
        let wanted = match &self.label {
            Some(label) => view.verdict() == Some(label),
            None => view.is_music(),
        };
        let number = self.number;
        let Some((pin, is_new)) = self.pin.get(now, || parts.output(number)) else {
            return;
        };
        if !is_new && self.lit == Some(wanted) {
            return;
        }
        match pin.set_state(wanted.into()) {
            Ok(()) => {
                self.lit = Some(wanted);
                self.pin.worked();
            }
            Err(error) => self
                .pin
                .failed(now, format!("GPIO {number} cannot be set: {error:?}")),
        }
    }

    /// Dark.
    pub(super) fn off(&mut self) {
        if let Some(pin) = self.pin.open() {
            // There is nobody left to tell.
            let _ = pin.set_low();
            self.lit = Some(false);
        }
    }

    /// What is wrong with it: its pin, or a label that the package does not have.
    pub(super) fn problem(&self, labels: &[String]) -> Option<String> {
        if let Some(problem) = self.pin.problem() {
            return Some(problem.into());
        }
        let label = self.label.as_ref()?;
        let can_be_heard = labels.is_empty()
            || labels.contains(label)
            || ["silence", "unknown"].contains(&label.as_str());
        (!can_be_heard).then(|| {
            format!(
                "[gpio] lights.{label} will never light: the package does not have this label, only {}",
                labels.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use embedded_hal_mock::eh1::MockError;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    use super::super::testing::view;
    use super::*;

    struct OnePin(Option<Mock>);

    impl Parts for OnePin {
        type Output = Mock;
        type Input = Mock;
        type I2c = embedded_hal_mock::eh1::i2c::Mock;
        type Spi = embedded_hal_mock::eh1::spi::Mock<u8>;

        fn output(&mut self, _: u8) -> Result<Mock, String> {
            self.0.take().ok_or("no such pin".into())
        }
        fn input(&mut self, _: u8) -> Result<Mock, String> {
            Err("unused".into())
        }
        fn i2c(&mut self, _: &std::path::Path) -> Result<Self::I2c, String> {
            Err("unused".into())
        }
        fn spi(&mut self, _: &std::path::Path, _: u32) -> Result<Self::Spi, String> {
            Err("unused".into())
        }
    }

    fn light(label: Option<&str>) -> Light<Mock> {
        Light {
            label: label.map(String::from),
            number: 5,
            pin: Retry::new(),
            lit: None,
        }
    }

    #[test]
    fn a_light_is_set_when_it_changes_and_dark_at_the_end() {
        for (label, states) in [
            // Unknown, jazz, jazz, rock, then off.
            (
                Some("jazz"),
                [State::Low, State::High, State::Low].as_slice(),
            ),
            (None, &[State::Low, State::High]),
        ] {
            let all = states.iter().copied().chain([State::Low]);
            let expected: Vec<_> = all.map(Transaction::set).collect();
            let mut pin = Mock::new(&expected);
            let mut parts = OnePin(Some(pin.clone()));
            let mut light = light(label);
            for verdict in ["unknown", "jazz", "jazz", "rock"] {
                light.show(&view(verdict), Duration::ZERO, &mut parts);
            }
            light.off();
            pin.done();
        }
    }

    #[test]
    fn a_pin_that_fails_is_told_and_opened_again() {
        let failing =
            Transaction::set(State::High).with_error(MockError::Io(std::io::ErrorKind::Other));
        let mut pin = Mock::new(&[failing]);
        let mut parts = OnePin(Some(pin.clone()));
        let mut light = light(Some("jazz"));
        light.show(&view("jazz"), Duration::ZERO, &mut parts);
        pin.done();
        let problem = light.problem(&[]).expect("it failed");
        assert!(problem.contains("GPIO 5"), "{problem}");
        let mut pin = Mock::new(&[Transaction::set(State::High)]);
        parts.0 = Some(pin.clone());
        light.show(&view("jazz"), Duration::from_secs(1), &mut parts);
        pin.done();
        assert_eq!(light.problem(&[]), None);
    }

    #[test]
    fn a_label_that_cannot_be_heard_is_told_once_the_package_is_known() {
        let labels = ["jazz".to_string(), "rock".to_string()];
        assert_eq!(light(Some("jaz")).problem(&[]), None);
        let problem = light(Some("jaz")).problem(&labels).expect("unknown");
        assert!(problem.contains("lights.jaz ") && problem.contains("jazz, rock"));
        for known in [Some("jazz"), Some("silence"), Some("unknown"), None] {
            assert_eq!(light(known).problem(&labels), None);
        }
    }
}
