//! UART, LED, watchdog and clock of the Pico 2.

use core::fmt;

use embassy_rp::gpio::{Level, Output};
use embassy_rp::peripherals::{PIN_0, PIN_25, UART0, WATCHDOG};
use embassy_rp::uart::{self, Blocking, UartTx};
use embassy_rp::watchdog::{ResetReason, Watchdog};
use embassy_rp::{Peri, Peripherals};
use embassy_time::{Duration, Instant, TICK_HZ, block_for};
use sori_firmware::{Board, Reset};

/// The board, but for its microphone.
pub(crate) struct Pico2 {
    console: Console,
    led: Output<'static>,
    watchdog: Watchdog,
    last_reset: Reset,
    timeout: Duration,
}

/// What [`Pico2`] is made of.
pub(crate) struct Parts {
    pub(crate) uart: Peri<'static, UART0>,
    pub(crate) tx: Peri<'static, PIN_0>,
    pub(crate) led: Peri<'static, PIN_25>,
    pub(crate) watchdog: Peri<'static, WATCHDOG>,
}

impl Pico2 {
    pub(crate) fn new(parts: Parts) -> Self {
        let watchdog = Watchdog::new(parts.watchdog);
        let last_reset = match watchdog.reset_reason() {
            Some(ResetReason::TimedOut) => Reset::Watchdog,
            // The boot ROM forces one after it was given a program.
            Some(ResetReason::Forced) | None => Reset::Ordinary,
        };
        Self {
            console: Console(UartTx::new_blocking(
                parts.uart,
                parts.tx,
                uart::Config::default(),
            )),
            led: Output::new(parts.led, Level::Low),
            watchdog,
            last_reset,
            timeout: Duration::from_secs(8),
        }
    }

    /// The board again, after a panic: whoever had it will not use it any more.
    pub(crate) fn after_a_panic() -> Self {
        // SAFETY: interrupts are off and the program does not go on, so that nothing else
        // touches these peripherals from here on.
        let peripherals = unsafe { Peripherals::steal() };
        Self::new(Parts {
            uart: peripherals.UART0,
            tx: peripherals.PIN_0,
            led: peripherals.PIN_25,
            watchdog: peripherals.WATCHDOG,
        })
    }
}

impl Board for Pico2 {
    type Console = Console;
    type Led = Output<'static>;

    const NAME: &'static str = "Raspberry Pi Pico 2";

    fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    fn led(&mut self) -> &mut Output<'static> {
        &mut self.led
    }

    fn last_reset(&self) -> Reset {
        self.last_reset
    }

    fn start_watchdog(&mut self, timeout_ms: u32) {
        self.timeout = Duration::from_millis(timeout_ms.into());
        self.watchdog.pause_on_debug(true);
        self.watchdog.start(self.timeout);
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.feed(self.timeout);
    }

    fn sleep_if(&mut self, is_idle: impl FnOnce() -> bool) {
        cortex_m::interrupt::free(|_| {
            if is_idle() {
                // An interrupt ends it though it is held back, and is taken after.
                cortex_m::asm::wfi();
            }
        });
    }

    fn delay_ms(&mut self, ms: u32) {
        block_for(Duration::from_millis(ms.into()));
    }

    fn ticks(&mut self) -> u64 {
        Instant::now().as_ticks()
    }

    fn ticks_hz(&self) -> u64 {
        TICK_HZ
    }
}

/// 115 200 baud, 8N1, on GP0.
pub(crate) struct Console(UartTx<'static, Blocking>);

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line, "\r\n"),
                None => (line, ""),
            };
            for part in [line, end] {
                self.0
                    .blocking_write(part.as_bytes())
                    .map_err(|_| fmt::Error)?;
            }
        }
        Ok(())
    }
}
