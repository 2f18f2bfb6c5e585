//! What was heard, in SQLite, in a way that an SD card survives.
//!
//! A row is a span of one verdict. Rows wait in memory and are written together, in one
//! transaction; a database that is locked, full or gone makes them wait longer. One that is
//! damaged is set aside under another name, never deleted, and a new one begun; so it is when
//! somebody moves or deletes the file. What still waits at the end is left beside the database,
//! for the next start, in space that was reserved while there was some.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

/// Rows that may wait: two weeks of a new verdict every 12 seconds, 10 MB.
pub const MOST_WAITING: usize = 100_000;

/// Bytes that are reserved for rows that wait: what [`MOST_WAITING`] take as lines of JSON, with
/// labels of up to 20 bytes.
const RESERVED: u64 = MOST_WAITING as u64 * 192;

/// Files of waiting rows. There is more than one only where one could not be read.
const MOST_LEFT: usize = 9;

/// Version of the tables, in `user_version`.
const SCHEMA: i64 = 1;

/// A stretch of time with one verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Milliseconds since 1970, UTC, by the clock at its start.
    pub started_ms: i64,
    /// Its length in sound, which no change of the clock touches.
    pub seconds: f64,
    /// A label, `silence` or `unknown`.
    pub verdict: String,
    /// Mean probability of the verdict; none for silence.
    pub confidence: Option<f64>,
    /// Mean level, dBFS.
    pub level_dbfs: f64,
    /// Somebody said that it is right.
    pub confirmed: bool,
}

/// What an operator wants to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Rows in the database since the start.
    pub written: u64,
    /// Rows that wait.
    pub waiting: u64,
    /// Rows given up because too many waited.
    pub dropped: u64,
    /// Writes that failed and will be tried again.
    pub failures: u64,
    /// Databases that were damaged and set aside.
    pub set_aside: u64,
}

/// Writes spans.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    keep: Duration,
    database: Option<Database>,
    waiting: VecDeque<Span>,
    /// Files of an earlier process whose rows are among what waits.
    took_up: Vec<PathBuf>,
    counters: Counters,
}

/// An open database, and which file that is.
#[derive(Debug)]
struct Database {
    connection: Connection,
    file: FileId,
}

