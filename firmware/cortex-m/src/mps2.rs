//! Arm's MPS2 boards, as far as the listener needs them: UART, LED, watchdog, and a microphone
//! that plays a recording.
//!
//! Registers and interrupts are those of the Cortex-M System Design Kit (CMSDK, Arm DDI 0479),
//! at the addresses of the application notes AN385, AN386, AN500 and, in the Secure alias, AN505.
//!
//! QEMU executes an instruction a nanosecond. The board here is slower, [`Mps2::clock_mhz`]:
//! its timers run so much faster that a core which needs a cycle for an instruction would be as
//! late as one with that clock.
#![allow(
    unsafe_code,
    reason = "registers, and what lies at a fixed address, have no other way"
)]

use core::cell::RefCell;
use core::convert::Infallible;
use core::fmt;
use core::ptr;

use cortex_m::asm;
use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::{NVIC, SCB};
use cortex_m_rt::exception;
use critical_section::Mutex;
use embedded_hal::digital::{ErrorType, OutputPin};
use sori_firmware::{Board, Frame, HalfComplete, I2sSource, Reset};

use crate::Counter;

#[cfg(board = "an385")]
mod address {
    pub(super) const TIMER0: usize = 0x4000_0000;
    pub(super) const UART0: usize = 0x4000_4000;
    pub(super) const WATCHDOG: usize = 0x4000_8000;
    pub(super) const FPGAIO: usize = 0x4002_8000;
    pub(super) const TIMER0_IRQ: u16 = 8;
}
#[cfg(board = "an505")]
mod address {
    pub(super) const TIMER0: usize = 0x5000_0000;
    pub(super) const UART0: usize = 0x5020_0000;
    pub(super) const WATCHDOG: usize = 0x5008_1000;
    pub(super) const FPGAIO: usize = 0x5030_2000;
    pub(super) const TIMER0_IRQ: u16 = 3;
}

/// Frames of half a buffer: 10 ms at 16 kHz.
pub const FRAMES: usize = 160;
/// A recording's; also a microphone's that samples at the contract's rate.
pub const RATE_HZ: u32 = 16_000;

/// Like a Raspberry Pi Pico 2.
const CLOCK_MHZ: u32 = 150;

/// Opens the watchdog's registers.
const UNLOCK: u32 = 0x1acc_e551;

/// What [`KEEP`] holds after a watchdog's reset, and nothing else is likely to.
const WATCHDOG_WAS_HERE: u32 = 0x5707_d065;

unsafe extern "C" {
    /// A word that no section has and that a reset leaves alone (an385.x, an505.x).
    #[link_name = "_keep"]
    static KEEP: u32;
}

/// A peripheral's registers.
#[derive(Clone, Copy)]
struct Registers(usize);

const TIMER0: Registers = Registers(address::TIMER0);
const UART0: Registers = Registers(address::UART0);
const WATCHDOG: Registers = Registers(address::WATCHDOG);
const FPGAIO: Registers = Registers(address::FPGAIO);

impl Registers {
    fn read(self, offset: usize) -> u32 {
        // SAFETY: all of the constants above are peripherals of this board, whose registers
        // are words; reading one has no effect on memory.
        unsafe { ptr::read_volatile((self.0 + offset) as *const u32) }
    }

    fn write(self, offset: usize, value: u32) {
        // SAFETY: as for reading; none of these peripherals accesses memory by itself.
        unsafe { ptr::write_volatile((self.0 + offset) as *mut u32, value) }
    }
}

/// The board.
pub struct Mps2 {
    uart: Uart,
    led: Led,
    counter: Counter,
    ticks: u64,
    last_reset: Reset,
    clock_mhz: u32,
    watchdog_load: u32,
    hang_after_feeds: Option<u32>,
}

