//! `sori verify`: this machine computes the bits that the package promises.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use sori_nn::Backend;

use crate::backend::Weights;
use crate::exit::Failure;
use crate::{output, package};

#[derive(Debug, Args)]
#[command(after_help = "Example: sori verify --backend all model.sori")]
pub(crate) struct Verify {
    /// The package
    #[arg(value_name = "FILE.sori")]
    model: PathBuf,
}

impl Verify {
    pub(crate) fn run(self, backends: &[Backend]) -> Result<()> {
        let bytes = package::read(&self.model)?;
        let parsed = package::parse(&bytes, &self.model)?;
        for &backend in backends {
            let mut weights = Weights::new(&parsed, backend);
            let prepared = weights.prepare(&parsed, backend)?;
            let verified = sori_quantize::verify(&prepared)
                .map_err(|mismatch| Failure::Incompatible(mismatch.to_string()))
                .with_context(|| format!("{} does not hold on {backend}", self.model.display()))?;
            output::line(&format!(
                "{}: {} feature rows and {} output rows on {backend}, in stripes of {} rows: every bit is equal",
                self.model.display(),
                verified.feature_rows,
                verified.output_rows,
                sori_quantize::VERIFIED_STRIPES
                    .map(|stripe| stripe.to_string())
                    .join(", ")
            ))?;
        }
        Ok(())
    }
}
