//! The listener: proves that it computes the package's bits, then streams a clip through
//! the chain in blocks as a DMA controller would deliver them, and says what it hears.
//!
//! Everything is sized at compile time from the package; there is no heap.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use cortex_m_semihosting::hprintln;
use sori_dsp::FrontEnd;
use sori_listener::{ClipSummary, Event, Listener, Memory, Verdict, verify};
use sori_mcu::{Counter, exit, stack};
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

/// Half of a DMA buffer: 10 ms at 16 kHz.
const BLOCK: usize = 160;

static CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

#[cortex_m_rt::entry]
fn main() -> ! {
    stack::paint();
    let mut counter = Counter::start();
    let (arena, frontend) = (&mut ARENA.take().0, FRONTEND.take());
    let package = match Package::parse(&GENRE.0) {
        Ok(package) => package,
        Err(error) => {
            hprintln!("genre.sori: {}", error);
            exit(false)
        }
    };
    let parsing = counter.lap();
    hprintln!(
        "package: {}, {} bytes, checked in {} instructions",
        package.provenance().name,
        GENRE_BYTES.len(),
        parsing
    );

    let memory = Memory {
        frontend: &mut *frontend,
        arena: &mut *arena,
    };
    match verify(&package, memory, STRIPE) {
        Ok(verified) => hprintln!(
            "golden vectors: {} feature rows and {} output rows, equal",
            verified.feature_rows,
            verified.output_rows
        ),
        Err(mismatch) => {
            hprintln!("golden vectors: {}", mismatch);
            exit(false)
        }
    }

    let frontend_instructions = front_end_alone(&package, frontend, &mut counter);
    let memory = Memory { frontend, arena };
    listen(&package, memory, &mut counter, frontend_instructions);
    hprintln!(
        "memory: arena {} bytes, front end {} bytes, listener {} bytes, stack {} bytes",
        ARENA_BYTES,
        FRONTEND_WORDS * size_of::<i32>(),
        size_of::<Listener<'_, '_>>(),
        stack::high_water()
    );
    exit(true)
}

/// The clip, block by block, in 24-bit scale.
fn blocks() -> impl Iterator<Item = ([i32; BLOCK], usize)> {
    CLIP.as_chunks::<2>().0.chunks(BLOCK).map(|samples| {
        let mut block = [0; BLOCK];
        for (to, from) in block.iter_mut().zip(samples) {
            *to = sori_dsp::from_i16(i16::from_le_bytes(*from));
        }
        (block, samples.len())
    })
}

/// Instructions that the front end spends on the clip.
fn front_end_alone(package: &Package<'_>, workspace: &mut [i32], counter: &mut Counter) -> u64 {
    let Some(mel) = package.mel() else {
        hprintln!("the package takes no audio");
        exit(false)
    };
    let Ok(mut frontend) = FrontEnd::new(&mel, workspace) else {
        hprintln!("the prologue states too small a front-end workspace");
        exit(false)
    };
    let (mut instructions, mut rows) = (0, 0);
    let mut frame = (0, 0);
    for (block, len) in blocks() {
        let rows_before = rows;
        counter.lap();
        frontend.push(&block[..len], &mut |_| rows += 1);
        let spent = counter.lap();
        instructions += spent;
        if rows > rows_before {
            frame = (frame.0 + spent, frame.1 + 1);
        }
    }
    hprintln!(
        "front end: {} rows, {} instructions a row, of which {} in the block that completes it",
        rows,
        instructions / rows,
        frame.0 / frame.1
    );
    instructions
}

fn listen(
    package: &Package<'_>,
    memory: Memory<'_>,
    counter: &mut Counter,
    frontend_instructions: u64,
) {
    let rate_hz = package.mel().map_or(0, |mel| mel.sample_rate_hz);
    let mut listener = match Listener::new(package, memory, rate_hz) {
        Ok(listener) => listener,
        Err(error) => {
            hprintln!("{}", error);
            exit(false)
        }
    };
    let label = |verdict| match verdict {
        Verdict::Silence => "silence",
        Verdict::Unknown => "unknown",
        Verdict::Label(label) => package.labels().nth(label.into()).unwrap_or("no label"),
    };
    let mut summary = ClipSummary::new(package);
    let (mut digest, mut outputs) = (CRC32.digest(), 0);
    let mut on_event = |event: Event<'_>| {
        summary.observe(&event);
        if let Event::Output { logits, .. } = event {
            outputs += 1;
            logits.iter().for_each(|&q| digest.update(&q.to_le_bytes()));
        }
    };
    let (mut instructions, mut longest) = (0, 0);
    let mut said = listener.decision().verdict;
    for (block, len) in blocks() {
        counter.lap();
        listener.push(&block[..len], &mut on_event);
        let spent = counter.lap();
        instructions += spent;
        longest = spent.max(longest);
        // Printing takes its time, and is not part of listening.
        let decision = listener.decision();
        if decision.verdict != said {
            said = decision.verdict;
            hprintln!("{:5} ms: {}", decision.time_ms, label(said));
        }
    }
    listener.finish(&mut on_event);

    let clip = summary.clip();
    let best = clip
        .best
        .map_or(0, |best| clip.probabilities_q15[usize::from(best)]);
    let samples = CLIP.len() / size_of::<i16>();
    hprintln!(
        "clip: {} samples, {} feature rows, {} output rows",
        samples,
        clip.rows,
        outputs
    );
    hprintln!("logits: crc32 {:08x}", digest.finalize());
    hprintln!(
        "decision: {}, largest probability {}/32768",
        label(clip.verdict),
        best
    );
    let per_second = |instructions: u64| instructions * u64::from(rate_hz) / samples as u64;
    hprintln!(
        "instructions per second of audio: {} in all, {} front end, {} network and decision; at most {} in a block of {} ms",
        per_second(instructions),
        per_second(frontend_instructions),
        per_second(instructions - frontend_instructions),
        longest,
        BLOCK * 1000 / rate_hz as usize
    );
}
