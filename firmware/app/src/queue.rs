//! The queue between the interrupt that completes a half and the program that listens.

use core::cell::RefCell;

use critical_section::Mutex;

use crate::Frame;
use crate::frame::Side;

/// An I2S receiver behind a DMA double buffer: hardware fills one half while the other is
/// processed.
pub trait I2sSource<const FRAMES: usize> {
    /// Frames per second.
    const RATE_HZ: u32;

    /// Time to ignore after power-up: an INMP441's first 85 ms
    /// and its DC offset settling.
    const SETTLING_MS: u32;

    /// Starts the receiver. Each half that is complete goes to `to`, from an interrupt,
    /// before the hardware comes back to it.
    fn start(self, buffer: &'static mut [[Frame; FRAMES]; 2], to: &'static dyn HalfComplete);
}

/// Takes the halves of a double buffer.
pub trait HalfComplete: Sync {
    /// The hardware has filled this half and is busy with the other.
    fn half_complete(&self, half: &[Frame]);

    /// Nothing will follow. A recording ends; a microphone does not.
    fn end(&self);
}

/// Audio waiting for the listener: `BLOCKS` halves, as mono samples.
///
/// A half must be taken within its own duration, but an output row of a network takes many
/// times that; the queue absorbs the difference. When it is full the oldest block is dropped and
/// counted, which bounds the latency.
#[derive(Debug)]
pub struct Queue<const FRAMES: usize, const BLOCKS: usize>(Mutex<RefCell<State<FRAMES, BLOCKS>>>);

#[derive(Debug)]
struct State<const FRAMES: usize, const BLOCKS: usize> {
    blocks: heapless::Deque<heapless::Vec<i32, FRAMES>, BLOCKS>,
    side: Side,
    lost: u32,
    deepest: usize,
    is_over: bool,
}

/// What [`Queue::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A block.
    Block,
    /// Nothing yet: sleep until the next interrupt.
    Nothing,
    /// Nothing, and nothing will follow.
    End,
}

impl<const FRAMES: usize, const BLOCKS: usize> Queue<FRAMES, BLOCKS> {
    /// An empty queue, for a `static`.
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(State {
            blocks: heapless::Deque::new(),
            side: Side::LEFT,
            lost: 0,
            deepest: 0,
            is_over: false,
        })))
    }

    /// Moves the oldest block to `into`.
    pub fn take(&self, into: &mut heapless::Vec<i32, FRAMES>) -> Taken {
        self.with(|state| match state.blocks.pop_front() {
            Some(block) => {
                *into = block;
                Taken::Block
            }
            None if state.is_over => Taken::End,
            None => Taken::Nothing,
        })
    }

    /// Whether [`take`](Self::take) would find nothing yet.
    pub fn is_idle(&self) -> bool {
        self.with(|state| state.blocks.is_empty() && !state.is_over)
    }

    /// Blocks that were dropped because the listener was late.
    pub fn lost(&self) -> u32 {
        self.with(|state| state.lost)
    }

    /// The most blocks that ever waited.
    pub fn deepest(&self) -> usize {
        self.with(|state| state.deepest)
    }

    fn with<R>(&self, run: impl FnOnce(&mut State<FRAMES, BLOCKS>) -> R) -> R {
        critical_section::with(|token| run(&mut self.0.borrow_ref_mut(token)))
    }
}

impl<const FRAMES: usize, const BLOCKS: usize> Default for Queue<FRAMES, BLOCKS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const FRAMES: usize, const BLOCKS: usize> HalfComplete for Queue<FRAMES, BLOCKS> {
    fn half_complete(&self, half: &[Frame]) {
        self.with(|state| {
            state.side.choose(half);
            if state.blocks.is_full() {
                state.blocks.pop_front();
                state.lost += 1;
            }
            let side = state.side;
            let block = half.iter().take(FRAMES).map(|&frame| side.sample(frame));
            // There is room: it was made above.
            let _ = state.blocks.push_back(block.collect());
            state.deepest = state.deepest.max(state.blocks.len());
        });
    }

    fn end(&self) {
        self.with(|state| state.is_over = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(first: i32) -> [Frame; 2] {
        [first, first + 1].map(|sample| [(sample << 8).cast_unsigned(), 0])
    }

    #[test]
    fn blocks_come_out_as_they_went_in_and_then_the_end() {
        let queue = Queue::<2, 3>::new();
        let mut block = heapless::Vec::new();
        assert_eq!(queue.take(&mut block), Taken::Nothing);
        queue.half_complete(&half(10));
        queue.half_complete(&half(20)[..1]);
        queue.end();
        assert_eq!(queue.take(&mut block), Taken::Block);
        assert_eq!(block, [10, 11]);
        assert_eq!(queue.take(&mut block), Taken::Block);
        assert_eq!(block, [20]);
        assert_eq!(queue.take(&mut block), Taken::End);
        assert_eq!((queue.lost(), queue.deepest()), (0, 2));
    }

    #[test]
    fn a_late_listener_loses_the_oldest_and_the_loss_is_counted() {
        let queue = Queue::<2, 3>::new();
        for first in [10, 20, 30, 40, 50] {
            queue.half_complete(&half(first));
        }
        let mut block = heapless::Vec::new();
        for first in [30, 40, 50] {
            assert_eq!(queue.take(&mut block), Taken::Block);
            assert_eq!(block, [first, first + 1]);
        }
        assert_eq!(queue.take(&mut block), Taken::Nothing);
        assert_eq!((queue.lost(), queue.deepest()), (2, 3));
    }
}
