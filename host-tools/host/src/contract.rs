//! The contract: a hand-written file with everything a network was trained with. Mel settings,
//! input scale, length of the running mean, labels, decision thresholds.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use sori_dsp::design::MelSpec;
use sori_package::{DecisionRule, Thresholds};

/// A contract file, TOML. `models/genre/contract.toml` is an example.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The network's name.
    pub name: String,
    /// One per class, in the order of the logits.
    pub labels: Vec<String>,
    /// The front end.
    #[serde(default)]
    pub mel: MelSpec,
    /// How int8 features map to the floats that the network was trained on.
    pub input: Input,
    /// Lengths.
    pub network: Network,
    /// Decision thresholds.
    #[serde(default)]
    pub decision: Decision,
}

/// `float = (int8 − zero_point) · scale`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Float per feature step.
    pub scale: f32,
    /// Feature value that was 0.0.
    #[serde(default)]
    pub zero_point: i8,
}

/// Lengths, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Output rows in the running mean, K.
    pub pool_rows: u16,
    /// Feature rows of a clip as trained.
    pub nominal_rows: u32,
}

/// When a listener says `silence`, a label or `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decision {
    /// Quieter rows are silence, dBFS.
    pub silence_dbfs: f64,
    /// Seconds of silence before it is reported.
    pub silence_seconds: f64,
    /// A label is named from this probability on.
    pub enter: f64,
    /// A named label is kept down to this probability.
    pub leave: f64,
    /// New probabilities enter with weight 2^-smoothing_shift.
    pub smoothing_shift: u8,
}

impl Default for Decision {
    fn default() -> Self {
        Self {
            silence_dbfs: -70.0,
            silence_seconds: 1.0,
            enter: 0.45,
            leave: 0.30,
            smoothing_shift: 1,
        }
    }
}

impl Contract {
    /// Reads a contract file.
    ///
    /// # Errors
    /// Names the file, and the line and key that are wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::file::read_text(path)
            .with_context(|| format!("cannot read {}: check the path", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a contract", path.display()))
    }

    /// Parses and checks a contract's text.
    ///
    /// # Errors
    /// Names the line and key that are wrong, and what is allowed.
    pub fn parse(text: &str) -> Result<Self> {
        let contract: Self = toml::from_str(text)?;
        contract.mel.tables().context("[mel]")?;
        contract.check()?;
        Ok(contract)
    }

    fn check(&self) -> Result<()> {
        let Self {
            labels,
            input,
            network,
            decision,
            ..
        } = self;
        ensure!(
            !labels.is_empty() && labels.iter().all(|l| !l.is_empty() && !l.contains('\n')),
            "labels: give one name per class, without line breaks"
        );
        ensure!(
            input.scale.is_finite() && input.scale > 0.0,
            "[input] scale is {}: it must be above 0",
            input.scale
        );
        ensure!(
            network.pool_rows >= 1 && network.nominal_rows >= 1,
            "[network] pool_rows and nominal_rows must be at least 1"
        );
        ensure!(
            0.0 <= decision.leave && decision.leave <= decision.enter && decision.enter <= 1.0,
            "[decision] leave is {} and enter is {}: they must satisfy 0 ≤ leave ≤ enter ≤ 1",
            decision.leave,
            decision.enter
        );
        ensure!(
            (-120.0..=0.0).contains(&decision.silence_dbfs),
            "[decision] silence_dbfs is {}: it must be from -120 to 0",
            decision.silence_dbfs
        );
        ensure!(
            (0.0..=60.0).contains(&decision.silence_seconds),
            "[decision] silence_seconds is {}: it must be from 0 to 60",
            decision.silence_seconds
        );
        ensure!(
            decision.smoothing_shift <= 8,
            "[decision] smoothing_shift is {}: it must be from 0 to 8",
            decision.smoothing_shift
        );
        Ok(())
    }

    /// The thresholds in the integers that a package carries.
    pub fn decision_rule(&self) -> DecisionRule {
        let q15 = |p: f64| (p * 32_768.0).round() as u16;
        let rows_per_s = f64::from(self.mel.sample_rate_hz) / self.mel.hop_samples as f64;
        DecisionRule {
            thresholds: Thresholds {
                silence_dbfs_q8: (self.decision.silence_dbfs * 256.0).round() as i32,
                enter_q15: q15(self.decision.enter),
                leave_q15: q15(self.decision.leave),
            },
            smoothing_shift: self.decision.smoothing_shift,
            silence_rows: (self.decision.silence_seconds * rows_per_s).round() as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "
        name = 'genre'
        labels = ['blues', 'jazz']
        [input]
        scale = 0.015625
        [network]
        pool_rows = 20
        nominal_rows = 622
    ";

    #[test]
    fn what_is_not_written_has_the_default() {
        let contract = Contract::parse(MINIMAL).expect("complete");
        assert_eq!(contract.mel, MelSpec::default());
        assert_eq!(contract.decision_rule().silence_rows, 63);
    }

    #[test]
    fn a_refusal_names_the_key() {
        for (change, key) in [
            (("scale = 0.015625", "scale = 0"), "scale"),
            (("scale = 0.015625", "scala = 1.0"), "scala"),
            (("pool_rows = 20", "pool_rows = 0"), "pool_rows"),
            (("'blues'", "''"), "labels"),
            (("[input]", "[mel]\nfft = 7\n[input]"), "fft"),
            (("[input]", "[decision]\nenter = 2.0\n[input]"), "enter"),
        ] {
            let text = MINIMAL.replace(change.0, change.1);
            let message = format!("{:#}", Contract::parse(&text).expect_err(key));
            assert!(message.contains(key), "{message}");
        }
    }
}
