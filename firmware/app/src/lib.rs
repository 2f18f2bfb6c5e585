//! The listener's application on a microcontroller, without the microcontroller.
//!
//! ```text
//! I2S peripheral ─► DMA ─► half of a buffer ─► Queue ─► Listener ─► console, LED
//!                           │ interrupt         │ program
//!                           └ half complete     └ sleeps while nothing waits
//! ```
//!
//! A board brings two leaves: an [`I2sSource`] that starts a DMA controller and reports each
//! completed half to the [`Queue`], from an interrupt; and a [`Board`] with a console, an
//! LED (embedded-hal), a watchdog, and a sleep until the next interrupt. [`run`] does the rest:
//! it verifies the package's golden vectors, listens, reports what it hears and counts what it
//! loses. If it cannot, [`Failure`] says why in words and [`blink`] with the LED.
//!
//! `firmware/cortex-m` is a board in QEMU, `firmware/pico2` a real one; the
//! tests here use a mock board.
//!
//! # What it will not do
//! Know a register, an interrupt's name, or the length of a package; allocate.
#![no_std]
#![forbid(unsafe_code)]

mod application;
mod board;
mod failure;
mod frame;
mod queue;

pub use application::{Microphone, Model, Report, run};
pub use board::{Board, Reset};
pub use failure::{Failure, PANIC_BLINKS, blink};
pub use frame::Frame;
pub use queue::{HalfComplete, I2sSource, Queue, Taken};