impl Mps2 {
    /// Takes the board. QEMU's command line (`-semihosting-config arg=…`) may ask it to be slow,
    /// `clock=MHZ`, or to hang when the watchdog has been fed so often, `hang-after=FEEDS`.
    ///
    /// # Panics
    /// When it is taken already.
    pub fn take() -> Self {
        let (mut clock_mhz, mut hang_after_feeds) = (CLOCK_MHZ, None);
        let mut line = [0; 128];
        for word in command_line(&mut line).split(' ') {
            match word.split_once('=') {
                Some(("clock", mhz)) => clock_mhz = mhz.parse().unwrap_or(CLOCK_MHZ).max(1),
                Some(("hang-after", feeds)) => hang_after_feeds = feeds.parse().ok(),
                _ => {}
            }
        }
        let keep = (&raw const KEEP).cast_mut();
        // SAFETY: the linker script leaves this word of RAM out of every section.
        let kept = unsafe { ptr::replace(keep, 0) };
        let last_reset = match kept == WATCHDOG_WAS_HERE {
            true => Reset::Watchdog,
            false => Reset::Ordinary,
        };
        Self {
            uart: Uart::start(),
            led: Led,
            counter: Counter::start(),
            ticks: 0,
            last_reset,
            clock_mhz,
            watchdog_load: 0,
            // Once is enough to see what comes of it.
            hang_after_feeds: hang_after_feeds.filter(|_| last_reset == Reset::Ordinary),
        }
    }

    /// Million instructions that the board executes in a second of audio.
    pub fn clock_mhz(&self) -> u32 {
        self.clock_mhz
    }

    /// Of the timers, in a time of which the board's clock makes a second.
    fn timer_ticks(&self, ms: u32) -> u32 {
        let instructions = u64::from(self.clock_mhz) * 1000 * u64::from(ms);
        u32::try_from(instructions / Counter::INSTRUCTIONS_PER_TICK).unwrap_or(u32::MAX)
    }

    /// For what nobody waits for.
    pub fn stop_watchdog(&mut self) {
        WATCHDOG.write(0x8, 0);
    }

    /// Plays 16-bit little-endian samples in place of a microphone.
    pub fn recording(&self, samples: &'static [[u8; 2]]) -> Recording {
        Recording {
            samples,
            reload: self.timer_ticks(FRAMES as u32 * 1000 / RATE_HZ),
        }
    }
}

impl Board for Mps2 {
    type Console = Uart;
    type Led = Led;

    #[cfg(board = "an385")]
    const NAME: &'static str = "Arm MPS2";
    #[cfg(board = "an505")]
    const NAME: &'static str = "Arm MPS2+ AN505";

    fn console(&mut self) -> &mut Uart {
        &mut self.uart
    }

    fn led(&mut self) -> &mut Led {
        &mut self.led
    }

    fn last_reset(&self) -> Reset {
        self.last_reset
    }

    fn start_watchdog(&mut self, timeout_ms: u32) {
        const INTERRUPT_AND_RESET: u32 = 0b11;
        self.watchdog_load = self.timer_ticks(timeout_ms);
        WATCHDOG.write(0xc00, UNLOCK);
        WATCHDOG.write(0x0, self.watchdog_load);
        WATCHDOG.write(0x8, INTERRUPT_AND_RESET);
    }

    fn feed_watchdog(&mut self) {
        if let Some(feeds) = &mut self.hang_after_feeds {
            if *feeds == 0 {
                cortex_m::interrupt::disable();
                loop {
                    asm::nop();
                }
            }
            *feeds -= 1;
        }
        WATCHDOG.write(0x0, self.watchdog_load);
    }

    fn sleep_if(&mut self, is_idle: impl FnOnce() -> bool) {
        cortex_m::interrupt::free(|_| {
            if is_idle() {
                // An interrupt ends it though it is held back, and is taken after.
                asm::wfi();
            }
        });
    }

    fn delay_ms(&mut self, ms: u32) {
        // At least that: an iteration has two instructions and counts for no more cycles.
        asm::delay(self.clock_mhz.saturating_mul(1000).saturating_mul(ms));
    }

    /// Instructions.
    fn ticks(&mut self) -> u64 {
        self.ticks += self.counter.lap();
        self.ticks
    }

    fn ticks_hz(&self) -> u64 {
        u64::from(self.clock_mhz) * 1_000_000
    }
}

/// The first CMSDK UART.
pub struct Uart(());

impl Uart {
    fn start() -> Self {
        const TRANSMIT: u32 = 1;
        // The least divisor there is: nobody waits for an emulated line.
        UART0.write(0x10, 16);
        UART0.write(0x8, TRANSMIT);
        Self(())
    }

    /// Waits until the last byte has left.
    pub fn flush(&mut self) {
        const FULL: u32 = 1;
        while UART0.read(0x4) & FULL != 0 {}
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.flush();
            UART0.write(0x0, byte.into());
        }
        Ok(())
    }
}

