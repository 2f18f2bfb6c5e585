//! The listener on an MPS2 board, where a timer plays a clip as a microphone would: what
//! [`sori_firmware::run`] does, and then what the clip was, what it cost and what it took.
//!
//! Everything is sized at compile time from the package; there is no heap.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Write as _;

use sori_dsp::FrontEnd;
use sori_firmware::{Board as _, Frame, Microphone, Model, Queue, Report, blink, run};
use sori_listener::{ClipSummary, Event, Listener, Memory, Verdict};
use sori_mcu::mps2::{FRAMES, Mps2, RATE_HZ};
use sori_mcu::{exit, stack};
use sori_nn::Backend;
use sori_package::{Aligned, Package, Prologue};
use static_cell::ConstStaticCell;

const GENRE_BYTES: &[u8] = include_bytes!("../../../models/genre/genre.sori");
static GENRE: Aligned<[u8; GENRE_BYTES.len()]> =
    Aligned(*include_bytes!("../../../models/genre/genre.sori"));

const SIZES: Prologue = match Prologue::read(GENRE_BYTES) {
    Ok(prologue) => prologue,
    Err(_) => panic!("models/genre/genre.sori is not a package"),
};

/// A row at a time: the least memory.
const STRIPE: usize = 1;
const ARENA_BYTES: usize = SIZES.arena_bytes(STRIPE);
const FRONTEND_WORDS: usize = SIZES.frontend_bytes() / size_of::<i32>();

static ARENA: ConstStaticCell<Aligned<[u8; ARENA_BYTES]>> =
    ConstStaticCell::new(Aligned([0; ARENA_BYTES]));
static FRONTEND: ConstStaticCell<[i32; FRONTEND_WORDS]> = ConstStaticCell::new([0; FRONTEND_WORDS]);

/// 16-bit little-endian samples at the contract's rate.
static CLIP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clip.i16"));

static BUFFER: ConstStaticCell<[[Frame; FRAMES]; 2]> = ConstStaticCell::new([[[0; 2]; FRAMES]; 2]);

/// An output row's work in one piece, at a clock that can just do it in time.
const BLOCKS: usize = 32;
static QUEUE: Queue<FRAMES, BLOCKS> = Queue::new();

static CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// What the README promises of the stack, bytes.
const STACK_LIMIT: usize = 12 * 1024;

/// A failure blinks so often before the emulation ends; a real board never stops.
const BLINKS: usize = 3;

/// Writes a line to the UART, which takes all.
macro_rules! say {
    ($board:expr, $($text:tt)*) => {
        let _ = writeln!($board.console(), $($text)*);
    };
}

#[cortex_m_rt::entry]
fn main() -> ! {
    stack::paint();
    let mut board = Mps2::take();
    let (arena, frontend) = (&mut ARENA.take().0, FRONTEND.take());
    let microphone = Microphone {
        source: board.recording(samples()),
        buffer: BUFFER.take(),
        queue: &QUEUE,
    };
    let model = Model {
        package: &GENRE.0,
        backend: Backend::detect(),
        memory: Memory {
            frontend: &mut *frontend,
            arena,
        },
    };
    let mut heard = Heard {
        summary: None,
        digest: CRC32.digest(),
        outputs: 0,
    };
    let mut observe = |package: &Package<'_>, event: Event<'_>| heard.observe(package, &event);
    let report = match run(&mut board, model, microphone, &mut observe) {
        Ok(report) => report,
        Err(failure) => {
            (0..BLINKS).for_each(|_| blink(&mut board, failure.blinks()));
            board.console().flush();
            exit(false)
        }
    };
    // What follows has no microphone to keep up with.
    board.stop_watchdog();
    let Ok(package) = Package::parse(&GENRE.0) else {
        exit(false)
    };
    heard.print(&mut board, &package);
    let front_end = front_end_alone(&mut board, &package, frontend);
    print_costs(&mut board, &report, front_end);
    let fits = stack::high_water() <= STACK_LIMIT;
    if !fits {
        say!(board, "error: the stack may take {STACK_LIMIT} bytes");
    }
    board.console().flush();
    exit(fits)
}

