//! The same for Cortex-M: LLVM's models of the M4 and the M7, and for the M4 also the cycles that
//! Arm's manual gives each instruction, since LLVM's M4 loads any number of registers at once.
//! Of the M7 Arm publishes no such table.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::{
    Loop, Multiply, branches_to, conclude, cycles, disassemble, functions, innermost_loops, newest,
};
use crate::boards::{BOARDS, DIRECTORY};
use crate::steps::{Step, Steps};
use crate::tools;

/// A loop of the firmware, known by its function and what it stores.
struct Kernel {
    what: &'static str,
    program: &'static str,
    function: &'static str,
    multiply: Multiply,
    /// Outputs that a turn stores, each a byte.
    outputs: usize,
    /// Of the loop around this one, what is not in it.
    around: bool,
}

const NETWORK: &str = "network-instructions";

const KERNELS: [Kernel; 6] = [
    pointwise("pointwise, 8 inputs of 4 outputs", 0, false),
    // Those that have the multiplications between them, and the stem's and the head's too.
    pointwise("  bias, requantize and store them", 4, true),
    pointwise("pointwise of 8 inputs, 4 outputs", 4, false),
    depthwise("depthwise, stride 1, 4 outputs", 4),
    depthwise("depthwise, stride 2, 2 outputs", 2),
    Kernel {
        what: "FFT, 2 radix-4 butterflies",
        program: "frontend-instructions",
        function: "sori_dsp::arch::cortex_m::radix4",
        multiply: Multiply::Smmul,
        outputs: 0,
        around: false,
    },
];

const fn pointwise(what: &'static str, outputs: usize, around: bool) -> Kernel {
    Kernel {
        what,
        program: NETWORK,
        function: "sori_nn::arch::cortex_m::pointwise",
        multiply: Multiply::Smlad,
        outputs,
        around,
    }
}

const fn depthwise(what: &'static str, outputs: usize) -> Kernel {
    Kernel {
        function: "sori_nn::arch::cortex_m::depthwise",
        ..pointwise(what, outputs, false)
    }
}

const TRIPLE: &str = "thumbv7em-none-eabihf";

pub(in super::super) fn run(as_json: bool) -> anyhow::Result<()> {
    let mca = newest("llvm-mca");
    let objdump = newest("llvm-objdump");
    for tool in [&mca, &objdump] {
        tools::require(tool, "llvm")?;
    }
    let board = BOARDS.iter().find(|board| board.target == TRIPLE);
    let board = board.context("the M4 and the M7 have one")?;
    tools::require_targets(&[board.target])?;
    let mut disassemblies = HashMap::new();
    for kernel in &KERNELS {
        if disassemblies.contains_key(kernel.program) {
            continue;
        }
        let command = format!(
            "cargo build --quiet {} --bin {}",
            board.build(""),
            kernel.program
        );
        Steps::quiet().run(&Step::new(kernel.program, &command).within(DIRECTORY))?;
        let program = Path::new(DIRECTORY).join(board.program(kernel.program));
        disassemblies.insert(kernel.program, disassemble(&objdump, &program)?);
    }
    let mut results = Vec::new();
    if !as_json {
        println!(
            "{:34} {:>12} {:>5} {:>12} {:>12} {:>12}",
            "cycles a turn (per MAC)", "instructions", "MACs", "M4, Arm", "M4, LLVM", "M7, LLVM"
        );
    }
    for kernel in &KERNELS {
        let found = kernel.find(&disassemblies[kernel.program]);
        let found = found.with_context(|| {
            format!(
                "{} has no loop for {}: {} changed; say in KERNELS what it is now",
                kernel.program,
                kernel.what.trim(),
                kernel.function
            )
        })?;
        let model = |processor| {
            cycles(&mca, TRIPLE, processor, &found)?
                .with_context(|| format!("{mca} has no model of {processor}: install a newer LLVM"))
        };
        let by_arm = m4_cycles(&found.instructions) as f64;
        let (m4, m7) = (model("cortex-m4")?, model("cortex-m7")?);
        if !as_json {
            let column = |cycles: f64| match found.macs {
                0 => format!("{cycles:.1}        "),
                macs => format!("{cycles:.1} ({:.3})", cycles / macs as f64),
            };
            println!(
                "{:34} {:>12} {:>5} {:>12} {:>12} {:>12}",
                kernel.what,
                found.instructions.len(),
                found.macs,
                column(by_arm),
                column(m4),
                column(m7)
            );
        }
        results.push(json!({
            "kernel": kernel.what.trim(),
            "instructions": found.instructions.len(),
            "macs": found.macs,
            "m4_cycles_by_arm": by_arm,
            "m4_cycles": m4,
            "m7_cycles": m7,
            "function": found.function,
            "address": found.address,
        }));
    }
    conclude(&mca, as_json, &results, |tool| {
        format!("by the M4's Technical Reference Manual and by {tool}; memory has no wait states")
    })
}

