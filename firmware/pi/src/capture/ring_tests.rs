use super::*;

const LAYOUT: Layout = Layout {
    rate_hz: 1000,
    channels: 2,
};
static GO_ON: AtomicBool = AtomicBool::new(false);

/// A block of frames that count on from `first`.
fn push(producer: &mut Producer, first: i32, frames: i32) {
    let mut block = producer.empty();
    block.layout = LAYOUT;
    let counted = (first..first + frames).flat_map(|n| [n, -n]);
    block.frames.extend(counted);
    producer.push(block, &GO_ON);
}

/// All that is there: first frame, frames, what is missing before.
fn take_all(consumer: &mut Consumer) -> Vec<(i32, usize, u128)> {
    let mut taken = Vec::new();
    while let Next::Block(block) = consumer.next(Duration::ZERO) {
        let missing = block.missing.unwrap_or_default().as_millis();
        taken.push((block.frames[0], block.len(), missing));
        consumer.recycle(block);
    }
    taken
}

#[test]
fn below_the_limit_nothing_is_lost_and_the_order_stays() {
    let (mut producer, mut consumer) = ring(Some(Duration::from_secs(1)));
    // Far more blocks than the queue has places.
    for n in 0..100 {
        push(&mut producer, 10 * n, 10);
    }
    let mut taken = Vec::new();
    while taken.len() < 100 {
        let more = take_all(&mut consumer);
        assert!(!more.is_empty(), "lost: {taken:?}");
        taken.extend(more);
        producer.pump();
    }
    let expected: Vec<_> = (0..100).map(|n| (10 * n, 10, 0)).collect();
    assert_eq!(taken, expected);
    assert_eq!(producer.dropped_frames(), 0);
}

#[test]
fn the_oldest_is_dropped_counted_and_told() {
    let (mut producer, mut consumer) = ring(Some(Duration::from_secs(1)));
    for n in 0..250 {
        push(&mut producer, 10 * n, 10);
    }
    // Those in the queue are too old by now: room for what waits.
    let mut taken = take_all(&mut consumer);
    for _ in 0..4 {
        producer.pump();
        taken.extend(take_all(&mut consumer));
    }
    let expected: Vec<_> = (150..250)
        .map(|n| (10 * n, 10, if n == 150 { 1500 } else { 0 }))
        .collect();
    assert_eq!(taken, expected);
    assert_eq!(producer.dropped_frames(), 1500);
}

#[test]
fn blocks_are_used_again() {
    let (mut producer, mut consumer) = ring(Some(Duration::from_secs(1)));
    push(&mut producer, 0, 10);
    let Next::Block(block) = consumer.next(Duration::ZERO) else {
        panic!("a block was pushed");
    };
    let memory = block.frames.as_ptr();
    consumer.recycle(block);
    let block = producer.empty();
    assert_eq!(block.frames.as_ptr(), memory);
    assert!(block.is_empty() && block.missing.is_none());
}

#[test]
fn the_end_comes_after_the_last_block() {
    let (mut producer, mut consumer) = ring(Some(Duration::from_secs(1)));
    assert!(matches!(consumer.next(Duration::ZERO), Next::Nothing));
    push(&mut producer, 0, 10);
    drop(producer);
    assert!(matches!(consumer.next(Duration::ZERO), Next::Block(_)));
    assert!(matches!(consumer.next(Duration::MAX), Next::Ended));
}

/// Frames count up by one unless `missing` says how many are not there.
#[test]
fn with_two_threads_at_full_speed_every_frame_is_heard_or_counted() {
    const FRAMES: i32 = 2_000_000;
    let (mut producer, mut consumer) = ring(Some(Duration::from_millis(500)));
    let pushing = thread::spawn(move || {
        let (mut first, mut n) = (0, 0);
        while first < FRAMES {
            let frames = (1 + n % 17).min(FRAMES - first);
            push(&mut producer, first, frames);
            (first, n) = (first + frames, n + 1);
        }
        producer.flush(&GO_ON);
        producer.dropped_frames()
    });
    let (mut expected, mut missed, mut blocks) = (0, 0, 0);
    loop {
        match consumer.next(Duration::from_secs(20)) {
            Next::Block(block) => {
                let missing = block
                    .missing
                    .map_or(0, |missing| missing.as_millis() as i32);
                for frame in block.frames.chunks_exact(2) {
                    assert_eq!(frame[0], expected + missing);
                    assert_eq!(frame[1], -frame[0]);
                    expected += 1;
                }
                expected += missing;
                missed += missing;
                blocks += 1;
                consumer.recycle(block);
                if blocks % 1000 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Next::Nothing => panic!("20 seconds without a block, after {expected} frames"),
            Next::Ended => break,
        }
    }
    let dropped = pushing.join().expect("the producer is well");
    assert_eq!((expected, dropped), (FRAMES, missed as u64));
}

#[test]
fn without_a_limit_the_producer_waits_and_nothing_is_lost() {
    const BLOCKS: i32 = 20_000;
    let (mut producer, mut consumer) = ring(None);
    let pushing = thread::spawn(move || {
        for n in 0..BLOCKS {
            push(&mut producer, n, 1);
            assert!(producer.waiting.is_empty());
        }
        producer.dropped_frames()
    });
    for n in 0..BLOCKS {
        match consumer.next(Duration::from_secs(20)) {
            Next::Block(block) => {
                assert_eq!((block.frames[0], block.missing), (n, None));
                consumer.recycle(block);
            }
            other => panic!("{other:?} in place of block {n}"),
        }
    }
    assert!(matches!(
        consumer.next(Duration::from_secs(20)),
        Next::Ended
    ));
    assert_eq!(pushing.join().expect("the producer is well"), 0);
}

#[test]
fn a_producer_that_waits_ends_when_nobody_listens_or_it_is_told_to() {
    let (mut producer, consumer) = ring(None);
    let pushing = thread::spawn(move || {
        while !producer.is_abandoned() {
            push(&mut producer, 0, 1);
        }
    });
    drop(consumer);
    pushing.join().expect("the producer is well");

    let (mut producer, _consumer) = ring(None);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let pushing = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            let block = producer.empty();
            producer.push(block, &told);
        }
    });
    stop.store(true, Ordering::Relaxed);
    pushing.join().expect("the producer is well");
}
