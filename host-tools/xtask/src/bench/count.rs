//! Builds the programs of `tests/counts` and runs them where their instructions are counted.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::tools;

const PLUGIN_SOURCE: &str = "host-tools/xtask/qemu/insn_count.c";
pub(super) const AARCH64: &str = "aarch64-unknown-linux-musl";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Program {
    /// The network.
    Inference,
    /// Resampler and front end.
    FrontEnd,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Processor {
    /// A core under QEMU, with the backend that detection chooses there.
    Emulated(&'static str),
    /// This machine under Valgrind, with a backend.
    Host(&'static str),
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emulated(core) => write!(f, "{core}"),
            Self::Host(backend) => write!(f, "host-{backend}"),
        }
    }
}

pub(super) struct Counted {
    pub(super) instructions: u64,
    /// What the program says it used, if it says so.
    pub(super) backend: String,
}

/// Makes ready what counting needs, once each.
#[derive(Default)]
pub(super) struct Counters {
    built: HashMap<(Program, bool), PathBuf>,
    plugin: Option<PathBuf>,
    has_valgrind: bool,
}

impl Counters {
    pub(super) fn count(
        &mut self,
        processor: Processor,
        program: Program,
        arguments: &[&str],
    ) -> anyhow::Result<Counted> {
        let target = match processor {
            Processor::Emulated(_) => Some(AARCH64),
            Processor::Host(_) => None,
        };
        let built = match self.built.get(&(program, target.is_some())) {
            Some(built) => built.clone(),
            None => {
                let built = build(program, target)?;
                self.built
                    .insert((program, target.is_some()), built.clone());
                built
            }
        };
        let (mut command, label) = match processor {
            Processor::Emulated(core) => {
                let mut command = Command::new("qemu-aarch64");
                command.args(["-cpu", core, "-d", "plugin", "-plugin"]);
                command.arg(self.plugin(&built)?);
                (command, "insns:")
            }
            Processor::Host(_) => {
                self.require_valgrind()?;
                let mut command = Command::new("valgrind");
                command.args([
                    "--tool=callgrind",
                    "--callgrind-out-file=/dev/null",
                    // As some versions print a function's name, and as others do.
                    "--toggle-collect=*::counted",
                    "--toggle-collect=*::counted::h*",
                ]);
                (command, "Collected :")
            }
        };
        command.arg(&built).args(arguments);
        let output = tools::captured(&mut command)?;
        let log = String::from_utf8_lossy(&output.stderr);
        let instructions = number_after(label, &log)
            .filter(|&count| count > 0)
            .with_context(|| format!("{command:?} counted nothing:\n{log}"))?;
        Ok(Counted {
            instructions,
            backend: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        })
    }

    /// Builds the plugin beside the program that it will count.
    fn plugin(&mut self, program: &Path) -> anyhow::Result<&Path> {
        if self.plugin.is_none() {
            tools::require("qemu-aarch64", "qemu-user")?;
            tools::require("cc", "build-essential")?;
            let plugin = program.with_file_name("insn_count.so");
            let mut compiler = Command::new("cc");
            compiler.args(["-O2", "-shared", "-fPIC", PLUGIN_SOURCE, "-o"]);
            tools::captured(compiler.arg(&plugin))?;
            self.plugin = Some(plugin);
        }
        Ok(self.plugin.as_deref().expect("made above"))
    }

    fn require_valgrind(&mut self) -> anyhow::Result<()> {
        if !self.has_valgrind {
            tools::require("valgrind", "valgrind")?;
            self.has_valgrind = true;
        }
        Ok(())
    }
}

/// A program's file, for this machine or a target.
pub(super) fn build(program: Program, target: Option<&str>) -> anyhow::Result<PathBuf> {
    let name = match program {
        Program::Inference => "inference",
        Program::FrontEnd => "frontend",
    };
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--profile", "dist", "--package", "sori-counts"]);
    cargo.args(["--bin", name]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    if let Some(target) = target {
        tools::require_targets(&[target])?;
        cargo.args(["--target", target]);
    }
    // What a person usually compiles with, target-cpu=native say, is not what is compared.
    cargo.env_remove("RUSTFLAGS").stderr(Stdio::inherit());
    let output = tools::captured(&mut cargo)?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("{cargo:?} named no program"))
}

/// The number that follows a label in what a tool printed.
pub(super) fn number_after(label: &str, printed: &str) -> Option<u64> {
    let (_, after) = printed.split_once(label)?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_what_the_tools_print() {
        let callgrind = "==1== Events    : Ir\n==1== Collected : 6564461\n==1== \n";
        assert_eq!(number_after("Collected :", callgrind), Some(6_564_461));
        assert_eq!(number_after("insns:", "insns: 7737891\n"), Some(7_737_891));
        assert_eq!(number_after("insns:", "Illegal instruction\n"), None);
    }
}
