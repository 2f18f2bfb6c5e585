//! Runs every line of the genre network's recipe, on generated tones.

use std::path::Path;

use crate::steps::{Step, Steps};
use crate::tools;
use xtask::sori::{self, SORI};

/// All its files, created anew each time, except for the Python packages.
const WORK: &str = "target/recipe/work";

pub(crate) fn smoke(steps: &mut Steps) -> anyhow::Result<()> {
    tools::require_python()?;
    steps.run(&Step::new(
        "a Python environment for the recipe",
        "python3 -m venv target/recipe/python",
    ))?;
    steps.run(&Step::new(
        "its packages",
        // Little of these gigabytes is ever imported, so compiling them is not worth it.
        "target/recipe/python/bin/python -m pip install --quiet --disable-pip-version-check \
         --no-compile -r models/genre/recipe/requirements.txt",
    ))?;
    sori::build(steps)?;
    tools::emptied(Path::new(WORK))?;
    steps.run(&Step::new(
        "the recipe on generated tones",
        &format!(
            "target/recipe/python/bin/python models/genre/recipe/recipe.py --smoke \
             --sori {SORI} --work {WORK}"
        ),
    ))
}