impl Kernel {
    /// A kernel is compiled several times over: of such loops the one that does most in fewest
    /// instructions.
    fn find(&self, disassembly: &str) -> Option<Loop> {
        functions(disassembly)
            .filter(|(function, _)| function.contains(self.function))
            .flat_map(|(function, code)| match self.around {
                true => loops_around(function, &code),
                false => innermost_loops(function, &code, self.multiply),
            })
            .filter(|found| found.outputs() == self.outputs && self.around == (found.macs == 0))
            .max_by_key(|found| {
                let instructions = found.instructions.len() as u64;
                (
                    found.macs * found.macs / instructions,
                    u64::MAX - instructions,
                )
            })
    }
}

impl Loop {
    fn outputs(&self) -> usize {
        let stores = self.instructions.iter();
        stores.filter(|text| mnemonic(text) == "strb").count()
    }
}

/// Loops with one in them: what is executed of them besides, when every forward branch is taken.
fn loops_around(function: &str, code: &[(u64, &str)]) -> Vec<Loop> {
    let place = |address| code.binary_search_by_key(&address, |&(at, _)| at).ok();
    let back = |end: usize| {
        let start = place(branches_to(code[end].1)?)?;
        (start <= end).then_some(start)
    };
    (0..code.len())
        .filter_map(|end| {
            let start = back(end)?;
            let mut executed: Vec<(usize, &str)> = Vec::new();
            let (mut at, mut inner) = (start, 0);
            while at < end {
                executed.push((at, code[at].1));
                if let Some(inner_start) = back(at) {
                    // Nothing but the loop may have come since it began.
                    executed.retain(|&(at, _)| at < inner_start);
                    inner += 1;
                    at += 1;
                } else {
                    let target = branches_to(code[at].1).and_then(place);
                    at = target.unwrap_or(at + 1);
                }
            }
            executed.push((end, code[end].1));
            (at == end && inner == 1).then(|| Loop {
                function: function.to_owned(),
                address: code[start].0,
                macs: executed
                    .iter()
                    .map(|(_, text)| Multiply::Smlad.macs(text))
                    .sum(),
                instructions: executed
                    .iter()
                    .map(|(_, text)| (*text).to_owned())
                    .collect(),
            })
        })
        .collect()
}

fn mnemonic(instruction: &str) -> &str {
    let mnemonic = instruction.split('\t').next().unwrap_or_default();
    mnemonic.trim_end_matches(".w")
}

