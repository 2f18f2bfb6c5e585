//! Lights, a button, a display and a level bar: what can be wired to the Pi besides the
//! microphone.
//!
//! One thread serves all of them. Each is opened through [`Parts`], so that all but
//! [`rpi`] runs, and is tested, without a Pi. A part that is missing or fails is told on the
//! board and tried again; it never stops another.
//!
//! Nothing here subscribes to news: they would wake the thread 60 times a second for feature
//! rows that no light shows. It looks at the board when a part is due.

pub mod button;
mod display;
pub mod frame;
mod gpio;
pub mod lights;
mod pins;
mod retry;
pub mod rpi;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use embedded_hal::digital::{InputPin, OutputPin};
use embedded_hal::i2c::I2c;
use embedded_hal::spi::SpiBus;

use crate::board::{Board, Command, State};
use crate::config::Config;
use button::{Button, Press};
use display::Display;
use gpio::Light;
use lights::LevelBar;
pub use pins::conflicts;
use retry::Retry;

/// A picture is drawn four times a second at most.
const DISPLAY_EVERY: Duration = Duration::from_millis(250);
/// A light follows a decision, of which there are two a second.
const LIGHTS_EVERY: Duration = Duration::from_millis(100);
/// A level bar moves twenty times a second.
const BAR_EVERY: Duration = Duration::from_millis(50);
/// A stop is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// How parts are opened. An error says what is wrong and what to do.
pub trait Parts {
    /// A pin that lights something.
    type Output: OutputPin;
    /// A pin with a pull-up.
    type Input: InputPin;
    /// An I2C bus.
    type I2c: I2c;
    /// An SPI bus.
    type Spi: SpiBus;

    /// A GPIO by its BCM number.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn output(&mut self, number: u8) -> Result<Self::Output, String>;

    /// A GPIO by its BCM number, pulled up.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn input(&mut self, number: u8) -> Result<Self::Input, String>;

    /// A bus by its device, `/dev/i2c-1`.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn i2c(&mut self, bus: &Path) -> Result<Self::I2c, String>;

    /// A bus by its device, `/dev/spidev0.0`.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn spi(&mut self, device: &Path, clock_hz: u32) -> Result<Self::Spi, String>;
}

/// Serves all that is configured until `stop` is set, and leaves it dark. Returns at once if
/// nothing is configured.
pub fn run(config: &Config, board: Arc<Board>, stop: Arc<AtomicBool>) {
    run_with(rpi::RaspberryPi::default(), config, board, &stop);
}

/// The same with other parts.
pub fn run_with(parts: impl Parts, config: &Config, board: Arc<Board>, stop: &AtomicBool) {
    let mut hardware = Hardware::new(parts, config, board);
    if !hardware.has_parts() {
        return;
    }
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = started.elapsed();
        let next = hardware.step(now).min(now + LONGEST_SLEEP);
        thread::sleep(next.saturating_sub(started.elapsed()));
    }
}

/// What is due when.
#[derive(Debug)]
struct Every {
    period: Duration,
    next: Duration,
}

impl Every {
    fn new(period: Duration) -> Self {
        let next = Duration::ZERO;
        Self { period, next }
    }

    fn is_due(&mut self, now: Duration) -> bool {
        let due = now >= self.next;
        if due {
            // Not from the last time on: what was late is not made up for.
            self.next = now + self.period;
        }
        due
    }
}

/// A part and when it is due.
type Scheduled<T> = Option<(Every, T)>;

struct PushButton<P> {
    number: u8,
    pin: Retry<P>,
    presses: Button,
}

/// All parts.
struct Hardware<P: Parts> {
    parts: P,
    board: Arc<Board>,
    lights: Vec<Light<P::Output>>,
    lights_due: Every,
    button: Scheduled<PushButton<P::Input>>,
    display: Scheduled<Display<P::I2c>>,
    bar: Scheduled<LevelBar<P::Spi>>,
    labels: Vec<String>,
    /// What was refused, and stays so.
    refused: Vec<String>,
    told: Vec<String>,
}

impl<P: Parts> Hardware<P> {
    fn new(parts: P, config: &Config, board: Arc<Board>) -> Self {
        // Those of an earlier configuration.
        board.update(|status| status.hardware_problems.clear());
        let refused = |pin| pins::is_refused(config, pin);
        let button = config.gpio.button.map(|pin| pin.number());
        let button = button.filter(|&pin| !refused(pin)).map(|number| {
            let button = PushButton {
                number,
                pin: Retry::new(),
                presses: Button::new(),
            };
            (Every::new(button::POLL), button)
        });
        let display = config.display.as_ref();
        let bar = config.lights.as_ref().filter(|bar| !pins::is_i2s(&bar.spi));
        Self {
            parts,
            board,
            lights: Light::of(&config.gpio, refused),
            lights_due: Every::new(LIGHTS_EVERY),
            button,
            display: display.map(|config| (Every::new(DISPLAY_EVERY), Display::new(config))),
            bar: bar.map(|config| (Every::new(BAR_EVERY), LevelBar::new(config))),
            labels: Vec::new(),
            refused: conflicts(config),
            told: Vec::new(),
        }
    }

    fn has_parts(&self) -> bool {
        !self.lights.is_empty()
            || self.button.is_some()
            || self.display.is_some()
            || self.bar.is_some()
            || !self.refused.is_empty()
    }

