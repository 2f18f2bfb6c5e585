//! `sori completions SHELL`.

use std::io::Write as _;

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<()> {
        // `generate` panics when a pipe closes early; writing to memory cannot fail.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "sori", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(())
    }
}
