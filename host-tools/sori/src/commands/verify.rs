//! `sori verify`: this machine computes the bits that the package promises.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::exit::Failure;
use crate::{output, package};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The package
    #[arg(value_name = "FILE.sori")]
    model: PathBuf,
}

impl Verify {
    pub(crate) fn run(self) -> Result<()> {
        let bytes = package::read(&self.model)?;
        let parsed = package::parse(&bytes, &self.model)?;
        let verified = sori_quantize::verify(&parsed)
            .map_err(|mismatch| Failure::Incompatible(mismatch.to_string()))
            .with_context(|| format!("{} does not hold", self.model.display()))?;
        output::line(&format!(
            "{}: {} feature rows and {} output rows, in stripes of {} rows: every bit is equal",
            self.model.display(),
            verified.feature_rows,
            verified.output_rows,
            sori_quantize::VERIFIED_STRIPES
                .map(|stripe| stripe.to_string())
                .join(", ")
        ))
    }
}
