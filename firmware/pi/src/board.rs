//! What all parts of the runner share: the latest of everything, and the news as it comes.
//!
//! The listening thread writes; page, MQTT, lights and display read. None of them can hold
//! the listening up: who is too slow for the news loses the oldest of it, and is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::history::{self, Span};
use crate::meter::Reading;

/// Version of everything that is written in JSON: lines, status, API.
pub const SCHEMA_VERSION: u32 = 1;

/// News that a slow reader may be behind: 16 seconds of feature rows.
const MOST_NEWS: usize = 1024;

/// Who does not read for so long is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A decision, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heard {
    /// When, milliseconds since 1970, UTC.
    pub time_ms: i64,
    /// A label, `silence` or `unknown`.
    pub verdict: String,
    /// Probability of the verdict; none for silence.
    pub confidence: Option<f64>,
    /// Probability of each label, smoothed.
    pub probabilities: BTreeMap<String, f64>,
    /// Level of the sound, dBFS.
    pub level_dbfs: f64,
}

/// A second of each channel, and the one that is listened to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Channels {
    /// In the device's order.
    pub readings: Vec<Reading>,
    /// Index of the one that is listened to.
    pub chosen: usize,
}

/// News.
#[derive(Debug, Clone)]
pub enum News {
    /// A feature row, one value a band: int8 log-mel, 0.5 dB a step or so, as the network
    /// is given it.
    Row(Arc<[i8]>),
    /// A decision, about twice a second.
    Heard(Arc<Heard>),
    /// Once a second.
    Channels(Arc<Channels>),
    /// A verdict ended, or lasted for a minute. It is on its way to the history.
    Span(Arc<Span>),
    /// Somebody said that what was heard is right.
    Confirmed(Arc<Heard>),
    /// Muted, or not any more.
    Muted(bool),
}

/// What a button or a request asks of the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Stop listening, or go on.
    Mute(bool),
    /// What is heard now is right: remember that.
    Confirm,
}

/// How the microphone is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not open yet.
    #[default]
    Starting,
    /// Sound comes in.
    Listening,
    /// Sound comes in and is thrown away, as asked.
    Muted,
    /// There is none, or it went away: tried again all the time.
    NoMicrophone,
    /// The input file is over.
    Ended,
}

/// How the microphone is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Capture {
    /// How it is doing.
    pub state: State,
    /// ALSA's name, or a file's.
    pub device: String,
    /// Frames a second; 0 before the first opening.
    pub rate_hz: u32,
    /// Interleaved channels.
    pub channels: usize,
    /// Frames read.
    pub frames: u64,
    /// Overruns: the device was not read in time.
    pub overruns: u64,
    /// The system slept.
    pub suspends: u64,
    /// Times that the device was opened anew.
    pub reopened: u64,
    /// Frames given up because recognition was late.
    pub dropped_frames: u64,
    /// Why there is no sound, and what to do.
    pub problem: Option<String>,
}

/// What recognizes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Recognizer {
    /// What the package calls itself.
    pub name: String,
    /// Where it is from; none is the built-in one.
    pub path: Option<String>,
    /// Where another one is looked for.
    pub watched: Option<String>,
    /// Its classes.
    pub labels: Vec<String>,
    /// Values of a feature row.
    pub bands: usize,
    /// Feature rows a second.
    pub rows_per_second: f64,
    /// Instruction set that runs it.
    pub backend: String,
    /// Packages taken while running.
    pub swapped: u64,
    /// Packages refused while running.
    pub refused: u64,
    /// Why the last one was.
    pub problem: Option<String>,
}

impl Recognizer {
    /// Another package listens from here on; what was counted stays.
    pub fn becomes(&mut self, next: Self) {
        *self = Self {
            watched: self.watched.take(),
            swapped: self.swapped,
            refused: self.refused,
            ..next
        };
    }
}

/// How long recognition takes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latency {
    /// Half of the blocks take no longer, seconds.
    pub p50_s: f64,
    /// 99 % of them.
    pub p99_s: f64,
    /// Blocks measured.
    pub count: u64,
    /// Seconds in all.
    pub sum_s: f64,
    /// Seconds of sound in all.
    pub sound_s: f64,
}

