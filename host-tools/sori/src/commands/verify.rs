//! `sori verify`: checks that this machine computes the bits a package promises, and who signed it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use sori_nn::Backend;
use sori_sign::PublicKey;

use crate::backend::Weights;
use crate::commands::sign;
use crate::exit::Failure;
use crate::output::Shown as _;
use crate::{output, package};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sori verify --backend all model.sori
  sori verify --key ed25519:… model.sori     also check the signer")]
pub(crate) struct Verify {
    /// The package
    #[arg(value_name = "FILE.sori")]
    model: PathBuf,
    /// The public key that must have signed it, as `sori sign` prints it
    #[arg(long, value_name = "ed25519:…")]
    key: Option<PublicKey>,
}

impl Verify {
    pub(crate) fn run(self, backends: &[Backend]) -> Result<()> {
        let bytes = package::read(&self.model)?;
        let parsed = package::parse(&bytes, &self.model)?;
        if let Some(key) = &self.key {
            sign::check(&bytes, key, &self.model)?;
            output::line(&format!("{}: signed by {key}", self.model.shown()))?;
        }
        for &backend in backends {
            let mut weights = Weights::new(&parsed, backend);
            let prepared = weights.prepare(&parsed, backend)?;
            let verified = sori_host::verify(&prepared)
                .map_err(|mismatch| Failure::Incompatible(mismatch.to_string()))
                .with_context(|| {
                    format!("{} failed verification on {backend}", self.model.display())
                })?;
            output::line(&format!(
                "{}: {} feature rows and {} output rows on {backend}, in stripes of {} rows: every bit is equal",
                self.model.shown(),
                verified.feature_rows,
                verified.output_rows,
                sori_host::VERIFIED_STRIPES
                    .map(|stripe| stripe.to_string())
                    .join(", ")
            ))?;
        }
        Ok(())
    }
}
