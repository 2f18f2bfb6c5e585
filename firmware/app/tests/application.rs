//! The application on a board that is made of variables.

use std::convert::Infallible;
use std::fmt;

use embedded_hal::digital::{ErrorType, OutputPin};
use sori_firmware::{
    Board, Failure, Frame, HalfComplete, I2sSource, Microphone, Model, Queue, Report, Reset, blink,
    run,
};
use sori_listener::{Event, Memory};
use sori_nn::Backend;
use sori_package::{ALIGNMENT, Prologue};

const FRAMES: usize = 160;
const BLOCKS: usize = 32;
/// Of the shipped model.
const RATE_HZ: u32 = 16_000;

#[derive(Default)]
struct Console(String);

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        Ok(())
    }
}

#[derive(Default)]
struct Led(Vec<bool>);

impl ErrorType for Led {
    type Error = Infallible;
}

impl OutputPin for Led {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.push(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.push(true);
        Ok(())
    }
}

#[derive(Default)]
struct Bench {
    console: Console,
    led: Led,
    hung: bool,
    watchdog_ms: Option<u32>,
    feeds: u32,
    ticks: u64,
    sleeps: u32,
}

impl Board for Bench {
    type Console = Console;
    type Led = Led;

    const NAME: &'static str = "a bench";

    fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    fn led(&mut self) -> &mut Led {
        &mut self.led
    }

    fn last_reset(&self) -> Reset {
        match self.hung {
            true => Reset::Watchdog,
            false => Reset::Ordinary,
        }
    }

    fn start_watchdog(&mut self, timeout_ms: u32) {
        self.watchdog_ms = Some(timeout_ms);
    }

    fn feed_watchdog(&mut self) {
        self.feeds += 1;
    }

    fn sleep_if(&mut self, is_idle: impl FnOnce() -> bool) {
        // A block that comes between the listener's look and this one is not slept through.
        if is_idle() {
            self.sleeps += 1;
            self.ticks += 1000;
        }
    }

    fn delay_ms(&mut self, ms: u32) {
        self.ticks += u64::from(ms);
    }

    /// Each look takes a tick.
    fn ticks(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn ticks_hz(&self) -> u64 {
        1_000_000
    }
}

/// Halves that are all complete before the listener looks, or that come by and by.
struct Source {
    halves: usize,
    all_at_once: bool,
}

impl I2sSource<FRAMES> for Source {
    const RATE_HZ: u32 = RATE_HZ;
    const SETTLING_MS: u32 = 20;

    fn start(self, buffer: &'static mut [[Frame; FRAMES]; 2], to: &'static dyn HalfComplete) {
        let mut seed = 1u32;
        let mut half = move |half: &mut [Frame; FRAMES]| {
            for frame in half.iter_mut() {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *frame = [seed, 0];
            }
            to.half_complete(half);
        };
        if self.all_at_once {
            (0..self.halves).for_each(|n| half(&mut buffer[n % 2]));
            to.end();
            return;
        }
        std::thread::spawn(move || {
            for n in 0..self.halves {
                std::thread::sleep(std::time::Duration::from_millis(1));
                half(&mut buffer[n % 2]);
            }
            to.end();
        });
    }
}

fn genre() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/genre/genre.sori");
    std::fs::read(path).expect("the shipped model")
}

/// Bytes that begin where a package must.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut room = vec![0; bytes.len() + ALIGNMENT];
        let at = room.as_ptr().align_offset(ALIGNMENT);
        room[at..at + bytes.len()].copy_from_slice(bytes);
        Self(room, at)
    }
}

/// Runs the application, and what it saw: feature rows.
fn start(board: &mut Bench, package: &[u8], source: Source) -> (Result<Report, Failure>, usize) {
    let len = package.len();
    let package = Aligned::new(package);
    let package = &package.0[package.1..][..len];
    let sizes = Prologue::read(&genre()).expect("the shipped model");
    let mut frontend = vec![0; sizes.frontend_bytes() / 4];
    let mut arena = Aligned::new(&vec![0; sizes.arena_bytes(1)]);
    let at = arena.1;
    let model = Model {
        package,
        backend: Backend::SCALAR,
        memory: Memory {
            frontend: &mut frontend,
            arena: &mut arena.0[at..],
        },
    };
    let microphone = Microphone {
        source,
        buffer: Box::leak(Box::new([[[0; 2]; FRAMES]; 2])),
        queue: Box::leak(Box::new(Queue::<FRAMES, BLOCKS>::new())),
    };
    let mut rows = 0;
    let result = run(board, model, microphone, &mut |_, event| {
        rows += usize::from(matches!(event, Event::Row { .. }));
    });
    (result, rows)
}

#[test]
fn it_proves_itself_listens_and_sleeps_in_between() {
    let mut board = Bench::default();
    let source = Source {
        halves: 25,
        all_at_once: false,
    };
    let (report, rows) = start(&mut board, &genre(), source);
    let report = report.expect("the shipped model can be listened with");
    let said = &board.console.0;
    assert!(said.starts_with("sori "), "{said}");
    assert!(
        said.contains("golden vectors: ") && said.contains(", equal\n"),
        "{said}"
    );
    assert!(
        !said.contains("reset:") && !said.contains("overrun"),
        "{said}"
    );
    // The first two blocks are the microphone's settling.
    assert_eq!(report.samples, 23 * FRAMES as u64);
    assert_eq!(report.lost_blocks, 0);
    // Window 1024, hop 256.
    assert_eq!(rows, 1 + (23 * FRAMES - 1024) / 256);
    assert!(board.sleeps > 0 && report.busy_ticks < board.ticks);
    assert!(board.watchdog_ms.is_some());
    assert!(board.feeds >= 25, "{}", board.feeds);
}

#[test]
fn sound_that_is_lost_is_counted_and_told() {
    let mut board = Bench::default();
    let source = Source {
        halves: BLOCKS + 9,
        all_at_once: true,
    };
    let (report, _) = start(&mut board, &genre(), source);
    let report = report.expect("overruns are no failure");
    assert_eq!((report.lost_blocks, report.deepest), (9, BLOCKS));
    let said = &board.console.0;
    let told = "overrun: the listener is late, 9 blocks of 10 ms lost so far\n";
    assert!(said.contains(told), "{said}");
}

#[test]
fn a_reset_by_the_watchdog_is_told() {
    let mut board = Bench {
        hung: true,
        ..Bench::default()
    };
    let source = Source {
        halves: 1,
        all_at_once: true,
    };
    start(&mut board, &genre(), source)
        .0
        .expect("it listens again");
    assert!(board.console.0.contains("reset: by the watchdog"));
}

#[test]
fn a_damaged_package_is_told_in_words_and_by_the_led() {
    for damage in [0, 200, 500_000] {
        let mut package = genre();
        package[damage] ^= 1;
        let mut board = Bench::default();
        let source = Source {
            halves: 1,
            all_at_once: true,
        };
        let failure = start(&mut board, &package, source).0.expect_err("damaged");
        assert!(
            matches!(failure, Failure::Package(_)),
            "{damage}: {failure}"
        );
        let said = &board.console.0;
        assert!(said.contains("error: package in flash: "), "{said}");
        assert!(said.contains("flash the firmware again\n"), "{said}");
        blink(&mut board, failure.blinks());
        assert_eq!(board.led.0, [true, false], "one blink");
        assert!(board.feeds > 0, "blinking is no hang");
    }
}
