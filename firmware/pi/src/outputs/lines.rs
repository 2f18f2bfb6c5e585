//! A JSON object a line on stdout, for scripts.
//!
//! ```text
//! {"schema_version":1,"type":"heard","time_ms":1700000000000,"verdict":"jazz",…}
//! ```
//!
//! A number that JSON cannot write, the level of digital silence say, is `null`.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tracing::{info, warn};

use crate::board::{Board, Channels, Heard, News, SCHEMA_VERSION, now_ms};
use crate::history::Span;

#[derive(Serialize)]
struct Line<'n> {
    schema_version: u32,
    #[serde(flatten)]
    told: Told<'n>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Told<'n> {
    Heard(&'n Heard),
    Channels(&'n Channels),
    Span(&'n Span),
    Confirmed(&'n Heard),
    Muted {
        time_ms: i64,
        muted: bool,
    },
    /// News that a slow reader did not get.
    Lost {
        time_ms: i64,
        news: u64,
    },
}

/// Stdout without a buffer of ours: what a failed write left there would spoil a later line.
///
/// # Errors
/// The process has none.
pub fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// The thread that writes.
#[derive(Debug)]
pub struct Lines {
    stop: Arc<Notify>,
    /// Closed by the thread's end: a handle cannot be waited for with a limit.
    running: mpsc::Receiver<()>,
}

impl Lines {
    /// Writes the news of `board` from now on; readings of the channels if asked to.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        board: &Board,
        out: impl Write + Send + 'static,
        channels: bool,
    ) -> io::Result<Self> {
        let (ends, running) = mpsc::channel();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let mut news = board.subscribe();
        let runtime = Builder::new_current_thread().build()?;
        thread::Builder::new().name("lines".into()).spawn(move || {
            let _ends = ends;
            let mut writer = Writer::new(out, channels);
            runtime.block_on(writer.run(&mut news, &stopped));
        })?;
        Ok(Self { stop, running })
    }

    /// Writes what was published until now, and ends. False if the reader did not take it
    /// within `limit`: then the thread is left behind.
    pub fn finish(self, limit: Duration) -> bool {
        self.stop.notify_one();
        self.running.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

/// The reader closed the pipe.
struct Closed;

struct Writer<W> {
    out: W,
    channels: bool,
    line: Vec<u8>,
    /// News since the last line that could be written.
    lost: u64,
    /// A line may have been written in part: the next one begins on a line of its own.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(out: W, channels: bool) -> Self {
        Self {
            out,
            channels,
            line: Vec::new(),
            lost: 0,
            torn: false,
        }
    }

    async fn run(&mut self, news: &mut Receiver<News>, stop: &Notify) {
        loop {
            let received = tokio::select! {
                biased;
                () = stop.notified() => break,
                received = news.recv() => received,
            };
            let told = match received {
                Ok(news) => self.tell(&news),
                Err(RecvError::Lagged(lost)) => self.lose(lost),
                Err(RecvError::Closed) => return,
            };
            if told.is_err() {
                return;
            }
        }
        loop {
            let told = match news.try_recv() {
                Ok(news) => self.tell(&news),
                Err(TryRecvError::Lagged(lost)) => self.lose(lost),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            };
            if told.is_err() {
                return;
            }
        }
    }

    fn tell(&mut self, news: &News) -> Result<(), Closed> {
        let told = match news {
            News::Row(_) => return Ok(()),
            News::Channels(_) if !self.channels => return Ok(()),
            News::Channels(channels) => Told::Channels(channels),
            News::Heard(heard) => Told::Heard(heard),
            News::Span(span) => Told::Span(span),
            News::Confirmed(heard) => Told::Confirmed(heard),
            &News::Muted(muted) => Told::Muted {
                time_ms: now_ms(),
                muted,
            },
        };
        if self.lost > 0 {
            self.lose(0)?;
        }
        if !self.write(told)? {
            self.lost += 1;
        }
        Ok(())
    }

    /// Says how many news are missing here, now or when it can be written again.
    fn lose(&mut self, lost: u64) -> Result<(), Closed> {
        self.lost += lost;
        let told = Told::Lost {
            time_ms: now_ms(),
            news: self.lost,
        };
        if self.write(told)? {
            self.lost = 0;
        }
        Ok(())
    }

    /// Whether the whole line was taken.
    fn write(&mut self, told: Told<'_>) -> Result<bool, Closed> {
        let line = Line {
            schema_version: SCHEMA_VERSION,
            told,
        };
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        let written = serde_json::to_writer(&mut self.line, &line).map_err(io::Error::from);
        self.line.push(b'\n');
        let written = written
            .and_then(|()| self.out.write_all(&self.line))
            .and_then(|()| self.out.flush());
        match written {
            Ok(()) => {
                self.torn = false;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                info!("stdout was closed: no more lines are printed, listening continues");
                Err(Closed)
            }
            Err(error) => {
                if !self.torn {
                    warn!("stdout is blocked, lines are lost until it is writable again: {error}");
                }
                self.torn = true;
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, PipeWriter};
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn heard(level_dbfs: f64) -> Arc<Heard> {
        Arc::new(Heard {
            time_ms: 1,
            verdict: "jazz".into(),
            confidence: Some(0.5),
            probabilities: BTreeMap::from([("jazz".into(), 0.5)]),
            level_dbfs,
        })
    }

    fn parsed(bytes: &[u8]) -> Vec<Value> {
        let lines = bytes.split(|&byte| byte == b'\n').filter(|l| !l.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect()
    }

    /// Memory that can be read while it is written.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_news_but_rows_is_a_line_with_its_type() {
        let (board, _commands) = Board::new();
        let out = Shared::default();
        let lines = Lines::start(&board, out.clone(), true).unwrap();
        board.publish(News::Row(Arc::new([1, 2, 3])));
        board.publish(News::Heard(heard(f64::NEG_INFINITY)));
        board.publish(News::Channels(Arc::new(Channels {
            readings: Vec::new(),
            chosen: 1,
        })));
        board.publish(News::Span(Arc::new(Span {
            started_ms: 5,
            seconds: 2.0,
            verdict: "rock".into(),
            confidence: None,
            level_dbfs: f64::NAN,
            confirmed: false,
        })));
        board.publish(News::Confirmed(heard(-40.0)));
        board.publish(News::Muted(true));
        assert!(lines.finish(LIMIT), "all of it was taken");
        let said = parsed(&out.0.lock().unwrap());
        let types: Vec<_> = said.iter().map(|line| line["type"].clone()).collect();
        assert_eq!(types, ["heard", "channels", "span", "confirmed", "muted"]);
        assert!(said.iter().all(|line| line["schema_version"] == 1));
        assert_eq!(said[0]["verdict"], "jazz");
        // What JSON has no number for.
        assert_eq!(said[0]["level_dbfs"], Value::Null);
        assert_eq!(said[2]["level_dbfs"], Value::Null);
        assert_eq!(said[2]["started_ms"], 5);
        assert_eq!(said[4]["muted"], json!(true));
    }

    #[test]
    fn readings_are_only_written_when_asked_for() {
        let (board, _commands) = Board::new();
        let out = Shared::default();
        let lines = Lines::start(&board, out.clone(), false).unwrap();
        board.publish(News::Channels(Arc::new(Channels {
            readings: Vec::new(),
            chosen: 0,
        })));
        assert!(lines.finish(LIMIT));
        assert!(out.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_closed_pipe_ends_only_the_lines() {
        let (board, _commands) = Board::new();
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(&board, writer, false).unwrap();
        drop(reader);
        board.publish(News::Muted(true));
        // It ends by itself; nobody told it to.
        assert_eq!(
            lines.running.recv_timeout(LIMIT),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
        board.publish(News::Heard(heard(-40.0)));
        assert_eq!(board.status().decisions, 1);
    }

    /// Takes nothing until it is told to.
    struct Slow(PipeWriter, mpsc::Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Closed is as good as told.
            let _ = self.1.recv();
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_holds_nothing_up_and_learns_what_it_missed() {
        let (board, _commands) = Board::new();
        let (reader, writer) = io::pipe().unwrap();
        let (go, gate) = mpsc::channel();
        let lines = Lines::start(&board, Slow(writer, gate), false).unwrap();
        let all = 5000;
        for _ in 0..all {
            board.publish(News::Heard(heard(-40.0)));
        }
        // Every one of them was published although not one was read.
        assert_eq!(board.status().decisions, all);
        drop(go);
        let reading = thread::spawn(move || {
            let said = BufReader::new(reader).lines();
            said.map(|line| serde_json::from_str::<Value>(&line.unwrap()).expect("JSON"))
                .collect::<Vec<_>>()
        });
        assert!(lines.finish(LIMIT));
        let said = reading.join().unwrap();
        let lost: u64 = said.iter().filter_map(|line| line["news"].as_u64()).sum();
        let got = said.iter().filter(|line| line["type"] == "heard").count();
        assert!(lost > 0);
        assert_eq!(lost + got as u64, all);
    }

    /// A disk that is full for a while, and takes half a line before it says so.
    struct Full(Shared, Arc<Mutex<bool>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match *self.1.lock().unwrap() {
                false => self.0.write(bytes),
                true if bytes.len() > 20 => self.0.write(&bytes[..20]),
                true => Err(ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_tears_lines_but_not_the_ones_that_follow() {
        let full = Arc::new(Mutex::new(false));
        let out = Shared::default();
        let mut writer = Writer::new(Full(out.clone(), full.clone()), false);
        for (nth, is_full) in [false, true, true, false].into_iter().enumerate() {
            *full.lock().unwrap() = is_full;
            let told = writer.tell(&News::Muted(nth % 2 == 0));
            assert!(told.is_ok(), "only a closed pipe is the end");
        }
        let bytes = out.0.lock().unwrap();
        let whole: Vec<Value> = bytes
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let types: Vec<_> = whole.iter().map(|line| line["type"].clone()).collect();
        assert_eq!(types, ["muted", "lost", "muted"]);
        assert_eq!(whole[1]["news"], 2);
    }
}
