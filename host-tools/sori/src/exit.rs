//! Exit codes, which scripts rely on.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use sori_package::text::Plain;

/// Failures with their own exit code. The text says what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A wrong combination of arguments, or a missing input, that clap cannot detect.
    Usage(String),
    /// A quantization that costs more than `--gate` allows.
    Gate(String),
    /// No such microphone, board or host.
    NoDevice(String),
    /// A package that parses but cannot do what was asked.
    Incompatible(String),
}

const RUNTIME: u8 = 1;
const INCOMPATIBLE: u8 = 5;

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Gate(_) => 3,
            Self::NoDevice(_) => 4,
            Self::Incompatible(_) => INCOMPATIBLE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text)
            | Self::Gate(text)
            | Self::NoDevice(text)
            | Self::Incompatible(text) => f.write_str(text),
        }
    }
}

impl Error for Failure {}

/// Prints a line on stderr. Names of files, labels and more from outside stand in it.
pub(crate) fn warn(text: fmt::Arguments<'_>) {
    eprintln!("sori: {}", Plain(text));
}

/// Prints the error on one line of stderr and picks the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // `sori … | head` is not a failure.
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    warn(format_args!("{error:#}"));
    ExitCode::from(code(error))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    let known = error.chain().find_map(|error| {
        if error.is::<sori_package::Error>() || crate::onnx::is_refused(error) {
            return Some(INCOMPATIBLE);
        }
        error.downcast_ref::<Failure>().map(Failure::code)
    });
    known.unwrap_or(RUNTIME)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_failure_keeps_its_code_under_context() {
        let under_context = |error: anyhow::Error| code(&error.context("cannot use a.sori"));
        assert_eq!(under_context(sori_package::Error::NotAPackage.into()), 5);
        assert_eq!(
            under_context(Failure::Incompatible("no mel".into()).into()),
            5
        );
        assert_eq!(under_context(Failure::Gate("too noisy".into()).into()), 3);
        assert_eq!(under_context(Failure::Usage("pipe it in".into()).into()), 2);
        let plain = Err::<(), _>(io::Error::other("disk full")).context("cannot write");
        assert_eq!(code(&plain.unwrap_err()), 1);
    }
}