/// How the broker is doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Broker {
    /// Connected now.
    pub connected: bool,
    /// Connections made.
    pub connections: u64,
    /// Messages handed to it.
    pub published: u64,
    /// Messages given up while it was away.
    pub dropped: u64,
    /// Why it is not connected.
    pub problem: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Status {
    /// The microphone.
    pub capture: Capture,
    /// The package.
    pub recognizer: Recognizer,
    /// The latest decision.
    pub heard: Option<Heard>,
    /// Decisions since the start.
    pub decisions: u64,
    /// The latest second.
    pub channels: Option<Channels>,
    /// Samples at full scale since the start, of the channel that is listened to.
    pub clipped_samples: u64,
    /// How long recognition takes.
    pub latency: Latency,
    /// The database.
    pub history: history::Counters,
    /// Why rows wait for it.
    pub history_problem: Option<String>,
    /// The broker; none where none is configured.
    pub broker: Option<Broker>,
    /// Of the processor, °C; none where it has no sensor.
    pub temperature_c: Option<f64>,
    /// Lights, button, display: what could not be used and why.
    pub hardware_problems: Vec<String>,
    /// Why the configuration was not taken anew.
    pub configuration_problem: Option<String>,
    /// Threads that give no sign of life.
    pub stuck: Vec<&'static str>,
}

/// The board.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    status: Mutex<Status>,
    muted: AtomicBool,
    level_q8: AtomicI32,
    news: broadcast::Sender<News>,
    commands: mpsc::Sender<Command>,
}

impl Board {
    /// A new one, and where its commands come out.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel();
        let board = Arc::new(Self {
            started: Instant::now(),
            status: Mutex::default(),
            muted: AtomicBool::new(false),
            level_q8: AtomicI32::new(sori_dsp::Row::SILENT),
            news: broadcast::Sender::new(MOST_NEWS),
            commands,
        });
        (board, receiver)
    }

    /// News from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Tells everyone, and remembers the latest of its kind.
    pub fn publish(&self, news: News) {
        match &news {
            News::Heard(heard) => self.update(|status| {
                status.heard = Some(Heard::clone(heard));
                status.decisions += 1;
            }),
            News::Channels(channels) => self.update(|status| {
                let chosen = channels.readings.get(channels.chosen);
                status.clipped_samples += chosen.map_or(0, |reading| reading.clipped.into());
                status.channels = Some(Channels::clone(channels));
            }),
            News::Row(_) | News::Span(_) | News::Confirmed(_) | News::Muted(_) => {}
        }
        // Nobody need listen.
        let _ = self.news.send(news);
    }

    /// Waits until nobody is far behind the news, within reason. For sound that can wait.
    pub fn wait_for_readers(&self) {
        let deadline = Instant::now() + LONGEST_WAIT;
        while self.news.len() > MOST_NEWS / 2 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The latest of everything.
    pub fn status(&self) -> Status {
        let mut status = self.lock().clone();
        if self.is_muted() && status.capture.state == State::Listening {
            status.capture.state = State::Muted;
        }
        status
    }

    /// Changes what is known.
    pub fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // No code can leave it half changed: every field is set in one step.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something of the runner.
    pub fn command(&self, command: Command) {
        // It only fails while the runner ends.
        let _ = self.commands.send(command);
    }

    /// Whether sound is thrown away.
    pub fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    /// Mutes or unmutes; says so if that is new.
    pub fn set_muted(&self, muted: bool) {
        if self.muted.swap(muted, Ordering::Relaxed) != muted {
            self.publish(News::Muted(muted));
        }
    }

    /// Says the level of the latest row, 1/256 dBFS.
    pub fn set_level_q8(&self, level_dbfs_q8: i32) {
        self.level_q8.store(level_dbfs_q8, Ordering::Relaxed);
    }

    /// Level of the latest row, dBFS, for bars that follow it. It comes 60 times a second:
    /// as news it would wake everyone that often.
    pub fn level_dbfs(&self) -> f64 {
        f64::from(self.level_q8.load(Ordering::Relaxed)) / 256.0
    }

    /// Seconds since the start.
    pub fn uptime_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// Milliseconds since 1970, UTC, by the system's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_reach_everyone_and_the_latest_stays() {
        let (board, commands) = Board::new();
        let (mut one, mut other) = (board.subscribe(), board.subscribe());
        let heard = Heard {
            time_ms: 1,
            verdict: "jazz".into(),
            confidence: Some(0.5),
            probabilities: BTreeMap::new(),
            level_dbfs: -40.0,
        };
        board.publish(News::Heard(Arc::new(heard.clone())));
        for receiver in [&mut one, &mut other] {
            assert!(matches!(receiver.try_recv(), Ok(News::Heard(h)) if h.verdict == "jazz"));
        }
        let status = board.status();
        assert_eq!((status.heard, status.decisions), (Some(heard), 1));
        board.command(Command::Confirm);
        assert_eq!(commands.try_recv(), Ok(Command::Confirm));
    }

    #[test]
    fn muting_is_news_once() {
        let (board, _commands) = Board::new();
        let mut news = board.subscribe();
        for muted in [true, true, false] {
            board.set_muted(muted);
        }
        assert!(matches!(news.try_recv(), Ok(News::Muted(true))));
        assert!(matches!(news.try_recv(), Ok(News::Muted(false))));
        assert!(news.try_recv().is_err());
    }
}
