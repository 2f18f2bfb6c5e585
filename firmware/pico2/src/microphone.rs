//! An I2S microphone on a PIO state machine, whose words a DMA channel carries off.

use embassy_executor::SendSpawner;
use embassy_rp::dma;
use embassy_rp::peripherals::{DMA_CH0, PIN_18, PIN_19, PIN_20, PIO0};
use embassy_rp::pio::program::pio_asm;
use embassy_rp::pio::{
    Config, Direction, FifoJoin, Pio, ShiftConfig, ShiftDirection, StateMachine,
};
use embassy_rp::{Peri, clocks};
use fixed::FixedU32;
use fixed::types::extra::U8;
use sori_firmware::{Frame, HalfComplete, I2sSource};

use crate::Irqs;

/// The contract's rate: an INMP441 samples at 7.8 to 50 kHz, and what need not be resampled
/// costs nothing.
pub(crate) const RATE_HZ: u32 = 16_000;

/// Frames of half a buffer: 10 ms.
pub(crate) const FRAMES: usize = 160;

/// Two slots of 32 bits, each bit a low and a high phase of the clock.
const PHASES_PER_FRAME: u32 = 2 * 32 * 2;

/// Pins and peripherals of the microphone.
pub(crate) struct Parts {
    pub(crate) pio: Peri<'static, PIO0>,
    pub(crate) dma: Peri<'static, DMA_CH0>,
    /// SCK, BCLK.
    pub(crate) clock: Peri<'static, PIN_18>,
    /// WS, LRCLK: the pin after the clock's, for the program sets both at once.
    pub(crate) word_select: Peri<'static, PIN_19>,
    /// SD, DOUT.
    pub(crate) data: Peri<'static, PIN_20>,
}

/// A state machine that is ready, and the channel that empties it.
pub(crate) struct PioMicrophone {
    machine: StateMachine<'static, PIO0, 0>,
    dma: dma::Channel<'static>,
    spawner: SendSpawner,
}

impl PioMicrophone {
    /// `spawner` is of an executor that interrupts the listener.
    pub(crate) fn new(parts: Parts, spawner: SendSpawner) -> Self {
        let Pio {
            mut common,
            sm0: mut machine,
            ..
        } = Pio::new(parts.pio, Irqs);
        // Philips I2S as its controller. Word select (side-set bit 1) changes with the
        // falling clock (bit 0) one bit before the left slot's first, when it goes low, and
        // before the right slot's, when it goes high. A microphone changes its bit with the
        // falling edge, too, and it is read with the rising one. X counts the 30 bits
        // between a slot's first and its last, whose phases differ.
        let program = pio_asm!(
            ".side_set 2",
            ".wrap_target",
            "    set x, 29        side 0b00",
            "left:",
            "    in pins, 1       side 0b01",
            "    jmp x-- left     side 0b00",
            "    in pins, 1       side 0b01",
            "    set x, 29        side 0b10",
            "    in pins, 1       side 0b11",
            "    nop              side 0b10",
            "right:",
            "    in pins, 1       side 0b11",
            "    jmp x-- right    side 0b10",
            "    in pins, 1       side 0b11",
            "    nop              side 0b00",
            "    in pins, 1       side 0b01",
            ".wrap",
        );
        let program = common.load_program(&program.program);
        let clock = common.make_pio_pin(parts.clock);
        let word_select = common.make_pio_pin(parts.word_select);
        let data = common.make_pio_pin(parts.data);

        let mut config = Config::default();
        config.use_program(&program, &[&clock, &word_select]);
        config.set_in_pins(&[&data]);
        // 150 MHz give 73 + 62/256, exactly.
        let cycles_q8 = u64::from(clocks::clk_sys_freq()) << 8;
        let divider = cycles_q8 / u64::from(RATE_HZ * PHASES_PER_FRAME);
        config.clock_divider = FixedU32::<U8>::from_bits(divider as u32);
        config.shift_in = ShiftConfig {
            threshold: 32,
            direction: ShiftDirection::Left,
            auto_fill: true,
        };
        // Eight words: four frames of time to give the channel its next half.
        config.fifo_join = FifoJoin::RxOnly;
        machine.set_config(&config);
        machine.set_pin_dirs(Direction::In, &[&data]);
        machine.set_pin_dirs(Direction::Out, &[&clock, &word_select]);
        Self {
            machine,
            dma: dma::Channel::new(parts.dma, Irqs),
            spawner,
        }
    }
}

impl I2sSource<FRAMES> for PioMicrophone {
    const RATE_HZ: u32 = RATE_HZ;
    const SETTLING_MS: u32 = 300;

    fn start(self, buffer: &'static mut [[Frame; FRAMES]; 2], to: &'static dyn HalfComplete) {
        let task = receive(self.machine, self.dma, buffer, to);
        self.spawner
            .spawn(task.expect("a source starts once, and has a task of its own"));
    }
}

#[embassy_executor::task]
async fn receive(
    mut machine: StateMachine<'static, PIO0, 0>,
    mut dma: dma::Channel<'static>,
    buffer: &'static mut [[Frame; FRAMES]; 2],
    to: &'static dyn HalfComplete,
) {
    let [filling, full] = buffer;
    let (mut filling, mut full) = (filling, full);
    machine.set_enable(true);
    let first = filling.as_flattened_mut();
    machine.rx().dma_pull(&mut dma, first, false).await;
    loop {
        (filling, full) = (full, filling);
        let words = filling.as_flattened_mut();
        let transfer = machine.rx().dma_pull(&mut dma, words, false);
        // While the channel is busy with the other half.
        to.half_complete(full);
        transfer.await;
    }
}
