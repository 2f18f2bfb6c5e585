//! The history on a disk that fails, and in memory that ends: at each call and at each size, once and
//! from then on. What it was given is there afterwards, or it says how many rows are not.

mod preload;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use sori_pi::history::{self, History, Query, Span};

/// Rows, in batches, as a service writes them.
const BATCHES: i64 = 3;
const ROWS: i64 = 4;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Set in the process that has to bear it: the folder of its history.
const FOLDER: &str = "SORI_FAULTS_FOLDER";
/// Bytes that SQLite may take there.
const HEAP: &str = "SORI_FAULTS_HEAP";

fn span(number: i64) -> Span {
    Span {
        started_ms: number,
        seconds: 1.0,
        verdict: "jazz".into(),
        confidence: Some(0.5),
        level_dbfs: -20.0,
        confirmed: false,
    }
}

/// Not a test: the process that the others start.
#[test]
#[ignore = "the tests below start it"]
fn keeps_a_history() {
    let folder = std::env::var_os(FOLDER).expect("the tests below say where");
    let heap = std::env::var(HEAP).map_or(0, |bytes| bytes.parse().expect("a number"));
    let elsewhere = rusqlite::Connection::open_in_memory().expect("memory");
    let limit = |bytes: i64| elsewhere.pragma_update(None, "hard_heap_limit", bytes);
    let mut history = History::new(&Path::new(&folder).join("history.sqlite"), 30);
    let _ = history.take_up();
    let _ = history.reserve();
    if heap > 0 {
        limit(heap).expect("a limit");
    }
    for batch in 0..BATCHES {
        for row in 0..ROWS {
            history.push(span(batch * ROWS + row));
        }
        let _ = history.write();
    }
    let _ = limit(0);
    let counters = history.counters();
    println!("{} writes failed", counters.failures);
    match history.leave() {
        Ok(()) => println!("kept"),
        Err(error) => println!("lost {}: {error}", counters.waiting),
    }
}

fn bear(folder: &Path, prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "keeps_a_history", "--ignored", "--nocapture"])
        .env(FOLDER, folder);
    prepare(&mut command);
    command.output().expect("it starts")
}

/// How often each row is there for the next process, whose disk is well.
fn found(folder: &Path) -> BTreeMap<i64, u32> {
    let path = folder.join("history.sqlite");
    let mut history = History::new(&path, 30);
    history.take_up().expect("what was left can be read");
    // One more, so that there is something to write.
    history.push(span(-1));
    history.write().expect("the disk is well again");
    let mut rows = BTreeMap::new();
    history::read(&path, &Query::default(), |span| {
        *rows.entry(span.started_ms).or_insert(0) += 1;
        Ok(())
    })
    .expect("the history can be read");
    assert_eq!(rows.remove(&-1), Some(1));
    rows
}

/// The claim. What was lost must have been said.
fn check(folder: &Path, output: &Output, may_lose: bool, what: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}{log}");
    let lost: u64 = said
        .split_once("lost ")
        .and_then(|(_, rest)| rest.split(':').next()?.parse().ok())
        .unwrap_or(0);
    assert!(may_lose || lost == 0, "{what}: {said}");
    let rows = found(folder);
    let missing = (0..BATCHES * ROWS)
        .filter(|row| !rows.contains_key(row))
        .count() as u64;
    assert!(
        missing <= lost,
        "{what}: {missing} rows are missing, {said}"
    );
    // A commit that failed may have reached the disk: rows may be there again, and not more.
    assert!(rows.values().all(|&times| times <= 2), "{what}: {rows:?}");
}

#[test]
fn a_disk_that_fails_at_any_call_costs_no_row() {
    let home = tempfile::tempdir().expect("a folder");
    let library = preload::library("shim/faults.c", home.path());
    let count_at = home.path().join("count");
    let attempt = |at: u64, times: u64, errno: i32| {
        let folder = tempfile::tempdir_in(home.path()).expect("a folder");
        let output = bear(folder.path(), |command| {
            preload::add(command, &library)
                .env("SORI_FAULTS_AT", at.to_string())
                .env("SORI_FAULTS_FOR", times.to_string())
                .env("SORI_FAULTS_ERRNO", errno.to_string())
                .env("SORI_FAULTS_COUNT", &count_at);
        });
        let what = format!("errno {errno} at call {at}, {times} times");
        check(folder.path(), &output, times > 1, &what);
        let count = fs::read_to_string(&count_at).expect("the number of calls");
        count.parse::<u64>().expect("a number")
    };
    let calls = attempt(0, 0, EIO);
    // Else nothing here would have failed.
    assert!(calls > 50, "{calls} calls");
    for at in 1..=calls {
        for errno in [EIO, ENOSPC] {
            attempt(at, 1, errno);
            attempt(at, u64::from(u32::MAX), errno);
        }
    }
    println!("{calls} calls, each failed in 4 ways");
}

#[test]
fn memory_that_ends_at_any_size_costs_no_row() {
    let home = tempfile::tempdir().expect("a folder");
    let (mut failed, mut worked) = (0, 0);
    for heap in (16_000..400_000).step_by(4_000) {
        let folder = tempfile::tempdir_in(home.path()).expect("a folder");
        let output = bear(folder.path(), |command| {
            command.env(HEAP, heap.to_string());
        });
        check(folder.path(), &output, false, &format!("{heap} bytes"));
        match String::from_utf8_lossy(&output.stdout).contains("\n0 writes failed") {
            true => worked += 1,
            false => failed += 1,
        }
    }
    assert!(
        failed > 0 && worked > 0,
        "{failed} limits failed, {worked} did not"
    );
}
