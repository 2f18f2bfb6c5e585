//! How deep the stack has been: its memory is painted, and what is no longer paint was used.

use core::ptr;

const PAINT: u32 = 0x5041_494e;

/// Words left alone below the stack pointer, for the frame of [`paint`] itself.
const MARGIN: usize = 64;

unsafe extern "C" {
    /// First word of the statics (cortex-m-rt).
    static __sdata: u32;
    /// First word after the statics, where the stack would end (cortex-m-rt).
    static __sheap: u32;
    /// Where the stack begins, going down (cortex-m-rt).
    static _stack_start: u32;
}

/// Paints what lies below the caller's frame.
pub fn paint() {
    let end = cortex_m::register::msp::read() as usize / size_of::<u32>() - MARGIN;
    let mut word = (&raw const __sheap).cast_mut();
    while (word as usize) < end * size_of::<u32>() {
        // SAFETY: the linker gives everything from __sheap to the stack pointer to the
        // stack, nobody uses it as a heap, and the frames in use lie above `end`.
        // Interrupts, which could push there, are not enabled.
        word = unsafe {
            ptr::write_volatile(word, PAINT);
            word.add(1)
        };
    }
}

/// Bytes of everything static in RAM, padding included.
pub fn statics() -> usize {
    (&raw const __sheap) as usize - (&raw const __sdata) as usize
}

/// Most bytes of stack that were in use since [`paint`].
pub fn high_water() -> usize {
    let top = &raw const _stack_start;
    let mut word = &raw const __sheap;
    // SAFETY: reads the stack's own memory, from its far end up to its beginning at most.
    while word < top && unsafe { ptr::read_volatile(word) } == PAINT {
        word = word.wrapping_add(1);
    }
    top as usize - word as usize
}
