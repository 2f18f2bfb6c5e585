//! An SSD1306 on I2C: what is heard, in large type.
//!
//! A page of eight rows takes 13 ms at the Pi's 100 kHz, a whole picture a tenth of a second,
//! in which a press of the button could be missed. So a call sends one page, and only the
//! columns of it that changed.

use std::path::PathBuf;
use std::time::Duration;

use embedded_hal::i2c::I2c;
use ssd1306::command::AddrMode;
use ssd1306::mode::BasicMode;
use ssd1306::prelude::*;
use ssd1306::{I2CDisplayInterface, Ssd1306};

use super::frame::{Frame, PAGES, Picture, WIDTH};
use super::retry::Retry;
use super::{Parts, View};
use crate::config;

/// How often the picture moves by a pixel: OLEDs age where they shine.
const SHIFT_EVERY: Duration = Duration::from_secs(60);

/// After so long without sound the display is dimmed.
const DIM_AFTER: Duration = Duration::from_secs(180);

/// A display that answered.
struct Panel<I> {
    driver: Ssd1306<I2CInterface<I>, DisplaySize128x64, BasicMode>,
    /// What it shows; none where that is not known.
    pages: [Option<[u8; WIDTH]>; PAGES],
    is_dim: bool,
}

/// A display, or what will be one.
pub(super) struct Display<I> {
    path: PathBuf,
    address: u8,
    panel: Retry<Panel<I>>,
    wanted: Frame,
    dim: bool,
    quiet_since: Option<Duration>,
}

impl<I: I2c> Display<I> {
    pub(super) fn new(config: &config::Display) -> Self {
        Self {
            path: config.bus.clone(),
            address: config.address.get() as u8,
            panel: Retry::new(),
            wanted: Frame::new(),
            dim: false,
            quiet_since: None,
        }
    }

    /// What is to be seen from now on; [`send`](Self::send) brings it there.
    pub(super) fn show(&mut self, view: &View, now: Duration) {
        self.quiet_since = match view.is_sound() {
            true => None,
            false => self.quiet_since.or(Some(now)),
        };
        self.dim = self
            .quiet_since
            .is_some_and(|since| now.saturating_sub(since) >= DIM_AFTER);
        let picture = Picture {
            word: view.word().into(),
            confidence: view.confidence(),
            level_dbfs: view.level_dbfs(),
            dot: now.as_secs().is_multiple_of(2),
            shift: (now.as_secs() / SHIFT_EVERY.as_secs()) as u32,
        };
        self.wanted = picture.draw();
    }

    /// Sends a page that changed. Whether there are more to send.
    pub(super) fn send(&mut self, now: Duration, parts: &mut impl Parts<I2c = I>) -> bool {
        let (path, address) = (&self.path, self.address);
        let opened = self.panel.get(now, || {
            let i2c = parts.i2c(path)?;
            Panel::open(i2c, address).map_err(|NoAnswer| no_answer(path, address))
        });
        let Some((panel, _)) = opened else {
            return false;
        };
        match panel.send(&self.wanted, self.dim) {
            Ok(more) => {
                self.panel.worked();
                more
            }
            Err(NoAnswer) => {
                self.panel.failed(now, no_answer(path, address));
                false
            }
        }
    }

    /// Dark.
    pub(super) fn off(&mut self) {
        if let Some(panel) = self.panel.open() {
            // There is nobody left to tell.
            let _ = panel.driver.set_display_on(false);
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.panel.problem()
    }
}

fn no_answer(path: &std::path::Path, address: u8) -> String {
    format!(
        "no display responds at 0x{address:02x} on {}: check its wires (SDA GPIO 2, SCL GPIO 3, 3V3, GND) and its address ([display] address is 0x3c or 0x3d); retrying",
        path.display()
    )
}

/// The driver's own error says no more, and has no name that can be used here.
#[derive(Debug)]
struct NoAnswer;

impl<I: I2c> Panel<I> {
    fn open(i2c: I, address: u8) -> Result<Self, NoAnswer> {
        let interface = I2CDisplayInterface::new_custom_address(i2c, address);
        let mut driver = Ssd1306::new(interface, DisplaySize128x64, DisplayRotation::Rotate0);
        driver
            .init_with_addr_mode(AddrMode::Horizontal)
            .or(Err(NoAnswer))?;
        Ok(Self {
            driver,
            pages: [None; PAGES],
            is_dim: false,
        })
    }

