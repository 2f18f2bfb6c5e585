//! The firmware on QEMU's Cortex-M boards, against the host's golden answer; and for the board
//! that nobody emulates, that it builds.

use std::fs;

use anyhow::{Context as _, ensure};

use crate::boards::{BOARDS, Board, DIRECTORY};
use crate::sections::Sections;
use crate::steps::{Step, Steps};
use crate::tools;

const PROGRAMS: [&str; 5] = [
    "sori-mcu",
    "frontend-instructions",
    "network-instructions",
    "plan-instructions",
    CONFORMANCE,
];

/// The one that needs a heap: a program, and the feature that it is built with.
const CONFORMANCE: &str = "conformance";

/// The board that can be bought, as Cargo is told of it.
pub(crate) const PICO2: &str =
    "-p sori-pico2 --release --locked --target thumbv8m.main-none-eabihf";
pub(crate) const PICO2_TARGET: &str = "thumbv8m.main-none-eabihf";
pub(crate) const PICO2_PROGRAM: &str =
    "firmware/target/thumbv8m.main-none-eabihf/release/sori-pico2";

const PACKAGE: &str = "models/genre/genre.sori";

/// Most bytes that the listener may take. The package comes on top of the flash.
const LIMITS: Memory = Memory {
    text: 164 << 10,
    rodata: 48 << 10,
    statics: 96 << 10,
    stack: 12 << 10,
};

/// What the listener takes.
struct Memory {
    text: usize,
    /// Constants without the package, and without the clip that stands for a microphone.
    rodata: usize,
    /// Arena, front end, queue.
    statics: usize,
    /// The deepest that it was; 0 where nothing ran.
    stack: usize,
}

impl Memory {
    fn of(elf: &str, clip: usize, stack: usize) -> anyhow::Result<(Self, usize)> {
        let bytes = fs::read(elf).with_context(|| elf.to_owned())?;
        let Sections {
            text,
            rodata,
            data,
            bss,
        } = Sections::of(&bytes).with_context(|| elf.to_owned())?;
        let package = fs::metadata(PACKAGE).context(PACKAGE)?.len() as usize;
        let memory = Self {
            text,
            rodata: rodata
                .checked_sub(package + clip)
                .with_context(|| format!("{elf} does not contain {PACKAGE}"))?,
            statics: data + bss,
            stack,
        };
        Ok((memory, package))
    }

    /// Says it, and fails above the limits.
    fn judge(&self, steps: &mut Steps, package: usize, what: &str) -> anyhow::Result<()> {
        let Self {
            text,
            rodata,
            statics,
            stack,
        } = self;
        steps.say(&format!(
            "{what}: flash {text} text + {rodata} constants + {package} package, RAM {statics} statics + {stack} stack"
        ));
        for (name, found, limit) in [
            ("text", *text, LIMITS.text),
            ("constants", *rodata, LIMITS.rodata),
            ("statics", *statics, LIMITS.statics),
            ("stack", *stack, LIMITS.stack),
        ] {
            ensure!(
                found <= limit,
                "{what} takes {found} bytes of {name}, more than {limit} (LIMITS in host-tools/xtask/src/firmware.rs)"
            );
        }
        Ok(())
    }
}

/// Where the conformance suite runs, which takes as long as all other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// On one board for each program that is built.
    OfEachProgram,
    OnEachBoard,
}

/// Builds, checks and runs each program on every board.
pub(crate) fn run(steps: &mut Steps, suite: Suite) -> anyhow::Result<()> {
    tools::require("qemu-system-arm", "qemu-system-arm")?;
    tools::require("timeout", "coreutils")?;
    tools::require_component("rustfmt")?;
    tools::require_component("clippy")?;
    let targets: Vec<&str> = Board::builds().map(|board| board.target).collect();
    tools::require_targets(&targets)?;
    let golden = fs::read_to_string("tests/golden/listening.txt")
        .context("tests/golden/listening.txt: cargo xtask golden")?;
    steps.run(&Step::new("formatting, firmware", "cargo fmt -- --check").within(DIRECTORY))?;
    for board in Board::builds() {
        let target = board.target;
        // All programs that do without a heap in one command, as they are built with the same.
        let listener = board.build("");
        let suite = format!("{} --bin {CONFORMANCE}", board.build(CONFORMANCE));
        let build = [
            ("the firmware builds", format!("cargo build {listener}")),
            (
                "the conformance suite builds",
                format!("cargo build {suite}"),
            ),
        ];
        let clippy = [
            (
                "clippy, firmware",
                format!("cargo clippy {listener} -- -D warnings"),
            ),
            (
                "clippy of the conformance suite",
                format!("cargo clippy {suite} -- -D warnings"),
            ),
        ];
        // The M4's code is all in the M33's.
        let lints = clippy.into_iter().filter(|_| board.key != "m4");
        for (title, command) in lints.chain(build) {
            let title = format!("{title} for {target}");
            steps.run(&Step::new(&title, &command).within(DIRECTORY))?;
        }
    }
    let mut heard = Vec::new();
    for board in &BOARDS {
        let core = board.core;
        let runs_suite = suite == Suite::OnEachBoard || board.is_built();
        for program in PROGRAMS {
            if program == CONFORMANCE && !runs_suite {
                continue;
            }
            let title = format!("{program} on {core} (QEMU)");
            let command = match program {
                CONFORMANCE => board.run_untimed(program),
                _ => board.run(program),
            };
            let output = steps.output(&Step::new(&title, &command).within(DIRECTORY))?;
            if program == "sori-mcu" {
                heard_the_same(&output, &golden).context(core)?;
                heard.push(decisions(&output));
                let elf = format!("{DIRECTORY}/{}", board.program(program));
                let clip = 2 * number(&output, "clip: ", " samples")?;
                let stack = number(&output, "stack ", " bytes")?;
                let (memory, package) = Memory::of(&elf, clip, stack)?;
                memory.judge(steps, package, core)?;
                ensure!(
                    number(&output, "blocks waiting, ", " lost")? == 0,
                    "{core} lost audio at a clock that should suffice"
                );
            }
        }
    }
    ensure!(
        heard.windows(2).all(|pair| pair[0] == pair[1]),
        "the boards decided differently: {heard:#?}"
    );
    steps.say("all cores heard what this machine hears");
    faults(steps, &golden)?;
    pico2(steps)
}

