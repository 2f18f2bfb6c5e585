//! `cargo xtask bench`: exact instruction counts against a checked-in baseline, so that a
//! slower kernel shows in review.
//!
//! Time varies with the machine and its neighbours; executed instructions do not. They are
//! not cycles, for which [`mca`] asks a model of the processor.

mod baseline;
mod count;
mod mca;
mod mcu;

use anyhow::{bail, ensure};
use serde_json::json;

use crate::ci::PI_CORES;
use baseline::Baseline;
use count::{Counters, Processor, Program};

const USAGE: &str = "cargo xtask bench [--mcu] [--accept | --mca] [--json] [START-OF-KEY…]";

const BASELINE: &str = "host-tools/xtask/bench-baseline.json";
const ACCEPT: &str = "cargo xtask bench --accept";

/// For the end of `ci`.
pub(crate) const HOLDS: &str = "\
   not run here; cargo xtask bench (about a minute once built) holds:
     instruction counts of all networks, of streaming and of the front end, on the Pi's cores
     and here, against host-tools/xtask/bench-baseline.json";

/// What `ci` counts: fast, and the same on every machine, unlike what is built for this one.
pub(crate) const IN_CI: &str = "cargo xtask bench cortex-a53/a/ cortex-a76/a/";

/// Counts beyond this part of the baseline fail.
const TOLERANCE_PERCENT: u64 = 1;

/// The streaming cost may not grow. Where a copy begins may cost this machine's C library some
/// instructions.
const FLAT_PERMILLE: u64 = 5;

const SECOND: &str = "second";
const SECOND_LATER: &str = "second-100-s-later";

/// The fewest instructions for one inference that any engine needed, measured under the same
/// QEMU with the same plugin, on networks of the same shapes: the best of LiteRT 2.3 with
/// XNNPACK, int8 or float, and ONNX Runtime 1.32, int8.
const BEST_PEERS: [(&str, u64); 6] = [
    ("cortex-a53/1.0-224/clip", 119_830_000),
    ("cortex-a53/a/clip", 7_620_000),
    ("cortex-a72/1.0-224/clip", 113_700_000),
    ("cortex-a72/a/clip", 6_980_000),
    ("cortex-a76/1.0-224/clip", 49_200_000),
    ("cortex-a76/a/clip", 4_190_000),
];

/// One count. Its key is `processor/network or audio/what`.
struct Case {
    key: String,
    processor: Processor,
    program: Program,
    arguments: Vec<&'static str>,
}

struct Row {
    key: String,
    backend: String,
    instructions: u64,
    baseline: Option<u64>,
}

impl Row {
    fn best_peer(&self) -> Option<u64> {
        let mut peers = BEST_PEERS.iter().chain(&mcu::BEST_PEERS);
        let peer = peers.find(|(key, _)| *key == self.key)?;
        Some(peer.1)
    }

    fn is_slower(&self) -> bool {
        self.baseline
            .is_none_or(|baseline| self.instructions * 100 > baseline * (100 + TOLERANCE_PERCENT))
    }

    fn is_faster(&self) -> bool {
        self.baseline
            .is_some_and(|baseline| self.instructions * 100 < baseline * (100 - TOLERANCE_PERCENT))
    }
}

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (options, starts): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|argument| argument.starts_with('-'));
    let has = |option: &str| options.contains(&option);
    let unknown = options
        .iter()
        .find(|option| !["--accept", "--json", "--mca", "--mcu"].contains(option));
    if let Some(option) = unknown {
        bail!("unknown option {option}: {USAGE}");
    }
    if has("--mca") {
        ensure!(
            !has("--accept") && starts.is_empty(),
            "--mca has no baseline and takes no keys: {USAGE}"
        );
        return match has("--mcu") {
            true => mca::cortex_m::run(has("--json")),
            false => mca::run(has("--json")),
        };
    }
    if has("--mcu") {
        return mcu::run(&starts, has("--json"), has("--accept"));
    }
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| starts.is_empty() || starts.iter().any(|start| case.key.starts_with(start)))
        .collect();
    ensure!(
        !cases.is_empty(),
        "no key starts with {}: cargo xtask bench without keys prints them all",
        starts.join(" or ")
    );
    let baseline = Baseline::read(BASELINE, ACCEPT)?;
    let rows = count(cases, &baseline)?;
    let toolchain = baseline::toolchain()?;
    if has("--json") {
        println!("{:#}", json(&rows, &toolchain));
    } else {
        print!("{}", table(&rows));
    }
    is_flat(&rows)?;
    if has("--accept") {
        let counts = rows.into_iter().map(|row| (row.key, row.instructions));
        return baseline.accept(counts, starts.is_empty(), toolchain);
    }
    judge(&rows, &baseline, &toolchain)
}

fn cases() -> Vec<Case> {
    let mut processors: Vec<Processor> = PI_CORES.map(Processor::Emulated).into();
    if cfg!(target_arch = "x86_64") {
        // Valgrind knows no AVX-512.
        processors.extend(["avx2", "scalar"].map(Processor::Host));
    }
    let networks = [
        ("1.0-224", "clip", "count"),
        ("a", "clip", "count"),
        ("b", "clip", "count"),
        ("a", SECOND, "count-rows"),
        ("a", SECOND_LATER, "count-rows-later"),
    ];
    let audio = [
        ("front-end", "frontend"),
        ("microfft-f32-only", "microfft"),
        ("from-44100-hz", "44100"),
        ("from-48000-hz", "48000"),
    ];
    let mut cases = Vec::new();
    for processor in processors {
        let mut case = |key: String, program, mut arguments: Vec<&'static str>| {
            if let Processor::Host(backend) = processor {
                arguments.push(backend);
            }
            cases.push(Case {
                key: format!("{processor}/{key}"),
                processor,
                program,
                arguments,
            });
        };
        for (network, what, mode) in networks {
            case(
                format!("{network}/{what}"),
                Program::Inference,
                vec![network, mode],
            );
        }
        for (what, stage) in audio {
            case(format!("audio/{what}"), Program::FrontEnd, vec![stage]);
        }
    }
    cases
}

