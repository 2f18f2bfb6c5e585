//! `sori-pi mic`: what microphones there are, what they hear, and what is wrong with them.
//!
//! Everything that is found is said in words, with why it matters and what to type or which
//! wire to look at.

pub mod boot;
pub mod doctor;
pub mod groups;
pub mod judge;
pub mod list;
pub mod test;

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

pub use doctor::doctor;
pub use judge::{Listened, judge, listen};
pub use list::list;
pub use test::test;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It does not work, or not for long.
    Problem,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: String,
    /// Why it matters; empty where it is plain.
    pub why: String,
    /// The line to type, or the wire to look at.
    pub fix: Option<String>,
}

impl Finding {
    fn new(severity: Severity, what: impl Into<String>) -> Self {
        Self {
            severity,
            what: what.into(),
            why: String::new(),
            fix: None,
        }
    }

    pub(crate) fn ok(what: impl Into<String>) -> Self {
        Self::new(Severity::Ok, what)
    }

    pub(crate) fn note(what: impl Into<String>) -> Self {
        Self::new(Severity::Note, what)
    }

    pub(crate) fn problem(what: impl Into<String>) -> Self {
        Self::new(Severity::Problem, what)
    }

    pub(crate) fn why(self, why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            ..self
        }
    }

    pub(crate) fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn write(&self, out: &mut impl Write, terminal: Terminal) -> io::Result<()> {
        let (mark, colour) = match self.severity {
            Severity::Ok => ("ok", "32"),
            Severity::Note => ("note", "33"),
            Severity::Problem => ("PROBLEM", "31"),
        };
        let mark = terminal.coloured(mark, colour);
        writeln!(out, "{mark}: {}", self.what)?;
        if !self.why.is_empty() {
            writeln!(out, "    {}", self.why)?;
        }
        if let Some(fix) = &self.fix {
            writeln!(out, "    -> {fix}")?;
        }
        Ok(())
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Ok,
    /// Something is wrong.
    Problems,
    /// There is no such microphone.
    NotFound,
}

impl Outcome {
    /// For the shell.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Problems => 1,
            Self::NotFound => 4,
        }
    }

    fn of(findings: &[Finding]) -> Self {
        let problem = |finding: &Finding| finding.severity == Severity::Problem;
        match findings.iter().any(problem) {
            true => Self::Problems,
            false => Self::Ok,
        }
    }
}

/// What may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// A line can be written over.
    pub is_tty: bool,
    /// Colours are shown, and wanted.
    pub colour: bool,
}

impl Terminal {
    /// A file, or a pipe.
    pub const NONE: Self = Self {
        is_tty: false,
        colour: false,
    };

    /// Standard output.
    pub fn of_stdout() -> Self {
        let is_tty = io::stdout().is_terminal();
        // Set to anything at all: <https://no-color.org>.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            is_tty,
            colour: is_tty && !unwanted,
        }
    }

    fn coloured(self, text: &str, colour: &str) -> String {
        match self.colour {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.into(),
        }
    }
}
