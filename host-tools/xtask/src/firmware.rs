//! The firmware on QEMU's Cortex-M boards, against the host's golden answer.

use anyhow::{Context as _, ensure};

use crate::boards::{BOARDS, Board, DIRECTORY};
use crate::steps::{Step, Steps};
use crate::tools;

/// Programs, and the features that each is built with.
const PROGRAMS: [(&str, &str); 4] = [
    ("sori-mcu", ""),
    ("frontend-instructions", ""),
    ("plan-instructions", ""),
    ("conformance", "conformance"),
];

/// Builds, checks and runs each program on every board.
pub(crate) fn run(steps: &mut Steps) -> anyhow::Result<()> {
    tools::require("qemu-system-arm", "qemu-system-arm")?;
    tools::require("timeout", "coreutils")?;
    let golden = std::fs::read_to_string("tests/golden/listening.txt")
        .context("tests/golden/listening.txt: cargo xtask golden")?;
    steps
        .run(&Step::new("formatting of the firmware", "cargo fmt -- --check").within(DIRECTORY))?;
    for board in Board::builds() {
        let target = board.target;
        for (features, bin) in [("", ""), ("conformance", " --bin conformance")] {
            let arguments = board.build(features);
            let command = format!("cargo clippy {arguments}{bin} -- -D warnings");
            let title = format!("clippy of the firmware for {target}{bin}");
            steps.run(&Step::new(&title, &command).within(DIRECTORY))?;
        }
        for (program, features) in PROGRAMS {
            let command = format!("cargo build {} --bin {program}", board.build(features));
            let title = format!("{program} builds for {target}");
            steps.run(&Step::new(&title, &command).within(DIRECTORY))?;
        }
    }
    let mut heard = Vec::new();
    for board in &BOARDS {
        let core = board.core;
        for (program, _) in PROGRAMS {
            let title = format!("{program} on {core} (QEMU)");
            let output = steps.output(&Step::new(&title, &board.run(program)).within(DIRECTORY))?;
            if program == "sori-mcu" {
                for line in golden.lines() {
                    ensure!(
                        output.lines().any(|printed| printed == line),
                        "{core} heard something else than this machine, which says \"{line}\" (tests/golden/listening.txt)"
                    );
                }
                heard.push(decisions(&output));
            }
        }
    }
    ensure!(
        heard.windows(2).all(|pair| pair[0] == pair[1]),
        "the boards decided differently: {heard:#?}"
    );
    println!("   all cores heard what this machine hears");
    Ok(())
}

/// The lines that do not depend on the core: not those with instruction counts.
fn decisions(output: &str) -> Vec<String> {
    let said = |line: &&str| {
        let time = line
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit());
        time.starts_with(" ms: ")
            || ["golden vectors: ", "clip: ", "logits: ", "decision: "]
                .iter()
                .any(|start| line.starts_with(start))
    };
    output.lines().filter(said).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_compared_and_instruction_counts_are_not() {
        let output = "package: genre, 9 bytes, checked in 7 instructions\n 1024 ms: jazz\nlogits: crc32 00000000\nmemory: arena 1 bytes\n";
        assert_eq!(
            decisions(output),
            [" 1024 ms: jazz", "logits: crc32 00000000"]
        );
    }
}