fn count(cases: Vec<Case>, baseline: &Baseline) -> anyhow::Result<Vec<Row>> {
    let mut counters = Counters::default();
    let mut rows = Vec::new();
    for case in cases {
        // Not to stdout, which may be JSON.
        eprintln!("   {}", case.key);
        let counted = counters.count(case.processor, case.program, &case.arguments)?;
        rows.push(Row {
            baseline: baseline.get(&case.key),
            key: case.key,
            backend: counted.backend,
            instructions: counted.instructions,
        });
    }
    Ok(rows)
}

fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "\n{:34} {:8} {:>10} {:>10} {:>6}  {:>10} {:>6}\n",
        "million instructions", "backend", "count", "baseline", "ratio", "best peer", "ratio"
    );
    let beside = |instructions: u64, other: Option<u64>| match other {
        Some(other) => format!(
            "{:10.3} {:6.3}",
            other as f64 / 1e6,
            instructions as f64 / other as f64
        ),
        None => format!("{:>10} {:>6}", "-", "-"),
    };
    for row in rows {
        let line = format!(
            "{:34} {:8} {:10.3} {}  {}",
            row.key,
            row.backend,
            row.instructions as f64 / 1e6,
            beside(row.instructions, row.baseline),
            match row.best_peer() {
                None => String::new(),
                peer => beside(row.instructions, peer),
            }
        );
        table += line.trim_end();
        table += "\n";
    }
    table
}

fn json(rows: &[Row], toolchain: &str) -> serde_json::Value {
    let counts: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "key": row.key,
                "backend": row.backend,
                "instructions": row.instructions,
                "baseline": row.baseline,
                "best_peer": row.best_peer(),
            })
        })
        .collect();
    json!({ "schema_version": 1, "toolchain": toolchain, "counts": counts })
}

/// A stream that went on for longer costs the same.
fn is_flat(rows: &[Row]) -> anyhow::Result<()> {
    for later in rows {
        let Some(stem) = later.key.strip_suffix(SECOND_LATER) else {
            continue;
        };
        let first = rows.iter().find(|row| row.key == format!("{stem}{SECOND}"));
        if let Some(first) = first {
            ensure!(
                later.instructions * 1000 <= first.instructions * (1000 + FLAT_PERMILLE),
                "{} costs {}, but {} only {}: find what grows with the stream",
                later.key,
                later.instructions,
                first.key,
                first.instructions
            );
        }
    }
    Ok(())
}

fn judge(rows: &[Row], baseline: &Baseline, toolchain: &str) -> anyhow::Result<()> {
    for row in rows.iter().filter(|row| row.is_faster()) {
        eprintln!("   {} is faster than its baseline", row.key);
    }
    if rows.iter().any(Row::is_faster) {
        eprintln!("   to keep that: {}", baseline.accept_command());
    }
    let slower: Vec<String> = rows
        .iter()
        .filter(|row| row.is_slower())
        .map(|row| match row.baseline {
            Some(baseline) => format!(
                "\n   {}: {} instructions, {:+.1} %",
                row.key,
                row.instructions,
                (row.instructions as f64 / baseline as f64 - 1.0) * 100.0
            ),
            None => format!("\n   {}: no baseline", row.key),
        })
        .collect();
    if slower.is_empty() {
        return Ok(());
    }
    let why = match &baseline.toolchain {
        Some(of) if of != toolchain => {
            format!("\nThe baseline is {of}'s and this is {toolchain}, which alone may explain it.")
        }
        _ => String::new(),
    };
    bail!(
        "more than {TOLERANCE_PERCENT} % above the baseline:{}{why}\nUndo the change, or accept it and say in the commit what it gains: {}",
        slower.concat(),
        baseline.accept_command()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, instructions: u64, baseline: Option<u64>) -> Row {
        Row {
            key: key.to_owned(),
            backend: String::new(),
            instructions,
            baseline,
        }
    }

    #[test]
    fn more_than_a_percent_above_the_baseline_fails_and_names_the_count() {
        let baseline = Baseline::empty("", "");
        let judge = |row| judge(&[row], &baseline, "rustc");
        judge(row("a", 1010, Some(1000))).expect("exactly a percent passes");
        judge(row("a", 500, Some(1000))).expect("faster passes");
        let slower = judge(row("a/clip", 1011, Some(1000))).expect_err("1.1 % fails");
        assert!(slower.to_string().contains("a/clip: 1011"), "{slower}");
        let unknown = judge(row("new", 1, None)).expect_err("an unknown count fails");
        assert!(unknown.to_string().contains("new: no baseline"));
    }

    #[test]
    fn a_stream_that_costs_more_later_fails() {
        let rows = |later| {
            [
                row("x/a/second", 10_000, None),
                row("x/a/second-100-s-later", later, None),
            ]
        };
        is_flat(&rows(10_050)).expect("flat");
        let error = is_flat(&rows(10_051)).expect_err("it grows");
        assert!(error.to_string().contains("x/a/second-100-s-later costs"));
    }

    #[test]
    fn keys_are_unique_and_each_peer_has_one() {
        let mut keys: Vec<String> = cases().into_iter().map(|case| case.key).collect();
        for (peer, _) in BEST_PEERS {
            assert!(keys.iter().any(|key| key == peer), "{peer}");
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
