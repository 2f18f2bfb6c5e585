//! Cycles that a model of the processor gives the hottest loop: `llvm-mca` on what the
//! compiler made of the pointwise kernel, which has four fifths of a network's MACs.

pub(super) mod cortex_m;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::count::{AARCH64, Program, build, number_after};
use crate::tools;

/// Enough that filling the pipeline does not show.
const ITERATIONS: u64 = 1000;

/// The instruction that multiplies.
#[derive(Debug, Clone, Copy)]
enum Multiply {
    /// `smull`, `smlal` and their second halves.
    Smlal,
    Sdot,
    Vpdpbusd,
    /// And what multiplies one pair of 16-bit halves.
    Smlad,
    /// High words of products, and with a sum.
    Smmul,
}

impl Multiply {
    /// Multiply-accumulates of one instruction.
    fn macs(self, instruction: &str) -> u64 {
        let (mnemonic, operands) = instruction.split_once('\t').unwrap_or_default();
        match (self, mnemonic) {
            // 16-bit products, of the depthwise kernel, have 4 lanes.
            (Self::Smlal, "smull" | "smull2" | "smlal" | "smlal2") if operands.contains(".8h,") => {
                8
            }
            (Self::Sdot, "sdot") => 16,
            // The destination, xmm to zmm, comes last.
            (Self::Vpdpbusd, "vpdpbusd") => match operands.rsplit_once("mm") {
                Some((before, _)) if before.ends_with('z') => 64,
                Some((before, _)) if before.ends_with('y') => 32,
                _ => 16,
            },
            (Self::Smlad, "smlad") => 2,
            (Self::Smlad, "smlabb" | "smlatb") | (Self::Smmul, "smmul" | "smmla") => 1,
            _ => 0,
        }
    }
}

struct Model {
    target: Option<&'static str>,
    triple: &'static str,
    /// The first that this `llvm-mca` knows is taken.
    processors: &'static [&'static str],
    multiply: Multiply,
}

const PI_MODELS: [Model; 3] = [
    pi(&["cortex-a53"], Multiply::Smlal),
    pi(&["cortex-a72"], Multiply::Smlal),
    pi(&["cortex-a76"], Multiply::Sdot),
];

const HOST_MODEL: Model = Model {
    target: None,
    triple: "x86_64",
    // LLVM 14, Debian 12's, was made before Zen 4.
    processors: &["znver4", "icelake-server"],
    multiply: Multiply::Vpdpbusd,
};

const fn pi(processors: &'static [&'static str], multiply: Multiply) -> Model {
    Model {
        target: Some(AARCH64),
        triple: "aarch64",
        processors,
        multiply,
    }
}

pub(super) fn run(as_json: bool) -> anyhow::Result<()> {
    let mca = newest("llvm-mca");
    let objdump = newest("llvm-objdump");
    for tool in [&mca, &objdump] {
        tools::require(tool, "llvm")?;
    }
    let mut models: Vec<Model> = PI_MODELS.into();
    if cfg!(target_arch = "x86_64") {
        models.push(HOST_MODEL);
    }
    let mut results = Vec::new();
    let mut built: HashMap<_, (PathBuf, String)> = HashMap::new();
    for model in models {
        let (program, disassembly) = match built.entry(model.target) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let program = build(Program::Inference, model.target)?;
                let disassembly = disassemble(&objdump, &program)?;
                entry.insert((program, disassembly))
            }
        };
        let hottest = hottest_loop(disassembly, model.multiply).with_context(|| {
            format!(
                "{} has no loop with {:?}: was it built without that backend?",
                program.display(),
                model.multiply
            )
        })?;
        let (processor, cycles) = model.cycles(&mca, &hottest)?;
        let per_mac = cycles / hottest.macs as f64;
        if !as_json {
            println!(
                "{processor:14} {:.4} cycles per MAC ({:.1} MACs per cycle): {} MACs, {} instructions, {cycles:.1} cycles; loop at {:#x} of {}",
                per_mac,
                1.0 / per_mac,
                hottest.macs,
                hottest.instructions.len(),
                hottest.address,
                hottest.function
            );
        }
        results.push(json!({
            "model": processor,
            "cycles_per_mac": per_mac,
            "macs": hottest.macs,
            "instructions": hottest.instructions.len(),
            "cycles": cycles,
            "function": hottest.function,
            "address": hottest.address,
        }));
    }
    conclude(&mca, as_json, &results, |tool| {
        format!("by {tool}; nothing waits for memory in its models")
    })
}

