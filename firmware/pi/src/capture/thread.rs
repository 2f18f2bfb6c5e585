//! The thread that captures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tracing::{info, warn};

use super::ring::{Block, Consumer, Producer, ring};
use super::{Kind, Settings, Source, Trouble};
use crate::board::{Board, State, now_ms};
use crate::engine::Layout;

/// Before a source is opened anew, the first time.
const FIRST_BACK_OFF: Duration = Duration::from_millis(250);

/// And at most: with opening and settling, sound is back within two seconds of the cause's end.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// How often the board hears of the counters.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// The same trouble is logged no more often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Different troubles that are remembered for that.
const MOST_SAID: usize = 16;

/// Overruns in a row without any sound: such a device is opened anew.
const MOST_IN_A_ROW: u32 = 8;

/// Of 1 to 99: before anything that computes, behind the kernel's own interrupt threads (50).
const PRIORITY: u8 = 20;

/// Starts capturing until `stop` says so; the blocks come out of the consumer.
///
/// To end it: set `stop`, join the thread, drop the consumer. It takes a quarter of a second,
/// or as long as a source stays in a call.
///
/// # Errors
/// The system has no room for another thread.
pub fn start(
    source: Box<dyn Source>,
    settings: Settings,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
) -> std::io::Result<(JoinHandle<()>, Consumer)> {
    let limit = Duration::from_secs(settings.buffer_s.into());
    let (producer, consumer) = ring((!source.can_wait()).then_some(limit));
    let thread = thread::Builder::new()
        .name("capture".into())
        .spawn(move || {
            // What can wait needs no hurry, and would leave no time for anything else.
            if !source.can_wait() {
                hurry();
            }
            Capturer {
                source,
                settings,
                board,
                stop,
                producer,
                counters: Counters::default(),
                openings: 0,
                heard: None,
                gap: false,
                told: Instant::now(),
                log: Log::default(),
            }
            .run();
        })?;
    Ok((thread, consumer))
}

fn hurry() {
    let Ok(value) = ThreadPriorityValue::try_from(PRIORITY) else {
        return;
    };
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriority::Crossplatform(value);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, fifo) {
        info!(
            "capture runs without real-time priority ({error:?}): LimitRTPRIO={PRIORITY} in the unit allows it"
        );
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    frames: u64,
    overruns: u64,
    suspends: u64,
}

struct Capturer {
    source: Box<dyn Source>,
    settings: Settings,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    producer: Producer,
    counters: Counters,
    openings: u64,
    /// When sound was handed on last.
    heard: Option<Instant>,
    /// Sound is missing since.
    gap: bool,
    told: Instant,
    log: Log,
}

impl Capturer {
    fn run(mut self) {
        let mut back_off = FIRST_BACK_OFF;
        while !self.stops() {
            let before = self.counters.frames;
            let trouble = match self.source.open() {
                Ok(layout) => self.listen(layout),
                Err(trouble) => Some(trouble),
            };
            let Some(trouble) = trouble else {
                break;
            };
            self.gap = true;
            self.told_state(match trouble.kind {
                Kind::Ended => (State::Ended, None),
                _ => (State::NoMicrophone, Some(&trouble.text)),
            });
            match trouble.kind {
                Kind::Ended => {
                    info!("{} is over", self.source.name());
                    break;
                }
                Kind::Unusable => {
                    tracing::error!("{trouble}");
                    break;
                }
                _ => self.log.warn(&trouble),
            }
            if self.counters.frames > before {
                back_off = FIRST_BACK_OFF;
            }
            self.sleep(back_off);
            back_off = (2 * back_off).min(LONGEST_BACK_OFF);
        }
        self.producer.flush(&self.stop);
        self.tell();
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.producer.is_abandoned()
    }

    /// Hands sound on until something is wrong; none if it was told to stop.
    fn listen(&mut self, layout: Layout) -> Option<Trouble> {
        let opened_ms = now_ms();
        self.opened(layout);
        let mut settling = match self.source.wakes_up() {
            true => u64::from(self.settings.settle_ms) * u64::from(layout.rate_hz) / 1000,
            false => 0,
        };
        let mut frames = 0;
        let mut in_a_row = 0;
        while !self.stops() {
            let mut block = self.producer.empty();
            block.layout = layout;
            let trouble = self.source.read(&mut block.frames).err();
            if trouble.is_some() || block.is_empty() {
                self.producer.spare(block);
                // What waits must go on while nothing comes.
                self.producer.pump();
            } else {
                in_a_row = 0;
                frames += block.len() as u64;
                self.counters.frames += block.len() as u64;
                settle(&mut block, &mut settling);
                block.time_ms = match self.source.can_wait() {
                    true => opened_ms + (frames * 1000 / u64::from(layout.rate_hz.max(1))) as i64,
                    false => now_ms(),
                };
                self.hand_on(block);
            }
            if let Some(trouble) = trouble {
                match trouble.kind {
                    Kind::Overrun => self.counters.overruns += 1,
                    Kind::Suspended => self.counters.suspends += 1,
                    _ => return Some(trouble),
                }
                self.gap = true;
                self.log.warn(&trouble);
                in_a_row += 1;
                if in_a_row > MOST_IN_A_ROW {
                    return Some(trouble);
                }
            }
            if self.told.elapsed() >= TELL_EVERY {
                self.tell();
            }
        }
        None
    }

