//! What the exit code says; scripts rely on it.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

const RUNTIME: u8 = 1;
const GATE_FAILED: u8 = 3;
const INCOMPATIBLE: u8 = 5;

/// A package that parses but cannot do what was asked of it.
#[derive(Debug)]
pub(crate) struct Incompatible(pub(crate) String);

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Incompatible {}

/// A quantization that costs more than `--gate` allows.
#[derive(Debug)]
pub(crate) struct GateFailed(pub(crate) String);

impl fmt::Display for GateFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for GateFailed {}

/// Prints the error on one line of stderr and picks the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // `sori … | head` is no failure of ours.
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("sori: {error:#}");
    ExitCode::from(code(error))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    let incompatible = |error: &(dyn Error + 'static)| {
        error.is::<sori_package::Error>() || error.is::<Incompatible>()
    };
    if error.chain().any(incompatible) {
        INCOMPATIBLE
    } else if error.is::<GateFailed>() {
        GATE_FAILED
    } else {
        RUNTIME
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_package_error_keeps_its_code_under_context() {
        let error = Err::<(), _>(sori_package::Error::NotAPackage)
            .context("cannot use a.sori")
            .unwrap_err();
        assert_eq!(code(&error), INCOMPATIBLE);
        assert_eq!(code(&GateFailed("too noisy".into()).into()), GATE_FAILED);
        assert_eq!(code(&anyhow::anyhow!("disk full")), RUNTIME);
    }
}