/// The loops as JSON, or for people what they are by.
fn conclude(
    mca: &str,
    as_json: bool,
    loops: &[Value],
    remark: impl Fn(&str) -> String,
) -> anyhow::Result<()> {
    let tool = version(mca)?;
    if as_json {
        println!(
            "{:#}",
            json!({ "schema_version": 1, "tool": tool, "loops": loops })
        );
    } else {
        println!("{}", remark(&tool));
    }
    Ok(())
}

/// Debian installs LLVMs beside each other; a later one has more models.
fn newest(tool: &str) -> String {
    (15..=30)
        .rev()
        .map(|version| format!("{tool}-{version}"))
        .find(|tool| tools::succeeds(tool, &["--version"]))
        .unwrap_or_else(|| tool.to_owned())
}

fn version(mca: &str) -> anyhow::Result<String> {
    let output = tools::captured(Command::new(mca).arg("--version"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = printed.lines().find(|line| line.contains("LLVM version"));
    Ok(line.unwrap_or(mca).trim().to_owned())
}

/// A loop without another one in it.
#[derive(Debug, PartialEq, Eq)]
struct Loop {
    function: String,
    address: u64,
    instructions: Vec<String>,
    macs: u64,
}

impl Loop {
    /// As an assembler takes it.
    fn assembly(&self) -> String {
        let mut text = "loop:\n".to_owned();
        for instruction in &self.instructions {
            // An address, which is printed with what it is in, is out of a branch's reach here.
            let line = match instruction.split_once(" <") {
                Some((before, _)) => match before.rsplit_once("0x") {
                    Some((before, _)) => format!("{before}loop"),
                    None => before.to_owned(),
                },
                None => instruction.clone(),
            };
            text += &line;
            text += "\n";
        }
        text
    }
}

fn disassemble(objdump: &str, program: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(objdump);
    command.args(["-d", "--demangle", "--no-show-raw-insn"]);
    if program.to_string_lossy().contains(AARCH64) {
        // Before LLVM 15 not on by itself.
        command.arg("--mattr=+dotprod");
    }
    let output = tools::captured(command.arg(program))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The innermost loop with the most MACs times their share of the instructions: a depthwise
/// kernel with all its taps unrolled has many too, but between other things.
fn hottest_loop(disassembly: &str, multiply: Multiply) -> Option<Loop> {
    functions(disassembly)
        .flat_map(|(function, code)| innermost_loops(function, &code, multiply))
        .filter(|found| found.macs > 0)
        .max_by_key(|found| found.macs * found.macs / found.instructions.len() as u64)
}

/// Each function's name and its instructions with their addresses.
fn functions(disassembly: &str) -> impl Iterator<Item = (&str, Vec<(u64, &str)>)> {
    disassembly.split("\n\n").filter_map(|block| {
        let (head, code) = block.trim_start().split_once(">:\n")?;
        let (_, name) = head.split_once(" <")?;
        let code = code.lines().filter_map(|line| {
            let (address, instruction) = line.split_once(':')?;
            let address = u64::from_str_radix(address.trim(), 16).ok()?;
            Some((address, instruction.trim()))
        });
        Some((name, code.collect()))
    })
}

fn innermost_loops(function: &str, code: &[(u64, &str)], multiply: Multiply) -> Vec<Loop> {
    let place = |address| code.binary_search_by_key(&address, |&(at, _)| at).ok();
    let loops: Vec<(usize, usize)> = code
        .iter()
        .enumerate()
        .filter_map(|(end, (_, instruction))| {
            let start = place(branches_to(instruction)?)?;
            (start <= end).then_some((start, end))
        })
        .collect();
    let has_none_within = |&&(start, end): &&(usize, usize)| {
        !loops
            .iter()
            .any(|&inner| inner != (start, end) && start <= inner.0 && inner.1 <= end)
    };
    loops
        .iter()
        .filter(has_none_within)
        .map(|&(start, end)| {
            let body = &code[start..=end];
            Loop {
                function: function.to_owned(),
                address: body[0].0,
                macs: body.iter().map(|(_, text)| multiply.macs(text)).sum(),
                instructions: body.iter().map(|(_, text)| (*text).to_owned()).collect(),
            }
        })
        .collect()
}

const THUMB_BRANCHES: [&str; 10] = [
    "beq", "bne", "bhs", "blo", "bhi", "bls", "bge", "blt", "bgt", "ble",
];

/// Where a conditional branch goes, which is what ends a loop.
fn branches_to(instruction: &str) -> Option<u64> {
    let (mnemonic, operands) = instruction.split_once('\t')?;
    let is_conditional = ["b.", "cbz", "cbnz", "tbz", "tbnz"]
        .iter()
        .any(|start| mnemonic.starts_with(start))
        || THUMB_BRANCHES.contains(&mnemonic.trim_end_matches(".w"))
        || mnemonic.starts_with('j') && !mnemonic.starts_with("jmp");
    let (target, _) = operands.split_once(" <")?;
    let (_, target) = target.rsplit_once("0x")?;
    is_conditional
        .then(|| u64::from_str_radix(target, 16).ok())
        .flatten()
}

impl Model {
    /// The processor that was taken and the cycles of one turn.
    fn cycles(&self, mca: &str, hottest: &Loop) -> anyhow::Result<(&'static str, f64)> {
        for processor in self.processors {
            if let Some(cycles) = cycles(mca, self.triple, processor, hottest)? {
                return Ok((processor, cycles));
            }
        }
        let names = self.processors.join(" or ");
        bail!("{mca} has no model of {names}: install a newer LLVM")
    }
}

/// Cycles of one turn; nothing if there is no model of this processor.
fn cycles(mca: &str, triple: &str, processor: &str, hottest: &Loop) -> anyhow::Result<Option<f64>> {
    let mut command = Command::new(mca);
    command
        .args(["-mtriple", triple, "-mcpu", processor])
        .args(["-iterations", &ITERATIONS.to_string()])
        .args(["-instruction-info=false", "-resource-pressure=false"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {mca}"))?;
    let mut stdin = child.stdin.take().context("it was piped")?;
    stdin.write_all(hottest.assembly().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // It warns and takes another one.
    if errors.contains("is not a recognized processor") {
        return Ok(None);
    }
    ensure!(output.status.success(), "{command:?} failed:\n{errors}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let cycles = number_after("Total Cycles:", &printed)
        .with_context(|| format!("{command:?} printed no cycles:\n{printed}"))?;
    Ok(Some(cycles as f64 / ITERATIONS as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISASSEMBLY: &str = "
x:\tfile format elf64-littleaarch64

Disassembly of section .text:

0000000000001000 <outer<T>::f>:
    1000:      \tmov\tx0, #1
    1004:      \tsdot\tv0.4s, v1.16b, v2.16b
    1008:      \tsdot\tv0.4s, v1.16b, v2.4b[1]
    100c:      \tb.ne\t0x1004 <outer<T>::f+0x4>
    1010:      \tsdot\tv0.4s, v1.16b, v2.16b
    1014:      \tcbnz\tx0, 0x1000 <outer<T>::f>

0000000000002000 <g>:
    2000:      \tsmull\tv0.4s, v1.4h, v2.4h
    2004:      \tsmlal2\tv0.8h, v1.16b, v2.16b
    2008:      \tb.lt\t0x2000 <g>
";

    #[test]
    fn the_inner_loop_is_found_and_its_macs_are_counted() {
        let found = hottest_loop(DISASSEMBLY, Multiply::Sdot).expect("f has one");
        assert_eq!(
            (found.function.as_str(), found.address),
            ("outer<T>::f", 0x1004)
        );
        assert_eq!((found.macs, found.instructions.len()), (32, 3));
        assert!(found.assembly().ends_with("b.ne\tloop\n"));
        let found = hottest_loop(DISASSEMBLY, Multiply::Smlal).expect("g has one");
        assert_eq!(found.macs, 8, "16-bit products are another kernel's");
        assert_eq!(hottest_loop(DISASSEMBLY, Multiply::Vpdpbusd), None);
    }

    #[test]
    fn wider_registers_hold_more_macs() {
        let macs = |text| Multiply::Vpdpbusd.macs(text);
        assert_eq!(macs("vpdpbusd\t(%rax,%r8){1to16}, %zmm1, %zmm10"), 64);
        assert_eq!(macs("vpdpbusd\t%ymm3, %ymm1, %ymm2"), 32);
        assert_eq!(macs("vpdpbusd\t%xmm3, %xmm1, %xmm2"), 16);
    }
}
