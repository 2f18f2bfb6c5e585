//! Blocks of sound from the thread that captures to the one that recognizes.
//!
//! ```text
//! Producer: [waiting ...] ─► spsc queue of blocks ─► Consumer
//!      ▲──────────────────── spsc queue of empty ones ◄──┘
//! ```
//!
//! Neither side ever waits for a lock, and once everything was used once, nothing is
//! allocated. A queue that only one side can take from cannot give up its oldest entry when
//! it is full. So the queue is short, the producer keeps what has no room there, and one rule
//! holds on both sides: a block after whose beginning more sound came than may wait is
//! dropped by whoever has it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use heapless::spsc::{self, Queue};

use crate::engine::Layout;

/// Places in a queue: two thirds of a second of an I2S microphone. More would only matter
/// for how fast one who was late catches up.
const PLACES: usize = 32;

/// Empty blocks that are kept.
const SPARE: usize = 2 * PLACES;

/// Should a wake-up ever get lost, this is what it costs.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// More than this is not waited for in one go.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A stretch of sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Whole interleaved frames of 24-bit samples.
    pub frames: Vec<i32>,
    /// How they come. An engine is for one layout: another needs another engine.
    pub layout: Layout,
    /// Wall-clock time of the last frame, milliseconds since 1970. Of a file that is read at
    /// full speed, its opening and the length of the sound since.
    pub time_ms: i64,
    /// Sound is missing before this block: about how long.
    pub missing: Option<Duration>,
    /// The length of all sound until the end of this block, microseconds.
    end_us: u64,
}

impl Block {
    fn new() -> Self {
        Self {
            frames: Vec::new(),
            layout: Layout {
                rate_hz: 0,
                channels: 0,
            },
            time_ms: 0,
            missing: None,
            end_us: 0,
        }
    }

