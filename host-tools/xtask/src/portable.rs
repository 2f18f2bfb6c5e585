//! That `sori`, its tests with it, compiles for the systems that only its users have. It needs
//! neither their linkers nor their libraries. The feature `quantize` would need their assemblers:
//! CI on GitHub builds it there.

use crate::steps::{Step, Steps};
use crate::tools;

const WINDOWS: &str = "x86_64-pc-windows-gnu";
const MACOS: &str = "aarch64-apple-darwin";

/// Both.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    check(&mut steps, &[WINDOWS, MACOS])?;
    steps.summary();
    Ok(())
}

/// For `ci`: the one that differs more. A job on GitHub builds and tests on each.
pub(crate) fn in_ci(steps: &mut Steps) -> anyhow::Result<()> {
    check(steps, &[WINDOWS])
}

/// With what brings libraries of those systems, and without; and this program, which makes
/// releases there.
fn check(steps: &mut Steps, targets: &[&str]) -> anyhow::Result<()> {
    tools::require_targets(targets)?;
    let options: String = targets
        .iter()
        .map(|target| format!(" --target {target}"))
        .collect();
    for what in [
        "-p sori -p xtask --all-targets --features sori/microphone",
        "-p sori",
    ] {
        let title = format!("{what} compiles for {}", targets.join(" and "));
        let command = format!("cargo check --locked {what}{options}");
        steps.run(&Step::new(&title, &command).with(&[("RUSTFLAGS", "-D warnings")]))?;
    }
    Ok(())
}
