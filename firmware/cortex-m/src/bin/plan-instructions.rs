//! What memory costs: benchmark network `a`, a row at a time, at full speed and by memory plans.
//!
//! ```text
//! plan NAME: arena BYTES, INSTRUCTIONS instructions, PERCENT of full speed
//! ```
//!
//! Every plan must give the same logits and leave the memory around its arena alone, with not a
//! byte less than its package's prologue states. Fails above the limits that `build.rs` planned for.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;

use cortex_m_semihosting::hprintln;
use sori_mcu::{Counter, exit, stack};
use sori_nn::{Backend, Network, Prepared};
use sori_package::{Aligned, Package, Prologue};
use static_cell::ConstStaticCell;

/// A package in flash, and what its prologue states: read at compile time, as firmware does.
macro_rules! package {
    ($name:literal) => {{
        const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".sori"));
        const SIZES: Prologue = match Prologue::read(BYTES) {
            Ok(sizes) => sizes,
            Err(_) => panic!("build.rs made it"),
        };
        static PACKAGE: Aligned<[u8; BYTES.len()]> = Aligned(*include_bytes!(concat!(
            env!("OUT_DIR"),
            "/",
            $name,
            ".sori"
        )));
        ($name, &PACKAGE.0[..], SIZES.arena_bytes(1))
    }};
}

/// The most that each may take; full speed first.
const ARENA_LIMITS: [usize; 3] = [80 * 1024, 48 * 1024, 16 * 1024];

/// Around the arena.
const CANARY: u8 = 0xa5;
const MARGIN: usize = 64;
static MEMORY: ConstStaticCell<Aligned<[u8; ARENA_LIMITS[0] + 2 * MARGIN]>> =
    ConstStaticCell::new(Aligned([0; ARENA_LIMITS[0] + 2 * MARGIN]));

/// 96 rows of 128 bands.
static CLIP: ConstStaticCell<[i8; 96 * 128]> = ConstStaticCell::new([0; 96 * 128]);

static CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

#[cortex_m_rt::entry]
fn main() -> ! {
    stack::paint();
    let mut counter = Counter::start();
    let (memory, clip) = (&mut MEMORY.take().0, CLIP.take());
    let mut seed = 1u32;
    for value in clip.iter_mut() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (seed >> 24) as i8;
    }
    let backend = Backend::detect();
    hprintln!("backend {}", backend);
    let packages = [package!("a"), package!("a-48k"), package!("a-least")];
    let mut full_speed = None;
    for ((name, bytes, arena_bytes), limit) in packages.into_iter().zip(ARENA_LIMITS) {
        let Ok(package) = Package::parse(bytes) else {
            hprintln!("{}: not a package", name);
            exit(false)
        };
        let Ok(prepared) = Prepared::new(&package, backend, &mut []) else {
            hprintln!("{}: the backend does not read the package in place", name);
            exit(false)
        };
        let needed = Network::arena_bytes(&prepared, 1);
        if needed > arena_bytes || needed > limit {
            hprintln!(
                "{}: needs {} bytes, states {}, and may take {}",
                name,
                needed,
                arena_bytes,
                limit
            );
            exit(false)
        }
        memory.fill(CANARY);
        let arena = &mut memory[MARGIN..][..needed];
        if Network::new(&prepared, &mut arena[..needed - 1], 1).is_ok() {
            hprintln!("{}: a byte less would do", name);
            exit(false)
        }
        let Ok(mut network) = Network::new(&prepared, arena, 1) else {
            hprintln!("{}: {} bytes do not do", name, needed);
            exit(false)
        };
        let mut digest = CRC32.digest();
        let mut on_logits =
            |logits: &[i8]| logits.iter().for_each(|&q| digest.update(&q.to_le_bytes()));
        counter.lap();
        network.push(black_box(clip), &mut on_logits);
        network.flush(&mut on_logits);
        let instructions = counter.lap();
        let crc = digest.finalize();
        let (before, after) = memory.split_at(MARGIN);
        let mut around = before.iter().chain(&after[needed..]);
        if around.any(|&byte| byte != CANARY) {
            hprintln!("{}: wrote beside its arena", name);
            exit(false)
        }
        let (fastest, expected) = *full_speed.get_or_insert((instructions, crc));
        if crc != expected {
            hprintln!("{}: other logits than at full speed", name);
            exit(false)
        }
        hprintln!(
            "plan {}: arena {} bytes, {} instructions, {}.{} % of full speed",
            name,
            needed,
            instructions,
            instructions * 100 / fastest,
            instructions * 1000 / fastest % 10
        );
    }
    hprintln!("stack {} bytes", stack::high_water());
    exit(true)
}
