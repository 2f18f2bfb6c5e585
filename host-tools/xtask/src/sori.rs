//! The command `sori`, for those that try it from outside.

use crate::steps::{Step, Steps};
use crate::tools;

/// Where [`build`] puts it.
pub const SORI: &str = "target/debug/sori";

/// With the features that `ci` tests it with, so that nothing is compiled a second time.
pub fn build(steps: &mut Steps) -> anyhow::Result<()> {
    require_libraries()?;
    steps.run(&Step::new(
        "sori itself",
        "cargo build --workspace --all-features --bin sori",
    ))
}

/// What its features, and sori-pi's, link.
pub fn require_libraries() -> anyhow::Result<()> {
    match cfg!(target_os = "linux") {
        true => tools::require_library("alsa", "libasound2-dev"),
        false => Ok(()),
    }
}