/// Device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Why rows wait, in words for the log.
#[derive(Debug)]
pub struct Delayed {
    /// What went wrong.
    pub why: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl History {
    /// Of the database at `path`, which is opened with the first write.
    pub fn new(path: &Path, keep_days: u64) -> Self {
        Self {
            path: path.into(),
            keep: Duration::from_secs(keep_days * 24 * 3600),
            database: None,
            waiting: VecDeque::new(),
            took_up: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a span; it waits for the next [`write`](Self::write).
    pub fn push(&mut self, span: Span) {
        if self.waiting.len() == MOST_WAITING {
            self.waiting.pop_front();
            self.counters.dropped += 1;
        }
        self.waiting.push_back(span);
    }

    /// Counters as of now.
    pub fn counters(&self) -> Counters {
        Counters {
            waiting: self.waiting.len() as u64,
            ..self.counters
        }
    }

    /// Writes all that waits.
    ///
    /// # Errors
    /// What went wrong and what to do. Nothing is lost by it: the rows go on waiting.
    pub fn write(&mut self) -> Result<(), Delayed> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.try_write();
        self.noted(written)?;
        // What went into a file that is not there any more is written to one that is.
        if self.has_moved() {
            let again = self.try_write();
            self.noted(again)?;
        }
        self.counters.written += self.waiting.len() as u64;
        self.waiting.clear();
        for left in std::mem::take(&mut self.took_up) {
            // Only now: after a power cut in between, twice is better than never.
            let _ = fs::remove_file(left);
        }
        Ok(())
    }

    /// Deletes what is older than it is to be kept. Not for a clock that may be wrong: one
    /// that jumps ahead makes everything old.
    ///
    /// # Errors
    /// As [`write`](Self::write)'s.
    pub fn forget(&mut self, now_ms: i64) -> Result<(), Delayed> {
        let oldest = now_ms.saturating_sub(self.keep.as_millis() as i64);
        let forgotten = self.opened().and_then(|database| {
            database.execute("DELETE FROM heard WHERE started_ms < ?", [oldest])
        });
        self.noted(forgotten.map(|_| ()))
    }

    /// Reserves space on the disk for [`leave`](Self::leave), which may find it full.
    ///
    /// # Errors
    /// Those of the file system; then rows can still be left, if there is space by then.
    pub fn reserve(&self) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(self.reserve_path())?;
        // Not a hole: what is allocated here cannot fail for want of space later.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVED)?;
        Ok(())
    }

    /// Leaves what waits beside the database, where [`take_up`](Self::take_up) finds it.
    ///
    /// # Errors
    /// Those of the file system, three times; then the rows are lost with this process.
    pub fn leave(&mut self) -> io::Result<()> {
        // A card that failed once need not fail again, and there is no later.
        self.try_leave()
            .or_else(|_| self.try_leave())
            .or_else(|_| self.try_leave())
    }

    fn try_leave(&mut self) -> io::Result<()> {
        let reserve = self.reserve_path();
        if self.waiting.is_empty() {
            return match fs::remove_file(&reserve) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        // Over what was reserved, so that its blocks are used and none are asked for.
        let file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&reserve)?;
        let mut lines = io::BufWriter::new(&file);
        let mut len = 0;
        for span in &self.waiting {
            let mut line = serde_json::to_vec(span)?;
            line.push(b'\n');
            lines.write_all(&line)?;
            len += line.len() as u64;
        }
        lines.flush()?;
        drop(lines);
        file.set_len(len)?;
        file.sync_all()?;
        let left = match self.took_up.first() {
            Some(taken) => taken.clone(),
            // One that could not be read is not overwritten.
            None => self
                .left()
                .find(|path| !path.exists())
                .ok_or(io::ErrorKind::AlreadyExists)?,
        };
        fs::rename(&reserve, left)?;
        for taken in self.took_up.drain(..).skip(1) {
            let _ = fs::remove_file(taken);
        }
        self.waiting.clear();
        Ok(())
    }

    /// Takes up what an earlier process left, and returns how many rows those are.
    ///
    /// # Errors
    /// Those of the file system. A line that a power cut made no row of is skipped.
    pub fn take_up(&mut self) -> io::Result<usize> {
        let mut rows = 0;
        let mut result = Ok(());
        for path in self.left().collect::<Vec<_>>() {
            match self.take_up_from(&path) {
                Ok(taken) => rows += taken,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The others are taken up nonetheless.
                Err(error) => result = Err(error),
            }
        }
        result.map(|()| rows)
    }

    fn take_up_from(&mut self, path: &Path) -> io::Result<usize> {
        let mut spans = Vec::new();
        for line in io::BufReader::new(File::open(path)?).split(b'\n') {
            spans.extend(serde_json::from_slice::<Span>(&line?).ok());
        }
        let rows = spans.len();
        spans.into_iter().for_each(|span| self.push(span));
        self.took_up.push(path.into());
        Ok(rows)
    }

    /// Where waiting rows are left: `….waiting`, then `….waiting-2` and so on.
    fn left(&self) -> impl Iterator<Item = PathBuf> {
        (1..=MOST_LEFT).map(|number| match number {
            1 => with_suffix(&self.path, ".waiting"),
            _ => with_suffix(&self.path, &format!(".waiting-{number}")),
        })
    }

    fn reserve_path(&self) -> PathBuf {
        with_suffix(&self.path, ".reserve")
    }

    /// Somebody moved or deleted the open database.
    fn has_moved(&self) -> bool {
        let open = self.database.as_ref().map(|database| database.file);
        open.is_some() && open != file_id(&self.path)
    }

    /// The database that there is, or a new one.
    fn opened(&mut self) -> rusqlite::Result<&mut Connection> {
        if self.has_moved() {
            tracing::warn!(
                "{} was moved or deleted: a new one is started",
                self.path.display()
            );
            self.database = None;
            // The log belongs to the one that is gone, which has all of it but for what a reader
            // held back; under its name a new database would take it for its own.
            self.put_aside("moved", &["-wal", "-shm"]);
        }
        match &mut self.database {
            Some(database) => Ok(&mut database.connection),
            none => {
                let connection = open(&self.path)?;
                let file =
                    file_id(&self.path).ok_or(rusqlite::Error::InvalidPath(self.path.clone()))?;
                Ok(&mut none.insert(Database { connection, file }).connection)
            }
        }
    }

    /// Counts a failure, and makes ready for the next attempt.
    fn noted(&mut self, result: rusqlite::Result<()>) -> Result<(), Delayed> {
        result.map_err(|error| {
            self.counters.failures += 1;
            self.database = None;
            if is_damage(&error) {
                self.counters.set_aside +=
                    u64::from(self.put_aside("damaged", &["", "-wal", "-shm"]));
            }
            Delayed::new(&error, &self.path)
        })
    }

    fn try_write(&mut self) -> rusqlite::Result<()> {
        self.opened()?;
        let Some(Database { connection, .. }) = &mut self.database else {
            return Ok(());
        };
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO heard (started_ms, seconds, verdict, confidence, level_dbfs, confirmed)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?;
            for span in &self.waiting {
                insert.execute(params![
                    span.started_ms,
                    span.seconds,
                    span.verdict,
                    span.confidence,
                    span.level_dbfs.max(-200.0),
                    span.confirmed
                ])?;
            }
        }
        transaction.commit()?;
        // What is in the file itself goes where the file goes. A reader or a full disk may hold
        // that up until a later write; the rows are safe in the log.
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(())
    }

