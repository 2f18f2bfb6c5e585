use core::fmt::Write as _;

use embedded_hal::digital::OutputPin as _;
use sori_listener::{Budget, Event, Listener, Memory, Verdict, verify};
use sori_nn::{Backend, Prepared};
use sori_package::Package;

use crate::{Board, Failure, Frame, I2sSource, Queue, Reset, Taken};

/// Verifying the package is the longest stretch without feeding the watchdog: the work of about
/// two seconds of audio.
const WATCHDOG_MS: u32 = 8_000;
/// What verifying may take, so that it ends before the watchdog does: at 150 MHz a multiplication
/// takes two cycles, in the stem and the front end more. Memory is the caller's.
const BUDGET: Budget = Budget {
    memory_bytes: u64::MAX,
    verification: 400_000_000,
};
/// Between status lines, of audio.
const STATUS_MS: u64 = 10_000;
/// Between lines about overruns, of audio.
const OVERRUN_MS: u64 = 1_000;

/// Writes a line. There is nowhere to report a failing console.
macro_rules! say {
    ($board:expr, $($text:tt)*) => {
        let _ = writeln!($board.console(), $($text)*);
    };
}

/// A microphone, and the buffers between it and the listener.
pub struct Microphone<S, const FRAMES: usize, const BLOCKS: usize> {
    /// Where frames come from.
    pub source: S,
    /// The double buffer that the hardware fills.
    pub buffer: &'static mut [[Frame; FRAMES]; 2],
    /// The queue of blocks waiting for the listener.
    pub queue: &'static Queue<FRAMES, BLOCKS>,
}

/// The network to listen with.
pub struct Model<'m> {
    /// The package, at [`sori_package::ALIGNMENT`].
    pub package: &'m [u8],
    /// The backend. Weights are read in place, so it must be one that does not pack
    /// them; a microcontroller's backends do not.
    pub backend: Backend,
    /// Memory of the sizes that the package's prologue states.
    pub memory: Memory<'m>,
}

/// Statistics of a stream that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Samples that were listened to.
    pub samples: u64,
    /// Ticks during which the board did not sleep.
    pub busy_ticks: u64,
    /// Most ticks that a block took.
    pub longest_ticks: u64,
    /// Blocks that were dropped.
    pub lost_blocks: u32,
    /// Most blocks that waited.
    pub deepest: usize,
}

/// Verifies the model, starts the microphone and listens until the source ends, which a
/// microphone never does. `observe` sees every event of the listener.
///
/// # Errors
/// Why it cannot listen; the console has already printed it.
pub fn run<B: Board, S: I2sSource<FRAMES>, const FRAMES: usize, const BLOCKS: usize>(
    board: &mut B,
    model: Model<'_>,
    microphone: Microphone<S, FRAMES, BLOCKS>,
    observe: &mut impl FnMut(&Package<'_>, Event<'_>),
) -> Result<Report, Failure> {
    say!(board, "sori {} on {}", env!("CARGO_PKG_VERSION"), B::NAME);
    if board.last_reset() == Reset::Watchdog {
        say!(
            board,
            "reset: by the watchdog, because the listener did not respond within {} s",
            WATCHDOG_MS / 1000
        );
    }
    board.start_watchdog(WATCHDOG_MS);
    let result = listen(board, model, microphone, observe);
    if let Err(failure) = &result {
        say!(board, "error: {failure}");
        say!(board, "LED code: {} blinks", failure.blinks());
    }
    result
}