    /// Does what is due, and says when the next is.
    fn step(&mut self, now: Duration) -> Duration {
        let mut next = now + LONGEST_SLEEP;
        if let Some((every, button)) = &mut self.button {
            if every.is_due(now)
                && let Some(press) = button.poll(now, &mut self.parts)
            {
                self.board.command(match press {
                    Press::Short => Command::Mute(!self.board.is_muted()),
                    Press::Long => Command::Confirm,
                });
            }
            next = next.min(every.next);
        }
        if let Some((every, bar)) = &mut self.bar {
            if every.is_due(now) {
                let is_heard = is_listening(&self.board);
                let level = is_heard.then(|| self.board.level_dbfs());
                bar.show(level, now, &mut self.parts);
            }
            next = next.min(every.next);
        }
        if let Some((every, display)) = &mut self.display {
            if every.is_due(now) {
                display.show(&View::of(&self.board), now);
            }
            // A page at a time, so that the button is looked at in between.
            next = match display.send(now, &mut self.parts) {
                true => now,
                false => next.min(every.next),
            };
        }
        if self.lights_due.is_due(now) {
            if !self.lights.is_empty() {
                let view = View::of(&self.board);
                for light in &mut self.lights {
                    light.show(&view, now, &mut self.parts);
                }
            }
            self.tell();
        }
        next
    }

    /// Tells what is wrong, if that is new.
    fn tell(&mut self) {
        self.board.update(|status| {
            if status.recognizer.labels != self.labels {
                self.labels.clone_from(&status.recognizer.labels);
            }
        });
        let of_lights = self.lights.iter().filter_map(|l| l.problem(&self.labels));
        let of_others = [
            self.button.as_ref().and_then(|(_, b)| b.pin.problem()),
            self.display.as_ref().and_then(|(_, d)| d.problem()),
            self.bar.as_ref().and_then(|(_, b)| b.problem()),
        ];
        let mut problems = self.refused.clone();
        // Without a Pi every pin says the same.
        for problem in of_lights.chain(of_others.into_iter().flatten().map(String::from)) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        if problems == self.told {
            return;
        }
        for problem in &problems {
            if !self.told.contains(problem) {
                tracing::warn!("{problem}");
            }
        }
        self.told.clone_from(&problems);
        self.board
            .update(|status| status.hardware_problems = problems);
    }
}

/// However it ends: nothing stays lit.
impl<P: Parts> Drop for Hardware<P> {
    fn drop(&mut self) {
        for light in &mut self.lights {
            light.off();
        }
        if let Some((_, display)) = &mut self.display {
            display.off();
        }
        if let Some((_, bar)) = &mut self.bar {
            bar.off();
        }
    }
}

impl<I: InputPin> PushButton<I> {
    fn poll(&mut self, now: Duration, parts: &mut impl Parts<Input = I>) -> Option<Press> {
        let number = self.number;
        let (pin, is_new) = self.pin.get(now, || parts.input(number))?;
        if is_new {
            self.presses = Button::new();
        }
        match pin.is_low() {
            Ok(is_down) => {
                self.pin.worked();
                self.presses.push(now, is_down)
            }
            Err(error) => {
                let why = format!("GPIO {number} cannot be read: {error:?}");
                self.pin.failed(now, why);
                None
            }
        }
    }
}

fn is_listening(board: &Board) -> bool {
    !board.is_muted() && board.update(|status| status.capture.state == State::Listening)
}

/// What the parts show of the board.
#[derive(Debug, Clone, PartialEq)]
struct View {
    state: State,
    /// The latest verdict and its confidence.
    heard: Option<(String, Option<f64>)>,
    level_dbfs: f64,
}

impl View {
    fn of(board: &Board) -> Self {
        let (state, heard) = board.update(|status| {
            let heard = status.heard.as_ref();
            let heard = heard.map(|heard| (heard.verdict.clone(), heard.confidence));
            (status.capture.state, heard)
        });
        // The listening thread notices a little later than the button.
        let state = match state {
            State::Listening if board.is_muted() => State::Muted,
            other => other,
        };
        Self {
            state,
            heard,
            level_dbfs: board.level_dbfs(),
        }
    }

    fn now(&self) -> Option<&(String, Option<f64>)> {
        self.heard
            .as_ref()
            .filter(|_| self.state == State::Listening)
    }

    /// A label, `silence` or `unknown`, if something is listened to.
    fn verdict(&self) -> Option<&String> {
        self.now().map(|(verdict, _)| verdict)
    }

    fn confidence(&self) -> Option<f64> {
        self.now().and_then(|(_, confidence)| *confidence)
    }

    fn level_dbfs(&self) -> Option<f64> {
        (self.state == State::Listening).then_some(self.level_dbfs)
    }

    fn is_sound(&self) -> bool {
        self.verdict().is_some_and(|verdict| verdict != "silence")
    }

    fn is_music(&self) -> bool {
        self.is_sound() && self.verdict().is_some_and(|verdict| verdict != "unknown")
    }

    /// A word for the display.
    fn word(&self) -> &str {
        match self.state {
            State::Starting => "starting",
            State::Listening => self.verdict().map_or("listening", String::as_str),
            State::Muted => "muted",
            State::NoMicrophone => "no microphone",
            State::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
