//! The thread that keeps the history: gathers spans, writes them now and then, forgets.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::board::{Board, now_ms};
use crate::config;
use crate::history::{Delayed, History, Span};
use crate::service::Pulse;

/// A clock is believed for deleting once it ran so long without a jump: a Pi has none of its
/// own, and one that is ahead makes everything old.
const STEADY: Duration = Duration::from_secs(3600);

/// What of a difference to the steady clock is a jump.
const JUMP_MS: i64 = 60_000;

/// A write that failed is tried again after so long.
const SOON: Duration = Duration::from_secs(2);

/// How often it gives a sign of life, whatever it waits for.
const ROUND: Duration = Duration::from_secs(1);

/// Writes what comes until nobody can send any more, then all that waits. `pulse` beats while it
/// moves.
pub fn run(
    config: &config::History,
    path: &Path,
    spans: &mpsc::Receiver<Span>,
    board: &Board,
    pulse: &Pulse,
) {
    let mut history = History::new(path, config.keep_days.get().unsigned_abs());
    match history.take_up() {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "loaded rows that an earlier run could not write"),
        Err(error) => tracing::error!(%error, "cannot read the rows that an earlier run left"),
    }
    if let Err(error) = history.reserve() {
        tracing::warn!(%error, "cannot reserve space for rows that have to wait for the next run");
    }
    let every = Duration::from_secs(config.write_every_s.get().unsigned_abs());
    let mut clock = SteadyClock::new(now_ms(), Instant::now());
    let mut log = Log::default();
    let mut next = Instant::now() + every;
    loop {
        pulse.beat();
        let left = next.saturating_duration_since(Instant::now());
        let ended = match spans.recv_timeout(left.min(ROUND)) {
            Ok(span) => {
                history.push(span);
                board.update(|status| status.history = history.counters());
                continue;
            }
            Err(RecvTimeoutError::Timeout) if left > ROUND => continue,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        let mut result = history.write();
        if clock.may_forget(now_ms(), Instant::now()) && result.is_ok() {
            result = history.forget(now_ms());
        }
        next = Instant::now()
            + if result.is_ok() {
                every
            } else {
                every.min(SOON)
            };
        log.note(&result);
        board.update(|status| {
            status.history = history.counters();
            status.history_problem = result.err().map(|delayed| delayed.to_string());
        });
        if ended {
            break;
        }
    }
    let waiting = history.counters().waiting;
    if let Err(error) = history.leave() {
        tracing::error!(%error, rows = waiting, "rows could neither be written nor saved for the next run");
    }
}

/// A line when writing begins to fail and one when it works again.
#[derive(Debug, Default)]
struct Log {
    failing: bool,
}

impl Log {
    fn note(&mut self, result: &Result<(), Delayed>) {
        match result {
            Err(delayed) if !self.failing => tracing::warn!("{delayed}"),
            Ok(()) if self.failing => tracing::info!("the history is writable again"),
            _ => {}
        }
        self.failing = result.is_err();
    }
}

/// Tells a jump of the clock from time that passed.
#[derive(Debug)]
struct SteadyClock {
    /// The clock, and what never jumps, at the start or after the last jump.
    since: (i64, Instant),
    forgot: Option<Instant>,
}

impl SteadyClock {
    fn new(wall_ms: i64, steady: Instant) -> Self {
        Self {
            since: (wall_ms, steady),
            forgot: None,
        }
    }

    /// Once an hour, if the clock has not jumped for an hour.
    fn may_forget(&mut self, wall_ms: i64, steady: Instant) -> bool {
        let passed = steady.duration_since(self.since.1);
        let expected = self.since.0.saturating_add(passed.as_millis() as i64);
        if wall_ms.saturating_sub(expected).saturating_abs() > JUMP_MS {
            tracing::warn!("the clock jumped: nothing will be deleted for an hour");
            self.since = (wall_ms, steady);
            return false;
        }
        let due = self
            .forgot
            .is_none_or(|forgot| steady.duration_since(forgot) >= STEADY);
        let may = passed >= STEADY && due;
        if may {
            self.forgot = Some(steady);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_ran_steadily_for_an_hour_makes_rows_old() {
        let start = Instant::now();
        let mut clock = SteadyClock::new(0, start);
        let mut after = |wall_min: i64, steady_min: u64| {
            clock.may_forget(
                wall_min * 60_000,
                start + Duration::from_secs(60 * steady_min),
            )
        };
        assert!(!after(59, 59));
        assert!(after(60, 60));
        // Once an hour.
        assert!(!after(90, 90));
        assert!(after(120, 120));
        // It jumps a year ahead, and stays there.
        let year = 366 * 24 * 60;
        assert!(!after(year, 190));
        assert!(!after(year + 59, 249));
        assert!(after(year + 60, 250));
        // And back.
        assert!(!after(400, 400));
    }

    #[test]
    fn what_was_sent_is_written_even_if_the_end_comes_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let (board, _commands) = Board::new();
        let (sender, receiver) = mpsc::channel();
        for n in 0..100 {
            sender
                .send(Span {
                    started_ms: n,
                    seconds: 1.0,
                    verdict: "jazz".into(),
                    confidence: Some(0.5),
                    level_dbfs: -40.0,
                    confirmed: n == 3,
                })
                .unwrap();
        }
        drop(sender);
        run(
            &config::History::default(),
            &path,
            &receiver,
            &board,
            &Pulse::new(),
        );
        let mut confirmed = Vec::new();
        crate::history::read(&path, &Default::default(), |span| {
            confirmed.push(span.confirmed);
            Ok(())
        })
        .unwrap();
        assert_eq!(confirmed.len(), 100);
        assert!(confirmed[3] && !confirmed[4]);
        assert_eq!(board.status().history.written, 100);
    }
}