/// What the clip was, for the host to compare.
struct Heard {
    summary: Option<ClipSummary>,
    digest: crc::Digest<'static, u32>,
    outputs: usize,
}

impl Heard {
    fn observe(&mut self, package: &Package<'_>, event: &Event<'_>) {
        let summary = self
            .summary
            .get_or_insert_with(|| ClipSummary::new(package));
        summary.observe(event);
        if let Event::Output { logits, .. } = event {
            self.outputs += 1;
            for q in *logits {
                self.digest.update(&q.to_le_bytes());
            }
        }
    }

    fn print(self, board: &mut Mps2, package: &Package<'_>) {
        let Some(summary) = self.summary else {
            say!(board, "clip: nothing was heard");
            return;
        };
        let clip = summary.clip();
        let best = clip
            .best
            .map_or(0, |best| clip.probabilities_q15[usize::from(best)]);
        say!(
            board,
            "clip: {} samples, {} feature rows, {} output rows",
            samples().len(),
            clip.rows,
            self.outputs
        );
        say!(board, "logits: crc32 {:08x}", self.digest.finalize());
        let verdict = match clip.verdict {
            Verdict::Silence => "silence",
            Verdict::Unknown => "unknown",
            Verdict::Label(label) => package.labels().nth(label.into()).unwrap_or("no label"),
        };
        say!(
            board,
            "decision: {verdict}, largest probability {best}/32768"
        );
    }
}

fn samples() -> &'static [[u8; 2]] {
    CLIP.as_chunks().0
}

/// Instructions that the front end spends on the clip.
fn front_end_alone(board: &mut Mps2, package: &Package<'_>, workspace: &mut [i32]) -> u64 {
    let Some(Ok(frontend)) = package.mel().map(|mel| FrontEnd::new(&mel, workspace)) else {
        return 0;
    };
    let mut frontend = frontend.with_backend(sori_listener::frontend_backend(Backend::detect()));
    let mut block = [0; FRAMES];
    let (mut rows, mut spent) = (0, 0);
    for samples in samples().chunks(FRAMES) {
        let block = &mut block[..samples.len()];
        for (to, &from) in block.iter_mut().zip(samples) {
            *to = sori_dsp::from_i16(i16::from_le_bytes(from));
        }
        let before = board.ticks();
        frontend.push(block, &mut |_| rows += 1);
        spent += board.ticks() - before;
    }
    say!(
        board,
        "front end: {rows} rows, {} instructions a row",
        spent / rows.max(1)
    );
    spent
}

fn print_costs(board: &mut Mps2, report: &Report, front_end: u64) {
    let of = |samples: u64, instructions| instructions * u64::from(RATE_HZ) / samples.max(1);
    let busy = of(report.samples, report.busy_ticks);
    let front_end = of(samples().len() as u64, front_end);
    say!(
        board,
        "instructions per second of audio: {} in all, {} front end, {} network, decision and interrupts; at most {} for a block of {} ms",
        busy,
        front_end,
        busy.saturating_sub(front_end),
        report.longest_ticks,
        FRAMES * 1000 / RATE_HZ as usize
    );
    let (clock_mhz, load) = (
        board.clock_mhz(),
        report.load_percent(RATE_HZ, board.ticks_hz()),
    );
    say!(
        board,
        "live at {clock_mhz} MHz, an instruction a cycle: load {load} %, at most {} of {BLOCKS} blocks waiting, {} lost",
        report.deepest,
        report.lost_blocks
    );
    say!(
        board,
        "memory: arena {} bytes, front end {} bytes, queue {} bytes, listener {} bytes, stack {} bytes; all statics {} bytes",
        ARENA_BYTES,
        FRONTEND_WORDS * size_of::<i32>(),
        size_of_val(&QUEUE) + size_of::<[[Frame; FRAMES]; 2]>(),
        size_of::<Listener<'_, '_>>(),
        stack::high_water(),
        stack::statics()
    );
}