/// `USERLED0`.
pub struct Led;

impl ErrorType for Led {
    type Error = Infallible;
}

impl OutputPin for Led {
    fn set_low(&mut self) -> Result<(), Infallible> {
        FPGAIO.write(0x0, 0);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        FPGAIO.write(0x0, 1);
        Ok(())
    }
}

/// A recording in place of a microphone: a timer stands for the I2S clock, and its interrupt
/// for the DMA controller that fills a half of the buffer.
pub struct Recording {
    samples: &'static [[u8; 2]],
    reload: u32,
}

struct Player {
    /// What is not yet played.
    samples: &'static [[u8; 2]],
    buffer: &'static mut [[Frame; FRAMES]; 2],
    half: usize,
    to: &'static dyn HalfComplete,
}

static PLAYER: Mutex<RefCell<Option<Player>>> = Mutex::new(RefCell::new(None));

#[derive(Clone, Copy)]
struct Timer0;

// SAFETY: the number is the timer's in this board's interrupt table, and always the same.
unsafe impl InterruptNumber for Timer0 {
    fn number(self) -> u16 {
        address::TIMER0_IRQ
    }
}

impl I2sSource<FRAMES> for Recording {
    const RATE_HZ: u32 = RATE_HZ;
    const SETTLING_MS: u32 = 0;

    fn start(self, buffer: &'static mut [[Frame; FRAMES]; 2], to: &'static dyn HalfComplete) {
        const ENABLE_WITH_INTERRUPT: u32 = 0b1001;
        critical_section::with(|token| {
            *PLAYER.borrow_ref_mut(token) = Some(Player {
                samples: self.samples,
                buffer,
                half: 0,
                to,
            });
        });
        TIMER0.write(0x4, self.reload);
        TIMER0.write(0x8, self.reload);
        TIMER0.write(0x0, ENABLE_WITH_INTERRUPT);
        // SAFETY: the interrupt has a handler below, whose state was set above.
        unsafe { NVIC::unmask(Timer0) };
    }
}

impl Player {
    /// The samples of half a buffer's time, as an I2S receiver would have written them.
    fn play(&mut self) {
        let half = &mut self.buffer[self.half];
        self.half = 1 - self.half;
        let (now, later) = self.samples.split_at(self.samples.len().min(FRAMES));
        self.samples = later;
        for (frame, sample) in half.iter_mut().zip(now) {
            let sample = sori_dsp::from_i16(i16::from_le_bytes(*sample));
            *frame = [(sample << 8).cast_unsigned(), 0];
        }
        if !now.is_empty() {
            self.to.half_complete(&half[..now.len()]);
        }
        if later.is_empty() {
            self.to.end();
            TIMER0.write(0x0, 0);
        }
    }
}

/// Every interrupt; only the timer's is unmasked.
#[exception]
unsafe fn DefaultHandler(_irq: i16) {
    TIMER0.write(0xc, 1);
    critical_section::with(|token| {
        if let Some(player) = PLAYER.borrow_ref_mut(token).as_mut() {
            player.play();
        }
    });
}

/// The watchdog's first word. Its second would be a reset, of which nothing would know why.
#[exception]
unsafe fn NonMaskableInt() -> ! {
    // SAFETY: as in `Mps2::take`; nothing runs any more that could look at it.
    unsafe { ptr::write_volatile((&raw const KEEP).cast_mut(), WATCHDOG_WAS_HERE) };
    SCB::sys_reset()
}

/// What QEMU was told to tell the program.
fn command_line(line: &mut [u8; 128]) -> &str {
    const GET_CMDLINE: usize = 0x15;
    let mut block = [line.as_mut_ptr() as usize, line.len()];
    // SAFETY: the call writes at most as many bytes as the block says to where it says, and
    // their number into the block.
    let failed =
        unsafe { cortex_m_semihosting::syscall1(GET_CMDLINE, block.as_mut_ptr() as usize) };
    // What the host has written behind the compiler's back.
    let len = match failed {
        // SAFETY: it is a local variable.
        0 => unsafe { ptr::read_volatile(&raw const block[1]) },
        _ => 0,
    };
    let written = line.get(..len).unwrap_or_default();
    core::str::from_utf8(written).unwrap_or_default()
}
