//! The accepted counts.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::tools;

const SCHEMA_VERSION: u64 = 1;

pub(super) struct Baseline {
    file: &'static str,
    /// What writes it.
    accept: &'static str,
    /// The compiler that made what was counted.
    pub(super) toolchain: Option<String>,
    instructions: BTreeMap<String, u64>,
}

impl Baseline {
    /// What has no file yet.
    pub(super) fn empty(file: &'static str, accept: &'static str) -> Self {
        Self {
            file,
            accept,
            toolchain: None,
            instructions: BTreeMap::new(),
        }
    }

    /// What the file says; nothing if there is none. `accept` is the command that writes it.
    pub(super) fn read(file: &'static str, accept: &'static str) -> anyhow::Result<Self> {
        let baseline = Self::empty(file, accept);
        match std::fs::read_to_string(file) {
            Ok(text) => baseline
                .parse(&text)
                .with_context(|| format!("{file} is damaged: git checkout {file}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(baseline),
            Err(error) => Err(error).context(file),
        }
    }

    fn parse(self, text: &str) -> anyhow::Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        ensure!(
            file["schema_version"] == SCHEMA_VERSION,
            "its schema_version is not {SCHEMA_VERSION}"
        );
        let toolchain = file["toolchain"].as_str().context("no toolchain")?;
        Ok(Self {
            toolchain: Some(toolchain.to_owned()),
            instructions: serde_json::from_value(file["instructions"].clone())
                .context("instructions")?,
            ..self
        })
    }

    /// The command that accepts new counts.
    pub(super) fn accept_command(&self) -> &'static str {
        self.accept
    }

    pub(super) fn get(&self, key: &str) -> Option<u64> {
        self.instructions.get(key).copied()
    }

    /// Writes the counts to the file: instead of what it has if they are `all`, else beside.
    pub(super) fn accept(
        mut self,
        counts: impl Iterator<Item = (String, u64)>,
        all: bool,
        toolchain: String,
    ) -> anyhow::Result<()> {
        if all {
            self.instructions.clear();
        } else if let Some(old) = &self.toolchain {
            ensure!(
                *old == toolchain,
                "the other counts are {old}'s: {}, without keys",
                self.accept
            );
        }
        self.instructions.extend(counts);
        self.toolchain = Some(toolchain);
        std::fs::write(self.file, self.text()).context(self.file)?;
        eprintln!(
            "   accepted; commit {} with the change that moved the counts",
            self.file
        );
        Ok(())
    }

    fn text(&self) -> String {
        let file = json!({
            "schema_version": SCHEMA_VERSION,
            "toolchain": self.toolchain,
            "instructions": self.instructions,
        });
        format!("{file:#}\n")
    }
}

/// The compiler's version line.
pub(super) fn toolchain() -> anyhow::Result<String> {
    let output = tools::captured(Command::new("rustc").arg("--version"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let baseline = Baseline {
            toolchain: Some("rustc 1".to_owned()),
            instructions: [("a".to_owned(), 7)].into(),
            ..Baseline::empty("", "")
        };
        let read = Baseline::empty("", "")
            .parse(&baseline.text())
            .expect("it was just written");
        assert_eq!(read.get("a"), Some(7));
        assert_eq!(read.get("b"), None);
        assert_eq!(read.toolchain, baseline.toolchain);
    }

    #[test]
    fn another_schema_is_refused() {
        let other = Baseline::empty("", "").parse(r#"{"schema_version": 2}"#);
        assert!(other.is_err());
    }
}