    fn hand_on(&mut self, mut block: Box<Block>) {
        if block.is_empty() {
            return self.producer.spare(block);
        }
        let now = Instant::now();
        if std::mem::take(&mut self.gap)
            && let Some(heard) = self.heard
        {
            block.missing = Some((now - heard).saturating_sub(block.duration()));
        }
        self.heard = Some(now);
        self.producer.push(block, &self.stop);
    }

    fn opened(&mut self, layout: Layout) {
        self.openings += 1;
        let name = self.source.name();
        let again = self.log.is_back();
        if self.openings == 1 || again {
            info!(
                "listening to {name}: {} Hz, {} channel{}",
                layout.rate_hz,
                layout.channels,
                if layout.channels == 1 { "" } else { "s" }
            );
        }
        self.board.update(|status| {
            status.capture.device = name;
            status.capture.rate_hz = layout.rate_hz;
            status.capture.channels = layout.channels;
            status.capture.reopened = self.openings - 1;
        });
        // An opened device that says nothing has not cured what was wrong: the problem stays
        // until there is sound.
    }

    /// State and problem, where there is no sound.
    fn told_state(&mut self, (state, problem): (State, Option<&String>)) {
        self.tell();
        self.board.update(|status| {
            if status.capture.device.is_empty() {
                status.capture.device = self.source.name();
            }
            status.capture.state = state;
            status.capture.problem = problem.cloned();
        });
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        let listens = !self.gap && self.heard.is_some();
        let muted = self.board.is_muted();
        let (counters, dropped) = (self.counters, self.producer.dropped_frames());
        self.board.update(|status| {
            let capture = &mut status.capture;
            capture.frames = counters.frames;
            capture.overruns = counters.overruns;
            capture.suspends = counters.suspends;
            capture.dropped_frames = dropped;
            if listens && capture.state != State::Ended {
                capture.state = if muted {
                    State::Muted
                } else {
                    State::Listening
                };
                capture.problem = None;
            }
        });
    }

    fn sleep(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.stops() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
            self.producer.pump();
        }
    }
}

/// Takes away what is not worth hearing, as long as that lasts.
fn settle(block: &mut Block, settling: &mut u64) {
    if *settling > 0 {
        let dropped = (*settling).min(block.len() as u64);
        *settling -= dropped;
        block
            .frames
            .drain(..dropped as usize * block.layout.channels);
    }
}

/// Says what is wrong once, not each time that it is found again.
#[derive(Debug, Default)]
struct Log {
    /// What was said, when, and how often it came since.
    said: VecDeque<(Trouble, Instant, u64)>,
    /// Somebody reading the log believes that there is no sound.
    bad: bool,
}

impl Log {
    fn warn(&mut self, trouble: &Trouble) {
        if let Some(text) = self.news(trouble, Instant::now()) {
            warn!("{text}");
        }
    }

    fn news(&mut self, trouble: &Trouble, now: Instant) -> Option<String> {
        let before = self.said.iter().position(|(said, ..)| said == trouble);
        let since = match before.and_then(|n| self.said.remove(n)) {
            Some((_, at, since)) if now - at < LOG_EVERY => {
                self.said.push_back((trouble.clone(), at, since + 1));
                return None;
            }
            Some((_, _, since)) => since,
            None => 0,
        };
        if self.said.len() >= MOST_SAID {
            self.said.pop_front();
        }
        self.said.push_back((trouble.clone(), now, 0));
        if !matches!(trouble.kind, Kind::Overrun | Kind::Suspended) {
            self.bad = true;
        }
        Some(match since {
            0 => trouble.to_string(),
            _ => format!("{trouble} ({since} more times since the last message)"),
        })
    }

    /// Whether it is news that the source is open.
    fn is_back(&mut self) -> bool {
        std::mem::take(&mut self.bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_that_take_turns_are_said_once_a_minute() {
        let mut log = Log::default();
        let started = Instant::now();
        let troubles = [Kind::Overrun, Kind::Gone].map(|kind| Trouble::new(kind, "so it is"));
        let mut said = Vec::new();
        for n in 0..1300 {
            let now = started + n * Duration::from_millis(100);
            said.extend(log.news(&troubles[n as usize % 2], now));
        }
        let again = "so it is (299 more times since the last message)";
        let twice = |text: &'static str| [text, text];
        assert_eq!(
            said,
            [twice("so it is"), twice(again), twice(again)].concat()
        );
        // That the device is back is said as often as that it was gone.
        assert!(log.is_back() && !log.is_back());
        log.news(&troubles[1], started + Duration::from_secs(131));
        assert!(!log.is_back());
    }

    #[test]
    fn no_more_troubles_are_remembered_than_there_is_reason_for() {
        let mut log = Log::default();
        for n in 0..1000 {
            let trouble = Trouble::new(Kind::Other, n.to_string());
            assert!(log.news(&trouble, Instant::now()).is_some());
        }
        assert_eq!(log.said.len(), MOST_SAID);
    }
}
