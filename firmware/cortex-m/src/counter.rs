use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

/// Executed instructions, where QEMU runs with `-icount shift=0`: an instruction then
/// takes 1 ns of virtual time, and SysTick of the MPS2 boards counts at 25 MHz, or with the
/// AN505 image at 20 MHz.
///
/// Exact to one tick of 40 or 50 instructions.
#[derive(Debug, Clone)]
pub struct Counter {
    last: u32,
}

impl Counter {
    /// What it is exact to.
    pub const INSTRUCTIONS_PER_TICK: u64 = if cfg!(board = "an505") { 50 } else { 40 };
    /// SysTick's 24 bits: between two calls there may be 671 million instructions.
    const MASK: u32 = 0xff_ffff;

    /// Starts the timer.
    ///
    /// # Panics
    /// When there is one already.
    pub fn start() -> Self {
        let mut systick = Peripherals::take().expect("the first counter").SYST;
        systick.set_clock_source(SystClkSource::Core);
        systick.set_reload(Self::MASK);
        systick.clear_current();
        systick.enable_counter();
        let last = SYST::get_current();
        Self { last }
    }

    /// Instructions since the last call.
    pub fn lap(&mut self) -> u64 {
        let now = SYST::get_current();
        // SysTick counts down.
        let ticks = self.last.wrapping_sub(now) & Self::MASK;
        self.last = now;
        u64::from(ticks) * Self::INSTRUCTIONS_PER_TICK
    }
}
