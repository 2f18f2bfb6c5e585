//! What the programs and the benchmarks share: marks between which instructions are counted, and
//! a signal.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;

/// Runs `work` where its instructions are counted: between writes to descriptors 1001 and 1002,
/// and within a function called `counted`.
pub fn between_marks(work: &mut dyn FnMut()) {
    mark(1001);
    counted(work);
    mark(1002);
}

#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    // Without it the call above could become a jump, which leaves this function.
    black_box(());
}

/// A write to a descriptor that is not open: nothing but a mark in the stream of system calls.
fn mark(descriptor: i32) {
    // SAFETY: the file is never dropped, so a descriptor that is not ours is not closed.
    let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
    // It fails, as it should.
    let _ = file.write(b".");
}

/// Noise, which no branch can predict.
pub fn noise(samples: u32) -> Vec<i32> {
    let mut state = 1u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as i32 >> 9
        })
        .collect()
}
