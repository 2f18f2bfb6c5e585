//! `cargo xtask bench --mcu`: what inference, front end and listening cost a microcontroller.
//!
//! The firmware's programs count themselves, on QEMU's boards where an instruction takes a
//! nanosecond, and print lines; here they are gathered and compared with what was accepted.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::baseline::{self, Baseline};
use super::{Row, judge, table};
use crate::boards::{BOARDS, Board, DIRECTORY};
use crate::steps::{Step, Steps};
use crate::tools;

const BASELINE: &str = "host-tools/xtask/bench-mcu-baseline.json";
const ACCEPT: &str = "cargo xtask bench --mcu --accept";

/// The fewest instructions that any library needed for one inference, measured under the same
/// QEMU on networks of the same shapes, and for the transform: CMSIS-NN, and CMSIS-DSP's
/// `rfft_q31`, the one that keeps a quiet signal. TinyEngine needs 36 570 000 on the M4 for `b`,
/// not exactly.
pub(super) const BEST_PEERS: [(&str, u64); 9] = [
    ("m3/a", 65_040_000),
    ("m3/b", 51_250_000),
    ("m4/a", 52_090_000),
    ("m4/b", 36_570_000),
    ("m4/fft1024", 87_019),
    ("m7/a", 52_470_000),
    ("m7/b", 41_060_000),
    ("m33/a", 51_700_000),
    ("m33/b", 40_480_000),
];

/// Programs that count, none of which needs a heap. `network-instructions` prints networks, stages
/// and layers.
const PROGRAMS: [&str; 3] = ["network-instructions", "frontend-instructions", "sori-mcu"];

pub(super) fn run(starts: &[&str], as_json: bool, accept: bool) -> anyhow::Result<()> {
    tools::require("qemu-system-arm", "qemu-system-arm")?;
    let boards: Vec<&Board> = BOARDS
        .iter()
        .filter(|board| {
            let key = format!("{}/", board.key);
            starts.is_empty()
                || starts
                    .iter()
                    .any(|start| start.starts_with(&key) || key.starts_with(start))
        })
        .collect();
    ensure!(
        !boards.is_empty(),
        "no key starts with {}: they start with m3/, m4/, m7/ or m33/",
        starts.join(" or ")
    );
    let baseline = Baseline::read(BASELINE, ACCEPT)?;
    let mut steps = Steps::quiet();
    for build in Board::builds() {
        if boards.iter().any(|board| board.target == build.target) {
            tools::require_targets(&[build.target])?;
            let bins: String = PROGRAMS.map(|program| format!(" --bin {program}")).concat();
            let command = format!("cargo build --quiet {}{bins}", build.build(""));
            steps.run(&Step::new(build.target, &command).within(DIRECTORY))?;
        }
    }
    let mut rows = Vec::new();
    for board in boards {
        for program in PROGRAMS {
            let command = board.run(program);
            let printed = steps.output(&Step::new(program, &command).within(DIRECTORY))?;
            let counts = counts(&printed);
            ensure!(
                !counts.is_empty(),
                "{program} printed no counts on {}",
                board.core
            );
            for (what, instructions) in counts {
                let key = format!("{}/{what}", board.key);
                if starts.is_empty() || starts.iter().any(|start| key.starts_with(start)) {
                    rows.push(Row {
                        baseline: baseline.get(&key),
                        key,
                        backend: String::new(),
                        instructions,
                    });
                }
            }
        }
    }
    ensure!(
        !rows.is_empty(),
        "no key starts with {}: cargo xtask bench --mcu prints them all",
        starts.join(" or ")
    );
    let toolchain = baseline::toolchain()?;
    match as_json {
        true => println!("{:#}", tree(&rows, &toolchain)?),
        false => print!("{}", table(&rows)),
    }
    if accept {
        let counts = rows.into_iter().map(|row| (row.key, row.instructions));
        return baseline.accept(counts, starts.is_empty(), toolchain);
    }
    judge(&rows, &baseline, &toolchain)
}

