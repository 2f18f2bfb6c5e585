//! Looks for inputs that break a promise of `tests/hostile`, by libFuzzer.

use std::fs;

use anyhow::{Context as _, bail, ensure};

use crate::steps::{Step, Steps};
use crate::tools;

/// Where libFuzzer's programs are, and what they found interesting.
const FUZZ: &str = "tests/fuzz";
/// What is kept of that, from there.
const KEPT: &str = "../hostile/corpus";

/// More than this is a leak, or memory that the input does not explain.
const MEGABYTES: u32 = 2048;

/// Each target that is named, or all, for so many seconds; then what reached code that the kept
/// corpus had not joins that.
pub(crate) fn run(steps: &mut Steps, seconds: u32, names: &[String]) -> anyhow::Result<()> {
    if !tools::succeeds("cargo", &["fuzz", "--version"]) {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz");
    }
    let listed = steps.output(&Step::new(
        "fuzzing: seeds",
        &format!("cargo run --quiet -p sori-hostile -- {FUZZ}/corpus"),
    ))?;
    let targets: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| names.is_empty() || names.iter().any(|named| named == name))
        .collect();
    ensure!(
        !targets.is_empty() && (names.is_empty() || names.len() == targets.len()),
        "the targets are:\n{listed}"
    );
    for (name, longest) in targets {
        let (found, kept) = (format!("corpus/{name}"), format!("{KEPT}/{name}"));
        for folder in [&found, &kept] {
            fs::create_dir_all(format!("{FUZZ}/{folder}")).context("a folder for the corpus")?;
        }
        let fuzz = format!("cargo +nightly fuzz run {name}");
        let limits = format!("-max_len={longest} -rss_limit_mb={MEGABYTES} -timeout=60");
        steps.run(
            &Step::new(
                &format!("fuzzing: {name}"),
                &format!("{fuzz} {found} {kept} -- {limits} -max_total_time={seconds}"),
            )
            .within(FUZZ),
        )?;
        steps.run(
            &Step::new(
                &format!("what is kept of {name}"),
                &format!("{fuzz} {kept} {found} -- {limits} -set_cover_merge=1"),
            )
            .within(FUZZ),
        )?;
    }
    Ok(())
}
