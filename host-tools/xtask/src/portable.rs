//! That `sori`, its tests with it, compiles for the systems that only its users have. It needs
//! neither their linkers nor their libraries. The feature `quantize` would need their assemblers:
//! CI on GitHub builds it there.

use crate::steps::{Step, Steps};
use crate::tools;

const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];

/// For `ci`. With what brings libraries of those systems, and without; and this program, which
/// makes releases there.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    tools::require_targets(&TARGETS)?;
    let targets: String = TARGETS
        .iter()
        .map(|target| format!(" --target {target}"))
        .collect();
    for what in [
        "-p sori -p xtask --all-targets --features sori/microphone",
        "-p sori",
    ] {
        let title = format!("{what} compiles for Windows and macOS");
        let command = format!("cargo check --locked {what}{targets}");
        steps.run(&Step::new(&title, &command).with(&[("RUSTFLAGS", "-D warnings")]))?;
    }
    Ok(())
}