/// The counts in what a program printed, by what they are of.
fn counts(printed: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in printed.lines() {
        let words: Vec<&str> = line
            .split([' ', ':', ','])
            .filter(|w| !w.is_empty())
            .collect();
        let (what, count) = match words[..] {
            ["network", network, count] => (network.to_owned(), count),
            ["stage", network, stage, count] => (format!("{network}/stages/{stage}"), count),
            ["layer", network, number, stage, count] => {
                (format!("{network}/layers/{number:0>2}-{stage}"), count)
            }
            [what @ ("fft1024" | "frontend_frame"), count] => (what.to_owned(), count),
            [
                "instructions",
                "per",
                "second",
                "of",
                "audio",
                count,
                "in",
                "all",
                front_end,
                ..,
            ] => {
                let what = "genre_front_end_per_second".to_owned();
                if let Ok(front_end) = front_end.parse() {
                    counts.insert(what, front_end);
                }
                ("genre_per_second".to_owned(), count)
            }
            _ => continue,
        };
        if let Ok(count) = count.parse() {
            counts.insert(what, count);
        }
    }
    counts
}

/// By core, then by network or what else was counted. What has parts has them beside, under its
/// name with `_stages` and `_layers`.
fn tree(rows: &[Row], toolchain: &str) -> anyhow::Result<Value> {
    let mut tree = json!({ "schema_version": 1, "toolchain": toolchain });
    for row in rows {
        let mut parts = row.key.split('/');
        let (core, what) = (parts.next(), parts.next());
        let (core, what) = core.zip(what).context("a key is core/what")?;
        let core = &mut tree[core];
        match (parts.next(), parts.next()) {
            (Some(group), Some(part)) => {
                core[format!("{what}_{group}")][part] = row.instructions.into();
            }
            _ => core[what] = row.instructions.into(),
        }
    }
    ensure!(tree.is_object(), "an object stays one");
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "backend armv7em\n\
        network a: 41000123\n\
        arena a: 70000\n\
        stripe a 4: 39000000, 80000\n\
        stage a depthwise 9\n\
        layer a 3 depthwise 7\n\
        fft1024: 38433\n\
        fft1024_snr_db_at_0_dbfs: 130.1\n\
        frontend_frame: 61964\n\
        instructions per second of audio: 87595844 in all, 7913416 front end, 79682428 network, decision and interrupts; at most 15 for a block of 10 ms\n";

    #[test]
    fn the_programs_lines_become_counts_and_nothing_else_does() {
        let expected = [
            ("a", 41_000_123),
            ("a/layers/03-depthwise", 7),
            ("a/stages/depthwise", 9),
            ("fft1024", 38_433),
            ("frontend_frame", 61_964),
            ("genre_front_end_per_second", 7_913_416),
            ("genre_per_second", 87_595_844),
        ];
        let expected = expected.map(|(what, count)| (what.to_owned(), count));
        assert_eq!(counts(PRINTED), BTreeMap::from(expected));
    }

    #[test]
    fn json_is_by_core_and_network() {
        let rows: Vec<Row> = counts(PRINTED)
            .into_iter()
            .map(|(what, instructions)| Row {
                key: format!("m4/{what}"),
                backend: String::new(),
                instructions,
                baseline: None,
            })
            .collect();
        let tree = tree(&rows, "rustc").expect("keys are well formed");
        assert_eq!(tree["m4"]["a"], 41_000_123);
        assert_eq!(tree["m4"]["frontend_frame"], 61_964);
        assert_eq!(tree["m4"]["genre_per_second"], 87_595_844);
        assert_eq!(tree["m4"]["a_layers"]["03-depthwise"], 7);
        assert_eq!(tree["m4"]["a_stages"]["depthwise"], 9);
    }

    #[test]
    fn peers_are_of_boards_that_there_are() {
        for (key, _) in BEST_PEERS {
            assert!(
                BOARDS
                    .iter()
                    .any(|board| key.starts_with(&format!("{}/", board.key))),
                "{key}"
            );
        }
    }
}