    fn send(&mut self, wanted: &Frame, dim: bool) -> Result<bool, NoAnswer> {
        if dim != self.is_dim {
            let brightness = match dim {
                true => Brightness::DIMMEST,
                false => Brightness::NORMAL,
            };
            self.driver.set_brightness(brightness).or(Err(NoAnswer))?;
            self.is_dim = dim;
        }
        let mut changed = (0..PAGES).filter(|&n| self.pages[n].as_ref() != Some(wanted.page(n)));
        let Some(number) = changed.next() else {
            return Ok(false);
        };
        let more = changed.next().is_some();
        let page = wanted.page(number);
        let columns = match &self.pages[number] {
            Some(shown) => {
                let differs = |&column: &usize| shown[column] != page[column];
                let first = (0..WIDTH).find(differs).unwrap_or(0);
                let last = (0..WIDTH).rfind(differs).unwrap_or(0);
                first..last + 1
            }
            None => 0..WIDTH,
        };
        let top = 8 * number as u8;
        self.driver
            .set_draw_area((columns.start as u8, top), (columns.end as u8, top + 8))
            .or(Err(NoAnswer))?;
        self.driver.draw(&page[columns]).or(Err(NoAnswer))?;
        self.pages[number] = Some(*page);
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use embedded_hal::i2c::ErrorKind;
    use embedded_hal_mock::eh1::i2c::{Mock, Transaction};

    use super::super::testing::view;
    use super::*;

    const ADDRESS: u8 = 0x3d;

    struct OneBus(Vec<Mock>);

    impl Parts for OneBus {
        type Output = embedded_hal_mock::eh1::digital::Mock;
        type Input = embedded_hal_mock::eh1::digital::Mock;
        type I2c = Mock;
        type Spi = embedded_hal_mock::eh1::spi::Mock<u8>;

        fn output(&mut self, _: u8) -> Result<Self::Output, String> {
            Err("unused".into())
        }
        fn input(&mut self, _: u8) -> Result<Self::Input, String> {
            Err("unused".into())
        }
        fn i2c(&mut self, bus: &Path) -> Result<Mock, String> {
            assert_eq!(bus, Path::new("/dev/i2c-1"));
            self.0.pop().ok_or("no such bus".into())
        }
        fn spi(&mut self, _: &Path, _: u32) -> Result<Self::Spi, String> {
            Err("unused".into())
        }
    }

    fn display() -> Display<Mock> {
        let config = toml::from_str("bus = \"/dev/i2c-1\"\naddress = 0x3d").unwrap();
        Display::new(&config)
    }

    fn write(bytes: &[u8]) -> Transaction {
        Transaction::write(ADDRESS, bytes.to_vec())
    }

    /// The datasheet's commands, as the driver sends them.
    fn initialisation() -> Vec<Transaction> {
        let commands: [&[u8]; 17] = [
            &[0xae],
            &[0xd5, 0x80],
            &[0xa8, 63],
            &[0xd3, 0],
            &[0x40],
            &[0x8d, 0x14],
            &[0x20, 0],
            &[0xda, 0x12],
            &[0xa1],
            &[0xc8],
            &[0xd9, 0x21],
            &[0x81, 0x5f],
            &[0xdb, 0x40],
            &[0xa4],
            &[0xa6],
            &[0x2e],
            &[0xaf],
        ];
        let with_control = commands.map(|command| write(&[&[0], command].concat()));
        with_control.to_vec()
    }

    /// Columns of a page.
    fn drawing(page: u8, first: u8, bytes: &[u8]) -> Vec<Transaction> {
        let last = first + bytes.len() as u8 - 1;
        let area = [
            write(&[0, 0x21, first, last]),
            write(&[0, 0x22, page, page]),
        ];
        let data = bytes
            .chunks(16)
            .map(|part| write(&[&[0x40], part].concat()));
        area.into_iter().chain(data).collect()
    }

    fn send_all(display: &mut Display<Mock>, now: Duration, parts: &mut OneBus) -> usize {
        let mut calls = 1;
        while display.send(now, parts) {
            calls += 1;
        }
        calls
    }

    #[test]
    fn a_display_is_told_all_at_first_and_then_what_changed() {
        let mut display = display();
        let second = Duration::from_secs(1);
        display.show(&view("jazz"), second);
        let mut expected = initialisation();
        for page in 0..PAGES {
            expected.extend(drawing(page as u8, 0, display.wanted.page(page)));
        }
        // A second later only the dot is another one: two rows in the last page.
        expected.extend(drawing(7, 123, &[0b0001_1000; 2]));
        expected.push(write(&[0, 0xae]));
        let mut bus = Mock::new(&expected);
        let mut parts = OneBus(vec![bus.clone()]);
        assert_eq!(send_all(&mut display, second, &mut parts), PAGES);
        assert_eq!(display.problem(), None);
        // Nothing is sent twice.
        assert_eq!(send_all(&mut display, second, &mut parts), 1);
        display.show(&view("jazz"), 2 * second);
        assert_eq!(send_all(&mut display, 2 * second, &mut parts), 1);
        display.off();
        bus.done();
    }

    #[test]
    fn a_display_that_is_unplugged_is_told_and_found_again() {
        let mut display = display();
        let at = Duration::from_secs;
        let mut silent = Mock::new(&[write(&[0, 0xae]).with_error(ErrorKind::Other)]);
        let mut parts = OneBus(vec![silent.clone()]);
        display.show(&view("jazz"), at(0));
        assert!(!display.send(at(0), &mut parts));
        silent.done();
        let problem = display.problem().expect("no answer");
        assert!(
            problem.contains("0x3d") && problem.contains("/dev/i2c-1"),
            "{problem}"
        );
        let mut expected = initialisation();
        for page in 0..PAGES {
            expected.extend(drawing(page as u8, 0, display.wanted.page(page)));
        }
        let mut bus = Mock::new(&expected);
        parts.0.push(bus.clone());
        assert_eq!(send_all(&mut display, at(1), &mut parts), PAGES);
        assert_eq!(display.problem(), None);
        bus.done();
    }

    #[test]
    fn a_display_is_dimmed_after_minutes_without_sound_and_bright_with_the_first() {
        let mut display = display();
        let mut dims = Vec::new();
        for (minute, verdict) in ["jazz", "silence", "silence", "silence", "silence", "rock"]
            .into_iter()
            .enumerate()
        {
            display.show(&view(verdict), Duration::from_secs(60 * minute as u64));
            dims.push(display.dim);
        }
        assert_eq!(dims, [false, false, false, false, true, false]);
    }
}
