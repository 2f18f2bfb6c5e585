use core::fmt;

use embedded_hal::digital::OutputPin as _;
use sori_listener::{Mismatch, OverBudget};

use crate::Board;

/// Why a board cannot listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The package in flash is damaged, or of another format.
    Package(sori_package::Error),
    /// This program does not compute the bits that the package promises.
    Golden(Mismatch),
    /// The package cannot be used to listen.
    Listener(sori_listener::Error),
    /// To verify the package would take longer than the watchdog waits.
    TooCostly(OverBudget),
}

/// Number of [`blink`]s from a panic handler: a bug in the firmware.
pub const PANIC_BLINKS: u32 = 4;

const SHORT_MS: u32 = 150;
const PAUSE_MS: u32 = 1200;

impl Failure {
    /// Number of blinks in the LED code.
    pub fn blinks(&self) -> u32 {
        match self {
            Self::Package(_) => 1,
            Self::Golden(_) => 2,
            Self::Listener(_) | Self::TooCostly(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(error) => {
                write!(f, "package in flash: {error}; flash the firmware again")
            }
            Self::Golden(mismatch) => write!(f, "golden vectors: {mismatch}"),
            Self::Listener(error) => write!(f, "the package cannot be used to listen: {error}"),
            Self::TooCostly(over) => write!(f, "the package cannot be used to listen: {over}"),
        }
    }
}

impl core::error::Error for Failure {}

/// Blinks `times` in a row, then pauses. Feeds the watchdog: a reset would not help.
pub fn blink(board: &mut impl Board, times: u32) {
    for _ in 0..times {
        // A pin that cannot be set leaves nothing else to say it with.
        let _ = board.led().set_high();
        board.delay_ms(SHORT_MS);
        let _ = board.led().set_low();
        board.delay_ms(SHORT_MS);
        board.feed_watchdog();
    }
    board.delay_ms(PAUSE_MS);
    board.feed_watchdog();
}