/// What the Cortex-M4 Technical Reference Manual (100166, r0p1) gives these instructions in its
/// section on the instruction set, by the tables of processor and DSP instructions and the
/// load/store timings: without wait states, and with the least that refilling the pipeline takes, a
/// cycle.
fn m4_cycles(instructions: &[String]) -> u64 {
    let mut cycles = 0;
    let mut before = "";
    for instruction in instructions {
        let last = mnemonic(before);
        let operands = instruction
            .split_once('\t')
            .map_or("", |(_, operands)| operands);
        let address = operands.split_once('[').map_or("", |(_, address)| address);
        let address: Vec<&str> = address
            .split([',', ']', ' '])
            .filter(|word| !word.is_empty())
            .collect();
        let with_register = address
            .get(1)
            .is_some_and(|offset| !offset.starts_with('#'));
        let written = before
            .split_once('\t')
            .and_then(|(_, operands)| operands.split(',').next())
            .unwrap_or_default();
        let needs_it = address.contains(&written);
        let follows_load = is_single_load(last) && !needs_it;
        cycles += match mnemonic(instruction) {
            "ldrd" | "strd" => 3,
            text if ["ldm", "stm", "push", "pop"].contains(&text) => {
                let (_, registers) = operands.split_once('{').unwrap_or_default();
                2 + registers.matches(',').count() as u64
            }
            text if is_single_load(text) => 2 - u64::from(follows_load),
            text if text.starts_with("str") => 1 + u64::from(with_register && !follows_load),
            _ if branches_to(instruction).is_some() => 2,
            _ => 1,
        };
        // The register that was computed just before is not there yet.
        let computed = !["ld", "st", "push", "pop", "cmp"]
            .iter()
            .any(|start| last.starts_with(start));
        cycles += u64::from(needs_it && computed);
        before = instruction;
    }
    cycles
}

fn is_single_load(mnemonic: &str) -> bool {
    mnemonic.starts_with("ldr") && mnemonic != "ldrd"
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISASSEMBLY: &str = "
x:\tfile format elf32-littlearm

Disassembly of section .text:

00001000 <sori_nn::arch::cortex_m::pointwise::run>:
    1000:      \tldr\tr5, [sp]
    1002:      \tblo\t0x100a <sori_nn::arch::cortex_m::pointwise::run+0xa> @ imm = #4
    1004:      \tsmlad\tr4, r0, r5, r4
    1008:      \tbeq\t0x1014 <sori_nn::arch::cortex_m::pointwise::run+0x14> @ imm = #8
    100a:      \tldm.w\tr12!, {r0, r1, r2, r3}
    100e:      \tsmlad\tr4, r0, r5, r4
    1012:      \tbne\t0x100a <sori_nn::arch::cortex_m::pointwise::run+0xa> @ imm = #-12
    1014:      \tstrb.w\tr4, [r11]
    1018:      \tbne.w\t0x1000 <sori_nn::arch::cortex_m::pointwise::run> @ imm = #-28
    101c:      \tbx\tlr
";

    #[test]
    fn a_loop_is_found_and_what_is_around_it() {
        let inner = pointwise("", 0, false).find(DISASSEMBLY).expect("is there");
        assert_eq!((inner.address, inner.macs), (0x100a, 2));
        assert_eq!(inner.instructions.len(), 3);
        let around = pointwise("", 1, true).find(DISASSEMBLY).expect("is there");
        let mnemonics: Vec<_> = around
            .instructions
            .iter()
            .map(|text| mnemonic(text))
            .collect();
        assert_eq!(mnemonics, ["ldr", "blo", "strb", "bne"]);
        assert!(around.assembly().ends_with("bne.w\tloop\n"));
        assert!(depthwise("", 0).find(DISASSEMBLY).is_none());
    }

    #[test]
    fn cycles_are_those_of_the_manual() {
        let cases: [(&[&str], u64); 9] = [
            (&["smlad\tr4, r0, r5, r4"], 1),
            (&["ldm.w\tr12!, {r0, r1, r2, r3}"], 5),
            (&["ldrd\tr4, r5, [r6], #8"], 3),
            (&["ldr\tr0, [r1]", "ldr\tr1, [r2]"], 3),
            (&["ldr\tr0, [r1]", "ldr\tr1, [r0]"], 4),
            (&["ldr\tr0, [r1, r2]", "str\tr0, [r3, #20]"], 3),
            (&["strb\tr0, [r4]", "strb.w\tr0, [r4, r5]"], 3),
            (&["add.w\tr4, r4, r5, lsl #1", "strb\tr3, [r4]"], 3),
            (&["subs\tr4, #1", "bne\t0x131cc <f+0x4> @ imm = #-58"], 3),
        ];
        for (instructions, cycles) in cases {
            let text: Vec<String> = instructions.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(m4_cycles(&text), cycles, "{instructions:?}");
        }
    }
}
