//! Runs every line of the genre network's recipe, on generated tones.

use std::path::Path;

use crate::steps::{Step, Steps};
use crate::tools;
use xtask::sori::{self, SORI};

/// All its files, created anew each time, except for the Python packages.
const WORK: &str = "target/recipe/work";
const PYTHON: &str = "target/recipe/python";
const UV: &str = "host-tools/xtask/uv.txt";

pub(crate) fn smoke(steps: &mut Steps) -> anyhow::Result<()> {
    tools::require_python()?;
    steps.run(&Step::new(
        "a Python environment for the recipe",
        &format!("python3 -m venv {PYTHON}"),
    ))?;
    steps.run(&Step::new(
        "uv",
        &format!(
            "{PYTHON}/bin/python -m pip install --quiet --disable-pip-version-check \
             --only-binary :all: --require-hashes -r {UV}"
        ),
    ))?;
    steps.run(&Step::new(
        "the recipe's packages",
        // A cache would hold them a second time.
        &format!(
            "{PYTHON}/bin/uv pip install --quiet --no-cache --python {PYTHON}/bin/python \
             -r models/genre/recipe/requirements.txt"
        ),
    ))?;
    sori::build(steps)?;
    tools::emptied(Path::new(WORK))?;
    steps.run(&Step::new(
        "the recipe on generated tones",
        &format!(
            "{PYTHON}/bin/python models/genre/recipe/recipe.py --smoke \
             --sori {SORI} --work {WORK}"
        ),
    ))
}
