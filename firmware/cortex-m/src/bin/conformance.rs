//! The suite of every target, on this one.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use cortex_m_semihosting::hprintln;
use embedded_alloc::LlffHeap;
use sori_mcu::exit;
use static_cell::ConstStaticCell;

const HEAP_BYTES: usize = 2 << 20;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();
static HEAP_MEMORY: ConstStaticCell<[MaybeUninit<u8>; HEAP_BYTES]> =
    ConstStaticCell::new([MaybeUninit::uninit(); HEAP_BYTES]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let memory = HEAP_MEMORY.take();
    // SAFETY: called once, before the first allocation; the cell gave the memory to
    // nobody else and never will.
    unsafe { HEAP.init(memory.as_mut_ptr() as usize, HEAP_BYTES) };
    let summary = sori_conformance::check(&mut |outcome| {
        hprintln!(
            "{} {:08x}{}",
            outcome.name,
            outcome.crc,
            if outcome.is_golden() { "" } else { " DIFFERS" }
        );
        if !outcome.is_golden() {
            hprintln!("expected {:08x?}", outcome.expected);
            exit(false);
        }
    });
    hprintln!("{} cases, {} missing", summary.cases, summary.missing);
    exit(summary.is_golden())
}
