//! Capture under every fault, by a source that does as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::scripted::{Scripted, Step};
use super::{Block, Kind, Next, Settings, start};
use crate::board::{Board, Capture, State};
use crate::engine::Layout;

const LAYOUT: Layout = Layout {
    rate_hz: 1000,
    channels: 2,
};
const LONG: Duration = Duration::from_secs(20);

/// What came out, and what the board said in the end.
fn captured(script: Scripted, settle_ms: u32) -> (Vec<Block>, Capture) {
    let (board, _commands) = Board::new();
    let stop = Arc::new(AtomicBool::new(false));
    let settings = Settings {
        settle_ms,
        buffer_s: 4,
    };
    let (thread, mut consumer) =
        start(Box::new(script), settings, Arc::clone(&board), stop).expect("a thread");
    let mut blocks = Vec::new();
    loop {
        match consumer.next(LONG) {
            Next::Block(block) => blocks.push(*block),
            Next::Nothing => panic!("nothing for {LONG:?} after {blocks:?}"),
            Next::Ended => break,
        }
    }
    thread.join().expect("capture never panics");
    (blocks, board.status().capture)
}

/// First frames of the blocks, and whether something is missing before them.
fn firsts(blocks: &[Block]) -> Vec<(i32, bool)> {
    let first = |block: &Block| (block.frames[0], block.missing.is_some());
    blocks.iter().map(first).collect()
}

#[test]
fn an_overrun_and_a_sleep_are_counted_and_the_device_is_read_on() {
    use Step::{Fail, Frames, Open};
    let (blocks, capture) = captured(
        Scripted::new([
            Open(LAYOUT),
            Frames(10),
            Fail(Kind::Overrun),
            Frames(10),
            Frames(10),
            Fail(Kind::Suspended),
            Fail(Kind::Overrun),
            Frames(10),
        ]),
        0,
    );
    assert_eq!(
        firsts(&blocks),
        [(0, false), (10, true), (20, false), (30, true)]
    );
    assert_eq!((capture.overruns, capture.suspends), (2, 1));
    assert_eq!((capture.frames, capture.reopened), (40, 0));
    assert_eq!(capture.state, State::Ended);
    assert_eq!((capture.rate_hz, capture.channels), (1000, 2));
}

#[test]
fn a_device_that_goes_is_opened_until_it_is_back_and_the_gap_is_told() {
    use Step::{Fail, Frames, Open};
    let started = Instant::now();
    let other = Layout {
        rate_hz: 2000,
        channels: 1,
    };
    let (blocks, capture) = captured(
        Scripted::new([
            Open(LAYOUT),
            Frames(10),
            Fail(Kind::Gone),
            Fail(Kind::Absent),
            // It came back as something else.
            Open(other),
            Frames(10),
        ]),
        0,
    );
    assert_eq!(firsts(&blocks), [(0, false), (10, true)]);
    assert_eq!((blocks[0].layout, blocks[1].layout), (LAYOUT, other));
    assert_eq!((capture.reopened, capture.channels), (1, 1));
    // 0.25 and 0.5 seconds of back-off were not heard.
    let missing = blocks[1].missing.unwrap_or_default();
    assert!(missing >= Duration::from_millis(740), "{missing:?}");
    assert!(missing <= started.elapsed(), "{missing:?}");
}

#[test]
fn a_device_that_is_busy_at_first_is_taken_when_it_is_free() {
    use Step::{Fail, Frames, Open};
    let (blocks, capture) = captured(
        Scripted::new([Fail(Kind::Busy), Fail(Kind::Busy), Open(LAYOUT), Frames(3)]),
        0,
    );
    // Nothing was heard before, so nothing is missing.
    assert_eq!(firsts(&blocks), [(0, false)]);
    assert_eq!((capture.reopened, capture.problem), (0, None));
}

#[test]
fn overruns_without_end_are_no_busy_loop() {
    use Step::{Fail, Frames, Open};
    let mut steps = vec![Open(LAYOUT), Frames(1)];
    steps.extend(vec![Fail(Kind::Overrun); 9]);
    steps.extend([Open(LAYOUT), Frames(1)]);
    let (blocks, capture) = captured(Scripted::new(steps), 0);
    assert_eq!(firsts(&blocks), [(0, false), (1, true)]);
    assert_eq!((capture.overruns, capture.reopened), (9, 1));
}

