//! `sori features`: the device's feature rows as NumPy arrays, so that training
//! and device cannot differ.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use sori_dsp::design::MelSpec;
use sori_host::contract::Contract;
use sori_package::MelContract;

use crate::exit::Failure;
use crate::{audio, batch, frontend, npy, output, package};

#[derive(Debug, Args)]
pub(crate) struct Features {
    /// Audio files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    inputs: Vec<PathBuf>,
    /// Output folder for the .npy files; mirrors the input's folders
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Mel settings from a contract file instead of the defaults
    #[arg(long, value_name = "FILE.toml", conflicts_with = "model")]
    contract: Option<PathBuf>,
    /// Mel settings from a package
    #[arg(long, value_name = "FILE.sori")]
    model: Option<PathBuf>,
    /// Also write each row's level (int32, 1/256 dBFS) to NAME.level.npy
    #[arg(long)]
    levels: bool,
}

impl Features {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(path) = &self.model {
            let bytes = package::read(path)?;
            let parsed = package::parse(&bytes, path)?;
            let mel = package::mel(&parsed, path)?;
            return self.write_all(&mel);
        }
        let spec = match &self.contract {
            Some(path) => Contract::read(path)?.mel,
            None => MelSpec::default(),
        };
        let tables = spec.tables()?;
        self.write_all(&tables.contract())
    }

    fn write_all(&self, mel: &MelContract<'_>) -> Result<()> {
        let sources = audio::find(&self.inputs)?;
        let mut targets = HashMap::new();
        for source in &sources {
            if let Some(other) = targets.insert(self.target(source), &source.path) {
                return Err(Failure::Usage(format!(
                    "{} and {} would both be written to {}: rename one, or use different output folders",
                    other.display(),
                    source.path.display(),
                    self.target(source).display()
                ))
                .into());
            }
        }
        batch::run(
            &sources,
            |_, source| self.write_one(mel, source),
            |_, source, warnings| {
                batch::warn(source, warnings.as_deref().unwrap_or_default());
                Ok(())
            },
        )
    }

    fn target(&self, source: &audio::Source) -> PathBuf {
        self.out.join(&source.relative).with_extension("npy")
    }

    fn write_one(&self, mel: &MelContract<'_>, source: &audio::Source) -> Result<Vec<String>> {
        let rows = frontend::rows_of(&source.path, mel)?;
        let target = self.target(source);
        let matrix = npy::int8_matrix(&rows.features, mel.bands);
        output::write_atomically(&target, &matrix)?;
        if self.levels {
            let levels = npy::int32_vector(&rows.levels_dbfs_q8);
            output::write_atomically(&target.with_extension("level.npy"), &levels)?;
        }
        Ok(rows.warnings)
    }
}