    /// Renames files of the database, whichever exist, to the first name that is free. Whether
    /// it could.
    fn put_aside(&self, why: &str, parts: &[&str]) -> bool {
        let with = |suffix: &str| with_suffix(&self.path, suffix);
        let parts = parts.iter().filter(|part| with(part).exists());
        let aside = |n: u32, part: &str| with(&format!(".{why}-{n}{part}"));
        let Some(number) = (1..10_000).find(|&n| {
            ["", "-wal", "-shm"]
                .iter()
                .all(|part| !aside(n, part).exists())
        }) else {
            return false;
        };
        parts
            .map(|part| fs::rename(with(part), aside(number, part)))
            .all(|renamed| renamed.is_ok())
    }
}

impl std::fmt::Display for Delayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.why, self.advice)
    }
}

impl Delayed {
    fn new(error: &rusqlite::Error, path: &Path) -> Self {
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "the disk is full: free some space; rows wait in memory",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another program has locked it: rows wait in memory until it is free"
            }
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                "check that its folder exists and is writable: history.path"
            }
            _ if is_damage(error) => "it was kept as .damaged-N and a new one was started",
            _ => "the rows wait in memory",
        };
        Self {
            why: format!("{}: {error}", path.display()),
            advice,
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    ) || matches!(error, rusqlite::Error::InvalidColumnType(..))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    // A log that is synced with every batch: what a reader has seen outlives a power cut.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS heard (
             id INTEGER PRIMARY KEY,
             started_ms INTEGER NOT NULL,
             seconds REAL NOT NULL,
             verdict TEXT NOT NULL,
             confidence REAL,
             level_dbfs REAL NOT NULL,
             confirmed INTEGER NOT NULL
         ) STRICT;
         CREATE INDEX IF NOT EXISTS heard_by_time ON heard (started_ms);",
    )?;
    connection.pragma_update(None, "user_version", SCHEMA)?;
    Ok(connection)
}

/// Which spans to read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// From this time on, milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Before this time.
    pub until_ms: Option<i64>,
    /// Of this verdict only.
    pub verdict: Option<String>,
    /// At most so many, the latest.
    pub limit: Option<u32>,
}