fn listen<B: Board, S: I2sSource<FRAMES>, const FRAMES: usize, const BLOCKS: usize>(
    board: &mut B,
    model: Model<'_>,
    microphone: Microphone<S, FRAMES, BLOCKS>,
    observe: &mut impl FnMut(&Package<'_>, Event<'_>),
) -> Result<Report, Failure> {
    let package = Package::parse(model.package).map_err(Failure::Package)?;
    let prepared = Prepared::new(&package, model.backend, &mut [])
        .map_err(|error| Failure::Listener(sori_listener::Error::Network(error)))?;
    say!(
        board,
        "package: {}, {} bytes, backend {}",
        package.provenance().name,
        model.package.len(),
        prepared.backend()
    );
    board.feed_watchdog();
    BUDGET
        .admit(&package, model.backend, 1)
        .map_err(Failure::TooCostly)?;
    let Memory { frontend, arena } = model.memory;
    let borrowed = Memory {
        frontend: &mut *frontend,
        arena: &mut *arena,
    };
    let verified = verify(&prepared, borrowed, 1).map_err(Failure::Golden)?;
    say!(
        board,
        "golden vectors: {} feature rows and {} output rows, equal",
        verified.feature_rows,
        verified.output_rows
    );
    board.feed_watchdog();

    let memory = Memory { frontend, arena };
    let mut listener = Listener::new(&prepared, memory, S::RATE_HZ).map_err(Failure::Listener)?;
    let Microphone {
        source,
        buffer,
        queue,
    } = microphone;
    source.start(buffer, queue);

    let mut block = heapless::Vec::new();
    let mut settling = u64::from(S::RATE_HZ) * u64::from(S::SETTLING_MS) / 1000;
    let mut said = listener.decision().verdict;
    let (mut samples, mut slept, mut longest) = (0, 0, 0);
    let (mut told_lost, mut told_at_ms, mut status_at_ms) = (0, 0, STATUS_MS);
    let began = board.ticks();
    let ticks_hz = board.ticks_hz();
    let mut now = began;
    loop {
        match queue.take(&mut block) {
            Taken::Block => {}
            Taken::End => break,
            Taken::Nothing => {
                let before = board.ticks();
                board.sleep_if(|| queue.is_idle());
                now = board.ticks();
                slept += now - before;
                continue;
            }
        }
        let before = board.ticks();
        if settling > 0 {
            settling = settling.saturating_sub(block.len() as u64);
        } else {
            listener.push(&block, &mut |event| observe(&package, event));
            samples += block.len() as u64;
        }
        // Only sound feeds it: a microphone that stopped is a reason to restart.
        board.feed_watchdog();
        now = board.ticks();
        longest = longest.max(now - before);

        let decision = listener.decision();
        if decision.verdict != said {
            said = decision.verdict;
            let _ = match said {
                Verdict::Label(_) => board.led().set_high(),
                Verdict::Silence | Verdict::Unknown => board.led().set_low(),
            };
            say!(board, "{:5} ms: {}", decision.time_ms, name(&package, said));
        }
        let lost = queue.lost();
        let time_ms = samples * 1000 / u64::from(S::RATE_HZ);
        if lost != told_lost && (told_lost == 0 || time_ms >= told_at_ms + OVERRUN_MS) {
            (told_lost, told_at_ms) = (lost, time_ms);
            say!(
                board,
                "overrun: the listener is late, {lost} blocks of {} ms lost so far",
                FRAMES * 1000 / S::RATE_HZ as usize
            );
        }
        if time_ms >= status_at_ms {
            status_at_ms += STATUS_MS;
            say!(
                board,
                "status: {} s, {} dBFS, load {} %, at most {} of {BLOCKS} blocks waiting, {lost} lost",
                time_ms / 1000,
                decision.level_dbfs_q8 >> 8,
                load_percent(now - began - slept, samples, S::RATE_HZ, ticks_hz),
                queue.deepest()
            );
        }
    }
    listener.finish(&mut |event| observe(&package, event));
    Ok(Report {
        samples,
        busy_ticks: now - began - slept,
        longest_ticks: longest,
        lost_blocks: queue.lost(),
        deepest: queue.deepest(),
    })
}

/// Share of the clock needed in real time; above 100 a listener loses audio.
fn load_percent(busy_ticks: u64, samples: u64, rate_hz: u32, ticks_hz: u64) -> u64 {
    let ticks_of_sound = samples * ticks_hz / u64::from(rate_hz);
    busy_ticks * 100 / ticks_of_sound.max(1)
}

impl Report {
    /// Part of the clock that the sound took.
    pub fn load_percent(&self, rate_hz: u32, ticks_hz: u64) -> u64 {
        load_percent(self.busy_ticks, self.samples, rate_hz, ticks_hz)
    }
}

fn name<'p>(package: &Package<'p>, verdict: Verdict) -> &'p str {
    match verdict {
        Verdict::Silence => "silence",
        Verdict::Unknown => "unknown",
        Verdict::Label(label) => package.labels().nth(label.into()).unwrap_or("no label"),
    }
}