fn heard_the_same(output: &str, golden: &str) -> anyhow::Result<()> {
    for line in golden.lines() {
        ensure!(
            output.lines().any(|printed| printed == line),
            "it heard something other than this machine, which printed \"{line}\" (tests/golden/listening.txt)"
        );
    }
    Ok(())
}

/// What goes wrong in the field: too slow a clock, a listener that hangs, damaged flash. The
/// last core has the most parts, so it is the one.
fn faults(steps: &mut Steps, golden: &str) -> anyhow::Result<()> {
    let [.., board] = &BOARDS;
    let elf = board.program("sori-mcu");
    let mut on_board = |title: &str, elf: &str, words: &str, options: &str, succeeds: bool| {
        let command = board.run_with(elf, words, options);
        let title = format!("{title} on {} (QEMU)", board.core);
        let step = Step::new(&title, &command).within(DIRECTORY);
        match succeeds {
            true => steps.output(&step),
            false => steps.failure(&step),
        }
    };
    let slow = on_board("a clock that is too slow", &elf, "arg=clock=20", "", true)?;
    ensure!(
        slow.contains("overrun: the listener is late")
            && number(&slow, "blocks waiting, ", " lost")? > 0,
        "at 20 MHz audio is lost without being reported"
    );
    let hung = on_board(
        "a listener that hangs",
        &elf,
        "arg=hang-after=100",
        "",
        true,
    )?;
    let (before, after) = hung
        .split_once("reset: by the watchdog")
        .context("the watchdog did not restart it, or it did not report that")?;
    ensure!(before.contains("golden vectors: "), "it hung too early");
    heard_the_same(after, golden).context("after the watchdog's reset")?;

    let (damaged, leds) = ("target/damaged", "target/leds.log");
    damage(
        &format!("{DIRECTORY}/{elf}"),
        &format!("{DIRECTORY}/{damaged}"),
    )?;
    let options = format!("-trace led_change_intensity -D {leds}");
    let refused = on_board("a package damaged in flash", damaged, "", &options, false)?;
    ensure!(
        refused.contains("error: package in flash: the package is damaged"),
        "it does not report that the package is damaged"
    );
    let leds =
        fs::read_to_string(format!("{DIRECTORY}/{leds}")).context("cannot read QEMU's trace")?;
    let blinks = leds
        .lines()
        .filter(|line| line.contains("'USERLED0' color:green intensity 0% -> 100%"))
        .count();
    // QEMU may also tell of the LED as it makes the board.
    ensure!(blinks >= 3, "it should blink three times, not {blinks}");
    steps.say("failures are reported, counted and survived");
    Ok(())
}

/// Copies a program with one bit of its package flipped.
fn damage(program: &str, to: &str) -> anyhow::Result<()> {
    let package = fs::read(PACKAGE).context(PACKAGE)?;
    let mut elf = fs::read(program).with_context(|| program.to_owned())?;
    let at = elf
        .windows(package.len())
        .position(|window| window == package)
        .with_context(|| format!("{program} does not contain {PACKAGE}"))?;
    elf[at + package.len() / 2] ^= 1;
    fs::write(to, elf).with_context(|| to.to_owned())
}

/// Builds for the Raspberry Pi Pico 2, and sees that it fits.
fn pico2(steps: &mut Steps) -> anyhow::Result<()> {
    for (title, command) in [
        (
            "clippy of the Pico 2's firmware",
            format!("cargo clippy {PICO2} -- -D warnings"),
        ),
        ("it builds", format!("cargo build {PICO2}")),
    ] {
        steps.run(&Step::new(title, &command).within(DIRECTORY))?;
    }
    let (memory, package) = Memory::of(PICO2_PROGRAM, 0, 0)?;
    memory.judge(steps, package, "Raspberry Pi Pico 2")
}

/// The number between two texts of what a program printed.
fn number(output: &str, before: &str, after: &str) -> anyhow::Result<usize> {
    output
        .match_indices(before)
        .find_map(|(at, _)| {
            let (number, _) = output[at + before.len()..].split_once(after)?;
            number.parse().ok()
        })
        .with_context(|| format!("it printed no \"{before}N{after}\""))
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
    fn numbers_are_found_between_their_words() {
        let output = "at most 10 of 32 blocks waiting, 0 lost\nstack 30564 bytes";
        assert_eq!(number(output, "stack ", " bytes").ok(), Some(30564));
        assert_eq!(number(output, "waiting, ", " lost").ok(), Some(0));
        assert!(number(output, "heap ", " bytes").is_err());
    }

    #[test]
    fn decisions_are_compared_and_instruction_counts_are_not() {
        let output = "package: genre, 9 bytes, checked in 7 instructions\n 1024 ms: jazz\nlogits: crc32 00000000\nmemory: arena 1 bytes\n";
        assert_eq!(
            decisions(output),
            [" 1024 ms: jazz", "logits: crc32 00000000"]
        );
    }
}