/// Reads spans while another process may write; in the order of time.
///
/// # Errors
/// Those of SQLite; a missing file is one.
pub fn read(
    path: &Path,
    query: &Query,
    mut on_span: impl FnMut(Span) -> io::Result<()>,
) -> Result<(), Unreadable> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    let exists = connection
        .query_row(
            "SELECT 1 FROM sqlite_master WHERE name = 'heard'",
            [],
            |_| Ok(()),
        )
        .optional()?;
    if exists.is_none() {
        return Ok(());
    }
    let mut select = connection.prepare(
        "SELECT * FROM (
             SELECT started_ms, seconds, verdict, confidence, level_dbfs, confirmed, id FROM heard
             WHERE started_ms >= ?1 AND started_ms < ?2 AND (?3 IS NULL OR verdict = ?3)
             ORDER BY started_ms DESC, id DESC LIMIT ?4
         ) ORDER BY started_ms, id",
    )?;
    let mut rows = select.query(params![
        query.from_ms.unwrap_or(i64::MIN),
        query.until_ms.unwrap_or(i64::MAX),
        query.verdict,
        query.limit.map_or(-1, i64::from)
    ])?;
    while let Some(row) = rows.next()? {
        on_span(Span {
            started_ms: row.get(0)?,
            seconds: row.get(1)?,
            verdict: row.get(2)?,
            confidence: row.get(3)?,
            level_dbfs: row.get(4)?,
            confirmed: row.get(5)?,
        })?;
    }
    Ok(())
}

/// Why a history cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// SQLite's reason.
    Database(rusqlite::Error),
    /// Nobody takes what was read.
    Output(io::Error),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => write!(f, "cannot read the history: {error}"),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// How spans are written for other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header and a line a span.
    Csv,
    /// A JSON object a line.
    Json,
}

/// Writes the spans of a query.
///
/// # Errors
/// See [`Unreadable`].
pub fn export(
    path: &Path,
    query: &Query,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Unreadable> {
    if format == Format::Csv {
        writeln!(
            out,
            "started_ms,seconds,verdict,confidence,level_dbfs,confirmed"
        )?;
    }
    read(path, query, |span| match format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &span)?;
            writeln!(out)
        }
        Format::Csv => {
            let confidence = span.confidence.map(|c| format!("{c:.4}"));
            writeln!(
                out,
                "{},{:.3},{},{},{:.1},{}",
                span.started_ms,
                span.seconds,
                csv_field(&span.verdict),
                confidence.unwrap_or_default(),
                span.level_dbfs,
                span.confirmed
            )
        }
    })
}

