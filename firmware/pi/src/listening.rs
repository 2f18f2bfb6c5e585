//! The thread that listens: blocks of sound in, news on the board.
//!
//! An engine lives as long as its package and the layout of the sound. A new package or
//! another microphone ends its span, and the next block goes to a new engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::board::{Board, Channels, Command, Heard, News, now_ms};
use crate::capture::{Block, Consumer, Next};
use crate::config::Channel;
use crate::engine::{self, Engine, Said};
use crate::history::Span;
use crate::latency::Histogram;
use crate::model::Model;
use crate::service::Pulse;

/// The longest that it waits for sound before it looks at what else there is to do.
const PATIENCE: Duration = Duration::from_millis(200);

/// Sound that may be missing without the rest being another piece: an overrun costs less.
const MOST_MISSING: Duration = Duration::from_secs(2);

/// What it works with.
#[derive(Debug)]
pub struct Listening {
    /// Where news go.
    pub board: Arc<Board>,
    /// Which channel to listen to.
    pub channel: Channel,
    /// The package to begin with.
    pub model: Arc<Model>,
    /// Packages to go on with.
    pub models: mpsc::Receiver<Arc<Model>>,
    /// What people ask for.
    pub commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    /// Where spans go.
    pub history: mpsc::Sender<Span>,
    /// Beats while this thread moves.
    pub pulse: Pulse,
    /// The sound can wait for who reads the news: at full speed nothing is lost.
    pub waits: bool,
    /// Set when it is to end.
    pub stop: Arc<AtomicBool>,
}

/// Why an engine ended.
enum End {
    /// This block is not for it.
    Layout(Box<Block>),
    /// There is a new package, and this block is for it.
    Package(Arc<Model>, Option<Box<Block>>),
    /// No more sound.
    Over,
}

impl Listening {
    /// Listens until there is no more sound or it is to stop.
    pub fn run(mut self, mut sound: Consumer) {
        let mut latency = Histogram::new();
        let mut first = None;
        while let Some(block) = first.take().or_else(|| self.wait(&mut sound)) {
            let (layout, model) = (block.layout, self.model.clone());
            let end = model.listen(layout.rate_hz, |listener| {
                let labels = model.labels.clone();
                let engine = Engine::new(listener, labels, layout, self.channel);
                self.with(engine, &model, block, &mut sound, &mut latency)
            });
            match end {
                Ok(End::Over) => return,
                Ok(End::Layout(block)) => first = Some(block),
                Ok(End::Package(model, block)) => {
                    self.take(model);
                    first = block;
                }
                // A rate that cannot be resampled, until somebody changes the device's.
                Err(unusable) => self.board.update(|status| {
                    status.capture.problem = Some(format!("{} Hz: {unusable}", layout.rate_hz));
                }),
            }
        }
    }

    /// The first block of all; none at the end.
    fn wait(&mut self, sound: &mut Consumer) -> Option<Box<Block>> {
        while !self.stop.load(Ordering::Relaxed) {
            self.pulse.beat();
            if let Some(model) = self.models.try_iter().last() {
                self.take(model);
            }
            self.obey(None);
            match sound.next(PATIENCE) {
                Next::Block(block) => return Some(block),
                Next::Nothing => {}
                Next::Ended => return None,
            }
        }
        None
    }

    fn take(&mut self, model: Arc<Model>) {
        tracing::info!(package = model.name, "the new package is now listening");
        self.board.update(|status| {
            status.recognizer.becomes(model.describe());
            status.recognizer.swapped += 1;
        });
        self.model = model;
    }

    /// Does what people asked for.
    fn obey(&self, mut engine: Option<&mut Engine<'_, '_>>) {
        let commands = self.commands.lock();
        let commands = commands.unwrap_or_else(PoisonError::into_inner);
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Mute(muted) => self.board.set_muted(muted),
                Command::Confirm => {
                    let heard = self.board.status().heard;
                    if let (Some(engine), Some(heard)) = (engine.as_mut(), heard) {
                        engine.confirm();
                        self.board.publish(News::Confirmed(Arc::new(heard)));
                    }
                }
            }
        }
    }

    /// Runs one engine.
    fn with(
        &mut self,
        mut engine: Engine<'_, '_>,
        model: &Model,
        first: Box<Block>,
        sound: &mut Consumer,
        latency: &mut Histogram,
    ) -> End {
        let (layout, mut muted) = (first.layout, false);
        let mut next = Some(first);
        let end = loop {
            self.pulse.beat();
            self.obey(Some(&mut engine));
            if let Some(model) = self.models.try_iter().last() {
                break End::Package(model, next);
            }
            if self.stop.load(Ordering::Relaxed) {
                break End::Over;
            }
            let block = match next.take() {
                Some(block) => block,
                None => match sound.next(PATIENCE) {
                    Next::Block(block) => block,
                    Next::Nothing => continue,
                    Next::Ended => break End::Over,
                },
            };
            if block.layout != layout {
                break End::Layout(block);
            }
            let mut a_second_is_over = false;
            let tell = &mut |said: Said<'_>| {
                a_second_is_over |= matches!(said, Said::Channels(..));
                self.tell(model, said, block.time_ms);
            };
            // What came before a gap is no context for what follows.
            let was_muted = std::mem::replace(&mut muted, self.board.is_muted());
            if block.missing > Some(MOST_MISSING) || muted && !was_muted {
                engine.restart(tell);
            }
            if !muted {
                let started = Instant::now();
                engine.push(&block.frames, block.time_ms, tell);
                let took_s = started.elapsed().as_secs_f64();
                latency.record(took_s, block.duration().as_secs_f64());
            }
            if a_second_is_over {
                // The quantiles are searched for: not at every block.
                let latency = latency.latency();
                self.board.update(|status| status.latency = latency);
            }
            sound.recycle(block);
            if self.waits {
                self.board.wait_for_readers();
            }
        };
        engine.finish(&mut |said| self.tell(model, said, now_ms()));
        end
    }

    fn tell(&self, model: &Model, said: Said<'_>, time_ms: i64) {
        self.board.publish(match said {
            Said::Row(features, level_dbfs_q8) => {
                self.board.set_level_q8(level_dbfs_q8);
                News::Row(features.into())
            }
            Said::Decision(decision) => News::Heard(Arc::new(Heard {
                time_ms,
                verdict: engine::name(decision.verdict, &model.labels).into(),
                confidence: engine::confidence(
                    decision.verdict,
                    &decision.probabilities_q15,
                    &model.labels,
                ),
                probabilities: engine::probabilities(decision, &model.labels),
                level_dbfs: f64::from(decision.level_dbfs_q8) / 256.0,
            })),
            Said::Channels(readings, chosen) => News::Channels(Arc::new(Channels {
                readings: readings.to_vec(),
                chosen,
            })),
            Said::Span(span) => {
                // The history lives until this thread has ended.
                let _ = self.history.send(span.clone());
                News::Span(Arc::new(span))
            }
        });
    }
}
