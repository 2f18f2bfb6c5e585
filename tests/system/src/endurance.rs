//! What takes longer than a commit should: hours and days of input, an interpreter that sees
//! undefined behaviour, and fuzzing.

use anyhow::bail;

use crate::steps::{Step, Steps};
use crate::{dist, flash, fuzz, image, package_test, tools};

const FUZZ_SECONDS: u32 = 600;

pub(crate) fn run() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    dist::check_twice(&mut steps)?;
    package_test::check(&mut steps)?;
    flash::on_devices()?;
    image::check(&mut steps)?;
    soak(&mut steps)?;
    steps.run(&Step::new(
        "the recipe for CI of a network of one's own: a package on the boards",
        "sh models/ci/boards.sh models/genre/genre.sori",
    ))?;
    miri(&mut steps)?;
    fuzz::run(&mut steps, FUZZ_SECONDS, &[])?;
    steps.summary();
    Ok(())
}

fn soak(steps: &mut Steps) -> anyhow::Result<()> {
    steps.run(&Step::new(
        "an hour of noise through the listener",
        "cargo test --release -p sori-conformance --test soak -- --ignored --nocapture",
    ))?;
    steps.run(
        &Step::new(
            "a day of sound through sori-pi",
            "cargo test --release -p sori-pi --test soak -- --nocapture",
        )
        .with(&[("SORI_SOAK_HOURS", "24")]),
    )
}

/// Interpreted code is some thousand times slower: few random cases, small networks.
pub(crate) fn miri(steps: &mut Steps) -> anyhow::Result<()> {
    if !tools::succeeds("cargo", &["+nightly", "miri", "--version"]) {
        bail!("Miri is missing: rustup toolchain install nightly --component miri,rust-src");
    }
    let environment = [
        ("PROPTEST_CASES", "3"),
        // proptest reads the clock and its own source's place.
        ("MIRIFLAGS", "-Zmiri-disable-isolation"),
    ];
    for (title, command) in [
        (
            "Miri: sori-package",
            "cargo +nightly miri test -p sori-package --test suite -- round_trip:: damage::repaired damage::only",
        ),
        (
            "Miri: sori-dsp",
            "cargo +nightly miri test -p sori-dsp --lib",
        ),
        (
            "Miri: sori-nn, requantization and softmax",
            "cargo +nightly miri test -p sori-nn --lib",
        ),
        (
            "Miri: the listener, a moment of noise",
            "cargo +nightly miri test -p sori-conformance --test soak",
        ),
    ] {
        steps.run(&Step::new(title, command).with(&environment))?;
    }
    Ok(())
}
