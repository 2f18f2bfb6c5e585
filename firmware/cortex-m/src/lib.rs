//! What the firmware's programs share: the way out, a clock that counts instructions,
//! and the depth of the stack.
//!
//! | Program | Does |
//! |---|---|
//! | `sori-mcu` | proves its package by the golden vectors, then listens to a clip |
//! | `conformance` | runs `sori-conformance`, the suite of every target |
//! | `frontend-instructions` | counts an FFT and a frame, measures their accuracy, and fails above its limits |
//! | `plan-instructions` | counts a network at full speed and in less memory, and fails above 80 and 48 KiB |
//! | `network-instructions` | counts inferences of the benchmark networks, by layer |
//!
//! `sori-mcu` is [`sori_firmware::run`] on the board of [`mps2`]; its sounds come from the image,
//! its words go to the UART. The others are tools, and print by semihosting.
//!
//! They run on Arm's MPS2 boards, in QEMU (`cargo xtask firmware`, on the Cortex-M7 too):
//!
//! ```text
//! cargo run --release --target thumbv7m-none-eabi                        # Cortex-M3
//! cargo run --release --target thumbv7em-none-eabihf --features dsp      # Cortex-M4
//! cargo run --release --target thumbv8m.main-none-eabihf --features dsp  # Cortex-M33
//! ```
//!
//! # What it will not do
//! Blame the core for the board: what another board needs is in `sori_firmware`'s two traits, and
//! `firmware/pico2` has them for one that can be bought.
#![no_std]

use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::{debug, hprintln};

mod counter;
pub mod mps2;
pub mod stack;

pub use counter::Counter;

/// Ends the emulation, or the debugger's session, with this result.
pub fn exit(success: bool) -> ! {
    debug::exit(if success {
        debug::EXIT_SUCCESS
    } else {
        debug::EXIT_FAILURE
    });
    // A debugger may let the program go on.
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(false)
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    hprintln!("hard fault: {:?}", frame);
    exit(false)
}
