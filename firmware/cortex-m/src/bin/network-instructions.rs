//! Instructions of one inference of the benchmark networks, in all, by stage and by layer.
//!
//! ```text
//! backend NAME
//! network NETWORK: INSTRUCTIONS             a whole clip, a row at a time
//! arena NETWORK: BYTES
//! stripe NETWORK ROWS: INSTRUCTIONS, BYTES  the same clip, more rows at a time
//! stage NETWORK STAGE INSTRUCTIONS
//! layer NETWORK NUMBER STAGE INSTRUCTIONS   of the block with this number, 0 where there is none
//! ```
//!
//! The logits are compared with those of the scalar kernels, and the program fails where they
//! differ. Reading the timer costs a little, so that the layers are together a little more than the clip.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::cell::RefCell;
use core::hint::black_box;

use cortex_m::interrupt::{self, Mutex};
use cortex_m_semihosting::hprintln;
use sori_mcu::{Counter, exit};
use sori_nn::memory::LayerKind;
use sori_nn::{Backend, Network, Prepared, Runtime};
use sori_package::{Aligned, Package};
use static_cell::ConstStaticCell;

macro_rules! network {
    ($name:literal) => {{
        const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".sori"));
        static PACKAGE: Aligned<[u8; BYTES.len()]> = Aligned(*include_bytes!(concat!(
            env!("OUT_DIR"),
            "/",
            $name,
            ".sori"
        )));
        ($name, &PACKAGE.0[..])
    }};
}

const ARENA_BYTES: usize = 512 * 1024;
static ARENA: ConstStaticCell<Aligned<[u8; ARENA_BYTES]>> =
    ConstStaticCell::new(Aligned([0; ARENA_BYTES]));

const CLASSES: usize = 10;

/// 96 rows of 96 pixels of 3 channels.
const CLIP_BYTES: usize = 96 * 96 * 3;
static CLIP: ConstStaticCell<[i8; CLIP_BYTES]> = ConstStaticCell::new([0; CLIP_BYTES]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut counter = Counter::start();
    let (arena, clip) = (&mut ARENA.take().0, CLIP.take());
    let mut seed = 1u32;
    for value in clip.iter_mut() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (seed >> 24) as i8;
    }
    let backend = Backend::detect();
    hprintln!("backend {}", backend);
    for (name, bytes) in [network!("a"), network!("b")] {
        let package = Package::parse(bytes).expect("build.rs made it");
        let prepared = Prepared::new(&package, backend, &mut [])
            .expect("a microcontroller's backend reads the package in place");
        let clip = &mut clip[..package.nominal_rows() * package.input().row_len()];
        counter = measure(name, &prepared, arena, clip, counter);
        rows(name, &prepared, arena, clip, &mut counter);
    }
    exit(true)
}

fn measure(
    name: &str,
    prepared: &Prepared<'_>,
    arena: &mut [u8],
    clip: &[i8],
    mut counter: Counter,
) -> Counter {
    let scalar = Network::new(prepared.package(), arena, 1);
    let mut scalar = scalar.expect("the arena is large enough");
    let expected = scalar.clip(clip).expect("the clip is long enough");
    let expected = <[i8; CLASSES]>::try_from(expected).expect("both networks have so many");
    for stripe in [1, 4, 16] {
        let bytes = Network::arena_bytes(prepared, stripe);
        let mut network = Network::new(prepared, arena, stripe).expect("the arena is large enough");
        counter.lap();
        let logits = network.clip(black_box(clip));
        let instructions = counter.lap();
        if logits != Some(&expected[..]) {
            hprintln!("network {}: other logits than the scalar kernels'", name);
            exit(false)
        }
        match stripe {
            1 => {
                hprintln!("network {}: {}", name, instructions);
                hprintln!("arena {}: {}", name, bytes);
            }
            _ => hprintln!("stripe {} {}: {}, {}", name, stripe, instructions, bytes),
        }
    }

    let layers = Layers(Mutex::new(RefCell::new(Totals {
        counter,
        layer: None,
        spent: heapless::Vec::new(),
    })));
    let mut network =
        Network::with_runtime(prepared, arena, 1, layers).expect("the arena is large enough");
    black_box(network.clip(black_box(clip)));
    network.runtime().enter(LayerKind::Classifier);
    interrupt::free(|token| {
        let totals = network.runtime().0.borrow(token).borrow();
        for stage in LayerKind::STAGES {
            let of_stage = totals
                .spent
                .iter()
                .filter(|(kind, _)| kind.stage() == stage);
            let instructions: u64 = of_stage.map(|&(_, spent)| spent).sum();
            hprintln!("stage {} {} {}", name, stage, instructions);
        }
        for &(layer, instructions) in &totals.spent {
            let number = match layer {
                LayerKind::Expansion(n) | LayerKind::Depthwise(n) | LayerKind::Projection(n) => n,
                LayerKind::Stem | LayerKind::Head | LayerKind::Classifier => 0,
            };
            hprintln!(
                "layer {} {} {} {}",
                name,
                number,
                layer.stage(),
                instructions
            );
        }
        totals.counter.clone()
    })
}

/// Rows of a clip, at most.
const ROWS: usize = 128;

/// What a kernel that looked at its values would treat differently.
const CONTENTS: [fn(usize) -> i8; 5] = [
    |_| 0,
    |_| i8::MIN,
    |_| i8::MAX,
    |n| [i8::MIN, i8::MAX][n % 2],
    |n| (n * 31 + n / 7) as i8,
];

/// What a row takes, wherever in the clip it stands and whatever is in it. Fails if a row takes more of
/// one content than of another.
fn rows(
    name: &str,
    prepared: &Prepared<'_>,
    arena: &mut [u8],
    clip: &mut [i8],
    counter: &mut Counter,
) {
    let mut first = [0; ROWS];
    let mut most = 0;
    for (n, content) in CONTENTS.into_iter().enumerate() {
        for (at, value) in clip.iter_mut().enumerate() {
            *value = content(at);
        }
        let mut network = Network::new(prepared, arena, 1).expect("the arena is large enough");
        let rows = clip.chunks_exact(prepared.package().input().row_len());
        for (row, expected) in rows.zip(&mut first) {
            counter.lap();
            network.push(black_box(row), &mut |logits| {
                black_box(logits);
            });
            let instructions = counter.lap();
            if n == 0 {
                *expected = instructions;
            }
            if instructions.abs_diff(*expected) > Counter::INSTRUCTIONS_PER_TICK {
                hprintln!("row of {}: {} or {}", name, expected, instructions);
                exit(false)
            }
            most = most.max(instructions);
        }
    }
    hprintln!(
        "row of {} takes {} instructions at most, whatever is in it",
        name,
        most
    );
}

/// Instructions between calls, for the layer that was entered before.
struct Layers(Mutex<RefCell<Totals>>);

struct Totals {
    counter: Counter,
    layer: Option<LayerKind>,
    spent: heapless::Vec<(LayerKind, u64), 64>,
}

impl Runtime for Layers {
    fn enter(&self, layer: LayerKind) {
        interrupt::free(|token| {
            let totals = &mut *self.0.borrow(token).borrow_mut();
            let instructions = totals.counter.lap();
            if let Some(previous) = totals.layer.replace(layer) {
                match totals.spent.iter_mut().find(|(kind, _)| *kind == previous) {
                    Some((_, spent)) => *spent += instructions,
                    None => totals
                        .spent
                        .push((previous, instructions))
                        .expect("these networks have fewer layers"),
                }
            }
            // What was spent on finding the place is nobody's.
            totals.counter.lap();
        });
    }
}