    /// How many frames.
    pub fn len(&self) -> usize {
        self.frames.len() / self.layout.channels.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long it sounds.
    pub fn duration(&self) -> Duration {
        let rate_hz = u64::from(self.layout.rate_hz.max(1));
        Duration::from_micros(self.len() as u64 * 1_000_000 / rate_hz)
    }

    fn start_us(&self) -> u64 {
        self.end_us.saturating_sub(micros(self.duration()))
    }

    fn is_missing(&mut self, more: Option<Duration>) {
        if let Some(more) = more {
            self.missing = Some(self.missing.unwrap_or_default() + more);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    // 64 bits of microseconds are half a million years.
    duration.as_micros() as u64
}

/// What both sides know.
#[derive(Debug)]
struct Shared {
    /// The length of all sound so far.
    produced_us: AtomicU64,
    /// How much of it may wait.
    limit_us: u64,
    dropped_frames: AtomicU64,
    ended: AtomicBool,
    abandoned: AtomicBool,
    consumer: OnceLock<Thread>,
    producer: OnceLock<Thread>,
}

impl Shared {
    /// Whether a block is too old; if so, that is counted.
    fn drops(&self, block: &Block) -> bool {
        let since = self.produced_us.load(Ordering::Relaxed);
        let late = since.saturating_sub(block.start_us()) > self.limit_us;
        if late {
            let frames = block.len() as u64;
            self.dropped_frames.fetch_add(frames, Ordering::Relaxed);
        }
        late
    }
}

/// Both ends of a ring in which so much sound may wait; without a limit the producer waits.
pub fn ring(limit: Option<Duration>) -> (Producer, Consumer) {
    let (blocks, receiver) = queue().split();
    let (recycled, empties) = queue().split();
    let shared = Arc::new(Shared {
        produced_us: AtomicU64::new(0),
        limit_us: limit.map_or(u64::MAX, micros),
        dropped_frames: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
        consumer: OnceLock::new(),
        producer: OnceLock::new(),
    });
    let producer = Producer {
        blocks,
        empties,
        waiting: VecDeque::new(),
        spare: Vec::new(),
        missing: None,
        waits: limit.is_none(),
        shared: Arc::clone(&shared),
    };
    let consumer = Consumer {
        blocks: receiver,
        recycled,
        missing: None,
        shared,
    };
    (producer, consumer)
}

/// The halves of a queue borrow it, and they go to threads that no scope holds together: it
/// has to live for ever. It holds pointers only, 272 bytes, and new ones are made when the
/// configuration is read again, no more often. The sound itself is freed.
fn queue() -> &'static mut Queue<Box<Block>, PLACES> {
    Box::leak(Box::default())
}

/// The end of the thread that captures.
pub struct Producer {
    blocks: spsc::Producer<'static, Box<Block>>,
    empties: spsc::Consumer<'static, Box<Block>>,
    /// What has no room in the queue, oldest first.
    waiting: VecDeque<Box<Block>>,
    #[expect(clippy::vec_box, reason = "they are handed on in their boxes")]
    spare: Vec<Box<Block>>,
    /// The length of what was dropped here before the next block.
    missing: Option<Duration>,
    waits: bool,
    shared: Arc<Shared>,
}

impl Producer {
    /// An empty block, used before if possible.
    pub fn empty(&mut self) -> Box<Block> {
        let used = self.empties.dequeue().or_else(|| self.spare.pop());
        let mut block = used.unwrap_or_else(|| Box::new(Block::new()));
        block.frames.clear();
        block.missing = None;
        block
    }

    /// Takes a block back.
    pub fn spare(&mut self, block: Box<Block>) {
        if self.spare.len() < SPARE {
            self.spare.push(block);
        }
    }

    /// Hands a block on. In a ring without a limit this waits until there is room, or until
    /// `stop` says so; the block is lost then.
    pub fn push(&mut self, mut block: Box<Block>, stop: &AtomicBool) {
        let duration = micros(block.duration());
        block.end_us = self
            .shared
            .produced_us
            .fetch_add(duration, Ordering::Relaxed)
            + duration;
        self.waiting.push_back(block);
        self.pump();
        while self.waits && !self.waiting.is_empty() && self.goes_on(stop) {
            self.sleep();
        }
    }

    /// Moves what waits into the queue, as far as there is room.
    pub fn pump(&mut self) {
        while let Some(mut block) = self.waiting.pop_front() {
            block.is_missing(self.missing.take());
            if self.shared.drops(&block) {
                self.missing = Some(block.missing.unwrap_or_default() + block.duration());
                self.spare(block);
            } else if let Err(block) = self.blocks.enqueue(block) {
                self.waiting.push_front(block);
                break;
            }
        }
        if let Some(consumer) = self.shared.consumer.get() {
            consumer.unpark();
        }
    }

    /// Waits until all is in the queue, or until `stop` says so.
    pub fn flush(&mut self, stop: &AtomicBool) {
        self.pump();
        while !self.waiting.is_empty() && self.goes_on(stop) {
            self.sleep();
        }
    }

    fn goes_on(&self, stop: &AtomicBool) -> bool {
        !stop.load(Ordering::Relaxed) && !self.is_abandoned()
    }

    fn sleep(&mut self) {
        self.shared.producer.get_or_init(thread::current);
        thread::park_timeout(LONGEST_SLEEP);
        self.pump();
    }

    /// Frames dropped so far, on either side.
    pub fn dropped_frames(&self) -> u64 {
        self.shared.dropped_frames.load(Ordering::Relaxed)
    }

    /// Whether nobody listens any more.
    pub fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Relaxed)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        while self.empties.dequeue().is_some() {}
        if let Some(consumer) = self.shared.consumer.get() {
            consumer.unpark();
        }
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// Sound.
    Block(Box<Block>),
    /// Not yet.
    Nothing,
    /// There will be none: the file is over, it cannot be used, or capture was stopped. The
    /// board's `capture.problem` says whether something was wrong.
    Ended,
}

/// The end of whoever recognizes: one thread.
pub struct Consumer {
    blocks: spsc::Consumer<'static, Box<Block>>,
    recycled: spsc::Producer<'static, Box<Block>>,
    /// The length of what was dropped here before the next block.
    missing: Option<Duration>,
    shared: Arc<Shared>,
}

impl Consumer {
    /// The next block, waited for as long as that.
    pub fn next(&mut self, timeout: Duration) -> Next {
        self.shared.consumer.get_or_init(thread::current);
        let until = Instant::now() + timeout.min(LONGEST_WAIT);
        loop {
            // Before the queue is looked at: the last block comes before the end.
            let ended = self.shared.ended.load(Ordering::Acquire);
            match self.take() {
                Some(block) => return Next::Block(block),
                None if ended => return Next::Ended,
                None => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            thread::park_timeout(left.min(LONGEST_SLEEP));
        }
    }

    fn take(&mut self) -> Option<Box<Block>> {
        while let Some(mut block) = self.blocks.dequeue() {
            if let Some(producer) = self.shared.producer.get() {
                producer.unpark();
            }
            block.is_missing(self.missing.take());
            if !self.shared.drops(&block) {
                return Some(block);
            }
            self.missing = Some(block.missing.unwrap_or_default() + block.duration());
            self.recycle(block);
        }
        None
    }

    /// Gives a block back, to be filled again.
    pub fn recycle(&mut self, block: Box<Block>) {
        if !self.shared.ended.load(Ordering::Acquire) {
            // With no room for it, it is freed.
            let _ = self.recycled.enqueue(block);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // The queue stays; what is in it must not. Where the other side is at work in this
        // very moment it may leave one more block, 8 KB, at the end of a capture.
        self.shared.abandoned.store(true, Ordering::Relaxed);
        while self.blocks.dequeue().is_some() {}
        if let Some(producer) = self.shared.producer.get() {
            producer.unpark();
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