/// Labels are the user's: one may have a comma, or begin as what a spreadsheet computes.
fn csv_field(text: &str) -> String {
    let guard = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => "'",
        false => "",
    };
    match !guard.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{guard}{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    fn span(started_ms: i64, verdict: &str) -> Span {
        Span {
            started_ms,
            seconds: 12.5,
            verdict: verdict.into(),
            confidence: (verdict != "silence").then_some(0.75),
            level_dbfs: -42.0,
            confirmed: false,
        }
    }

    fn all(path: &Path, query: &Query) -> Vec<Span> {
        let mut spans = Vec::new();
        let take = |span| {
            spans.push(span);
            Ok(())
        };
        read(path, query, take).expect("readable");
        spans
    }

    #[test]
    fn what_is_written_is_read_filtered_and_forgotten_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let mut history = History::new(&path, 2);
        history.write().expect("nothing to write is no error");
        assert!(!path.exists(), "nothing is made for nothing");
        for (at, verdict) in [(0, "jazz"), (DAY_MS, "rock"), (2 * DAY_MS, "silence")] {
            history.push(span(at, verdict));
        }
        history.write().expect("written");
        assert_eq!(history.counters().written, 3);
        let everything = all(&path, &Query::default());
        assert_eq!(everything.len(), 3);
        assert_eq!(everything[2], span(2 * DAY_MS, "silence"));
        let only = |query| {
            all(&path, &query)
                .into_iter()
                .map(|s| s.verdict)
                .collect::<Vec<_>>()
        };
        let by_verdict = Query {
            verdict: Some("rock".into()),
            ..Query::default()
        };
        assert_eq!(only(by_verdict), ["rock"]);
        let by_time = Query {
            from_ms: Some(1),
            until_ms: Some(2 * DAY_MS),
            ..Query::default()
        };
        assert_eq!(only(by_time), ["rock"]);
        let latest = Query {
            limit: Some(2),
            ..Query::default()
        };
        assert_eq!(only(latest), ["rock", "silence"]);
        // Two days after the second, the first two can be forgotten.
        history.push(span(3 * DAY_MS + 1, "pop"));
        history.write().expect("written");
        history.forget(3 * DAY_MS + 1).expect("deleted");
        assert_eq!(only(Query::default()), ["silence", "pop"]);
    }

    #[test]
    fn a_damaged_database_is_set_aside_and_nothing_waiting_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        fs::write(
            &path,
            "this is no database, it is a poem, and long enough to be one".repeat(99),
        )
        .unwrap();
        let mut history = History::new(&path, 9);
        history.push(span(1, "jazz"));
        let delayed = history.write().expect_err("damaged");
        assert!(delayed.advice.contains("damaged-N"), "{delayed:?}");
        history.push(span(2, "rock"));
        history.write().expect("a new one");
        assert_eq!(all(&path, &Query::default()).len(), 2);
        assert!(folder.path().join("history.sqlite.damaged-1").exists());
        let expected = Counters {
            written: 2,
            failures: 1,
            set_aside: 1,
            ..Counters::default()
        };
        assert_eq!(history.counters(), expected);
    }

    #[test]
    fn a_locked_database_delays_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let mut history = History::new(&path, 9);
        history.push(span(1, "jazz"));
        history.write().expect("written");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        history.push(span(2, "rock"));
        let delayed = history.write().expect_err("locked");
        assert!(delayed.advice.contains("another program"), "{delayed:?}");
        assert_eq!(history.counters().waiting, 1);
        other.execute_batch("COMMIT").unwrap();
        history.write().expect("free again");
        assert_eq!(all(&path, &Query::default()).len(), 2);
    }

    #[test]
    fn a_missing_folder_says_what_to_check_and_heals() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/history.sqlite");
        let mut history = History::new(&path, 9);
        history.push(span(1, "jazz"));
        let delayed = history.write().expect_err("no folder");
        assert!(delayed.advice.contains("history.path"), "{delayed:?}");
        fs::create_dir(folder.path().join("later")).unwrap();
        history.write().expect("now there is one");
        assert_eq!(history.counters().written, 1);
    }

    #[test]
    fn too_many_waiting_drop_the_oldest_and_are_counted() {
        let mut history = History::new(Path::new("/nowhere/at/all"), 9);
        for n in 0..MOST_WAITING as i64 + 3 {
            history.push(span(n, "jazz"));
        }
        let counters = history.counters();
        assert_eq!(
            (counters.waiting, counters.dropped),
            (MOST_WAITING as u64, 3)
        );
        assert_eq!(history.waiting.front().map(|s| s.started_ms), Some(3));
    }

    #[test]
    fn exports_are_lines_of_csv_or_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let mut history = History::new(&path, 9);
        history.push(span(1, "drum, bass"));
        history.push(span(2, "silence"));
        history.push(span(3, "=cmd|' /c calc'!\"A1\""));
        history.write().expect("written");
        let text = |format| {
            let mut out = Vec::new();
            export(&path, &Query::default(), format, &mut out).expect("exported");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            text(Format::Csv),
            "started_ms,seconds,verdict,confidence,level_dbfs,confirmed\n\
             1,12.500,\"drum, bass\",0.7500,-42.0,false\n2,12.500,silence,,-42.0,false\n\
             3,12.500,\"'=cmd|' /c calc'!\"\"A1\"\"\",0.7500,-42.0,false\n"
        );
        let json = text(Format::Json);
        let lines: Vec<serde_json::Value> = json
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(lines[0]["verdict"], "drum, bass");
        assert_eq!(lines[1]["confidence"], serde_json::Value::Null);
        let missing = read(&folder.path().join("none"), &Query::default(), |_| Ok(()));
        assert!(missing.is_err());
    }

    #[test]
    fn what_cannot_be_written_waits_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        // No database can be where a folder is.
        fs::create_dir(&path).unwrap();
        for n in 0..2 {
            let mut history = History::new(&path, 9);
            assert_eq!(history.take_up().expect("readable"), 2 * n);
            history.push(span(10 * n as i64, "jazz"));
            history.push(span(10 * n as i64 + 1, "rock"));
            history.write().expect_err("a folder");
            history.leave().expect("left");
        }
        fs::remove_dir(&path).unwrap();
        // A power cut in the middle of a line costs that line.
        let left = folder.path().join("history.sqlite.waiting");
        let mut file = fs::OpenOptions::new().append(true).open(&left).unwrap();
        file.write_all(b"{\"started_ms\":12,\"sec").unwrap();
        let mut history = History::new(&path, 9);
        assert_eq!(history.take_up().expect("readable"), 4);
        history.write().expect("written");
        assert!(!left.exists());
        let started: Vec<_> = all(&path, &Query::default())
            .iter()
            .map(|s| s.started_ms)
            .collect();
        assert_eq!(started, [0, 1, 10, 11]);
    }

    /// Once between two writes, once while one is under way; the file that was moved has what
    /// was written to it, in itself.
    #[test]
    fn a_database_that_is_moved_or_deleted_costs_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let moved = folder.path().join("elsewhere.sqlite");
        let mut history = History::new(&path, 9);
        let mut write = |at| {
            history.push(span(at, "jazz"));
            history.write().expect("written");
        };
        write(1);
        fs::rename(&path, &moved).unwrap();
        write(2);
        let starts = |path: &Path| -> Vec<i64> {
            let spans = all(path, &Query::default());
            spans.iter().map(|span| span.started_ms).collect()
        };
        assert_eq!((starts(&moved), starts(&path)), (vec![1], vec![2]));
        fs::remove_file(&path).unwrap();
        write(3);
        assert_eq!(starts(&path), [3]);
        // A reader holds the log back, and the file is deleted under both.
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM heard").unwrap();
        write(4);
        fs::remove_file(&path).unwrap();
        write(5);
        write(6);
        assert_eq!(starts(&path), [5, 6]);
        drop(reader);
        write(7);
        assert_eq!(starts(&path), [5, 6, 7]);
    }

    /// No block is asked for at the end: the rows go where the reserve was.
    #[test]
    fn rows_are_left_in_space_that_was_reserved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        fs::create_dir(&path).unwrap();
        let mut history = History::new(&path, 9);
        history.reserve().expect("there is space");
        let reserve = fs::metadata(history.reserve_path()).unwrap();
        assert!(reserve.blocks() * 512 >= RESERVED, "a hole is no space");
        for n in 0..MOST_WAITING as i64 {
            history.push(Span {
                seconds: 1.0 / 3.0,
                confidence: Some(1.0 / 3.0),
                level_dbfs: -100.0 / 3.0,
                ..span(1_800_000_000_000 + n, "twenty characters at")
            });
        }
        history.write().expect_err("a folder");
        history.leave().expect("left");
        let left = fs::metadata(history.left().next().unwrap()).unwrap();
        assert_eq!(left.ino(), reserve.ino());
        assert!(left.len() <= RESERVED, "{} bytes", left.len());
        let mut next = History::new(&path, 9);
        assert_eq!(next.take_up().expect("readable"), MOST_WAITING);
        // With nothing to leave, nothing is left.
        let mut idle = History::new(&folder.path().join("idle.sqlite"), 9);
        idle.reserve().unwrap();
        idle.leave().unwrap();
        assert!(!idle.reserve_path().exists());
    }

    #[test]
    fn rows_that_cannot_be_read_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        fs::create_dir(&path).unwrap();
        let first = folder.path().join("history.sqlite.waiting");
        fs::create_dir(&first).unwrap();
        let mut history = History::new(&path, 9);
        history.take_up().expect_err("a folder");
        history.push(span(1, "jazz"));
        history.leave().expect("under another name");
        assert!(first.is_dir());
        fs::remove_dir(&first).unwrap();
        fs::remove_dir(&path).unwrap();
        let mut next = History::new(&path, 9);
        assert_eq!(next.take_up().expect("readable"), 1);
        next.write().expect("written");
        assert_eq!(next.left().filter(|left| left.exists()).count(), 0);
    }
}
