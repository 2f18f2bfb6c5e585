//! The listener on a Raspberry Pi Pico 2: what [`sori_firmware::run`] does, with an I2S
//! microphone on GP18 to GP20. The README has the wiring.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "a panic handler has to steal the board")]
mod board;
mod microphone;

use core::fmt::Write as _;
use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};
use embassy_executor::InterruptExecutor;
use embassy_rp::interrupt::{InterruptExt as _, Priority};
use embassy_rp::peripherals::{DMA_CH0, PIO0};
use embassy_rp::{bind_interrupts, dma, interrupt, pio};
use sori_firmware::{Board as _, Frame, Microphone, Model, PANIC_BLINKS, Queue, blink, run};
use sori_listener::Memory;
use sori_nn::Backend;
use sori_package::{Aligned, Prologue};
use static_cell::ConstStaticCell;

use board::Pico2;
use microphone::{FRAMES, PioMicrophone};

bind_interrupts!(struct Irqs {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
});

/// The genre model, or what `SORI_PACKAGE` named.
const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/package.sori"));
static PACKAGE: Aligned<[u8; BYTES.len()]> =
    Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/package.sori")));

const SIZES: Prologue = match Prologue::read(BYTES) {
    Ok(prologue) => prologue,
    Err(_) => panic!("it is not a package, or a newer one"),
};

const ARENA_BYTES: usize = SIZES.arena_bytes(1);
const FRONTEND_WORDS: usize = SIZES.frontend_bytes() / size_of::<i32>();

static ARENA: ConstStaticCell<Aligned<[u8; ARENA_BYTES]>> =
    ConstStaticCell::new(Aligned([0; ARENA_BYTES]));
static FRONTEND: ConstStaticCell<[i32; FRONTEND_WORDS]> = ConstStaticCell::new([0; FRONTEND_WORDS]);
static BUFFER: ConstStaticCell<[[Frame; FRAMES]; 2]> = ConstStaticCell::new([[[0; 2]; FRAMES]; 2]);

/// A third of a second: an output row's work in one piece, three times over.
const BLOCKS: usize = 32;
static QUEUE: Queue<FRAMES, BLOCKS> = Queue::new();

/// Runs what must not wait for the listener.
static EXECUTOR: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
#[allow(unsafe_code, reason = "the executor's entry is an interrupt")]
unsafe fn SWI_IRQ_1() {
    // SAFETY: this is the interrupt that `main` started the executor for.
    unsafe { EXECUTOR.on_interrupt() }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let peripherals = embassy_rp::init(embassy_rp::config::Config::default());
    let mut board = Pico2::new(board::Parts {
        uart: peripherals.UART0,
        tx: peripherals.PIN_0,
        led: peripherals.PIN_25,
        watchdog: peripherals.WATCHDOG,
    });
    interrupt::SWI_IRQ_1.set_priority(Priority::P2);
    let spawner = EXECUTOR.start(interrupt::SWI_IRQ_1);
    let parts = microphone::Parts {
        pio: peripherals.PIO0,
        dma: peripherals.DMA_CH0,
        clock: peripherals.PIN_18,
        word_select: peripherals.PIN_19,
        data: peripherals.PIN_20,
    };
    let microphone = Microphone {
        source: PioMicrophone::new(parts, spawner),
        buffer: BUFFER.take(),
        queue: &QUEUE,
    };
    let model = Model {
        package: &PACKAGE.0,
        backend: Backend::detect(),
        memory: Memory {
            frontend: FRONTEND.take(),
            arena: &mut ARENA.take().0,
        },
    };
    let blinks = match run(&mut board, model, microphone, &mut |_, _| ()) {
        // A microphone has no end.
        Ok(_) => PANIC_BLINKS,
        Err(failure) => failure.blinks(),
    };
    loop {
        blink(&mut board, blinks);
    }
}

/// Says what happened, and blinks until the watchdog starts the board again.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    let mut board = Pico2::after_a_panic();
    let _ = writeln!(board.console(), "{info}\nthe board starts again");
    board.start_watchdog(8_000);
    for _ in 0..2 {
        blink(&mut board, PANIC_BLINKS);
    }
    loop {
        cortex_m::asm::nop();
    }
}

#[exception]
#[allow(unsafe_code, reason = "cortex-m-rt wants it so")]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    panic!("hard fault: {frame:?}");
}