#[test]
fn short_reads_and_none_lose_nothing() {
    use Step::{Frames, Nothing, Open};
    let (blocks, capture) = captured(
        Scripted::new([
            Open(LAYOUT),
            Frames(1),
            Nothing,
            Frames(7),
            Nothing,
            Frames(2),
        ]),
        0,
    );
    let heard: Vec<i32> = blocks.iter().flat_map(|b| b.frames.clone()).collect();
    let expected: Vec<i32> = (0..10).flat_map(|n| [n, n]).collect();
    assert_eq!((heard, capture.frames), (expected, 10));
    assert!(blocks.iter().all(|block| block.missing.is_none()));
}

#[test]
fn what_comes_first_after_every_opening_is_not_heard() {
    use Step::{Fail, Frames, Open};
    let steps = [
        Open(LAYOUT),
        Frames(200),
        Frames(200),
        Fail(Kind::Gone),
        Open(LAYOUT),
        Frames(301),
        // An overrun is no opening.
        Fail(Kind::Overrun),
        Frames(5),
    ];
    let (blocks, _) = captured(Scripted::new(steps.clone()), 300);
    let starts: Vec<_> = blocks.iter().map(|b| (b.frames[0], b.len())).collect();
    assert_eq!(starts, [(300, 100), (700, 1), (701, 5)]);
    // A file has no such moment.
    let mut file = Scripted::new(steps[..3].to_vec());
    file.wakes_up = false;
    assert_eq!(firsts(&captured(file, 300).0), [(0, false), (200, false)]);
}

#[test]
fn a_source_that_will_never_do_ends_capture_with_its_problem() {
    let (blocks, capture) = captured(Scripted::new([Step::Fail(Kind::Unusable)]), 0);
    assert_eq!(blocks, []);
    assert_eq!(capture.state, State::NoMicrophone);
    assert_eq!(capture.problem, Some("Unusable: as told".into()));
    assert_eq!(capture.device, "script");
}

#[test]
fn one_that_can_wait_waits_and_its_time_is_that_of_its_sound() {
    let mut steps = vec![Step::Open(LAYOUT)];
    steps.extend(vec![Step::Frames(1000); 200]);
    let mut script = Scripted::new(steps);
    (script.waits, script.wakes_up) = (true, false);
    let (blocks, capture) = captured(script, 300);
    assert_eq!((blocks.len(), capture.dropped_frames), (200, 0));
    let apart = blocks.windows(2).map(|b| b[1].time_ms - b[0].time_ms);
    assert!(apart.into_iter().all(|apart| apart == 1000));
}

/// The board and a microphone that is away for as long as nobody stops it.
#[test]
fn while_there_is_no_sound_the_board_says_why_and_stopping_takes_no_time() {
    let (board, _commands) = Board::new();
    let stop = Arc::new(AtomicBool::new(false));
    let steps = [
        Step::Open(LAYOUT),
        Step::Frames(10),
        Step::Fail(Kind::Quiet),
    ];
    let script = Scripted::new(steps.into_iter().chain(vec![Step::Fail(Kind::Busy); 1000]));
    let settings = Settings {
        settle_ms: 0,
        buffer_s: 1,
    };
    let (thread, mut consumer) = start(
        Box::new(script),
        settings,
        Arc::clone(&board),
        Arc::clone(&stop),
    )
    .expect("a thread");
    assert!(matches!(consumer.next(LONG), Next::Block(_)));
    let until = Instant::now() + LONG;
    while board.status().capture.problem != Some("Busy: as told".into()) {
        assert!(Instant::now() < until, "{:?}", board.status().capture);
        assert!(matches!(
            consumer.next(Duration::from_millis(20)),
            Next::Nothing
        ));
    }
    assert_eq!(board.status().capture.state, State::NoMicrophone);
    stop.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    thread.join().expect("capture never panics");
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(matches!(consumer.next(LONG), Next::Ended));
}

#[test]
fn with_nobody_to_listen_capture_ends() {
    let (board, _commands) = Board::new();
    let stop = Arc::new(AtomicBool::new(false));
    let steps = vec![Step::Nothing; 100_000];
    let script = Scripted::new([Step::Open(LAYOUT)].into_iter().chain(steps));
    let settings = Settings {
        settle_ms: 0,
        buffer_s: 1,
    };
    let (thread, consumer) = start(Box::new(script), settings, board, stop).expect("a thread");
    drop(consumer);
    thread.join().expect("capture never panics");
}
