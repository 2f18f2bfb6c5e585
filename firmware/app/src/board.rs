use core::fmt;

use embedded_hal::digital::OutputPin;

/// Why the program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Power, a button, a debugger.
    Ordinary,
    /// The watchdog was not fed in time.
    Watchdog,
}

/// What the application needs of a board besides its microphone.
pub trait Board {
    /// Takes text, lines ending in `\n`: a UART, a debugger's channel.
    type Console: fmt::Write;
    /// On while a label is named.
    type Led: OutputPin;

    /// Human-readable name.
    const NAME: &'static str;

    /// For messages.
    fn console(&mut self) -> &mut Self::Console;
    /// For people.
    fn led(&mut self) -> &mut Self::Led;
    /// The cause of the last reset.
    fn last_reset(&self) -> Reset;
    /// From here on the board restarts unless it is fed at least every `timeout_ms`.
    fn start_watchdog(&mut self, timeout_ms: u32);
    /// See [`start_watchdog`](Self::start_watchdog).
    fn feed_watchdog(&mut self);
    /// Sleeps until an interrupt if `is_idle` returns true with interrupts masked, so that nothing
    /// an interrupt delivers at the last moment is slept through.
    fn sleep_if(&mut self, is_idle: impl FnOnce() -> bool);
    /// Waits, even with interrupts masked.
    fn delay_ms(&mut self, ms: u32);
    /// A clock that keeps running while the board sleeps.
    fn ticks(&mut self) -> u64;
    /// Its rate, the same for as long as the board runs.
    fn ticks_hz(&self) -> u64;
}
