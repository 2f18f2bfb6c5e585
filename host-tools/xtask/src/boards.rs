//! The emulated boards that the firmware runs on.

/// The workspace of the bare-metal programs.
pub(crate) const DIRECTORY: &str = "firmware";

/// An Arm MPS2 board with one of Arm's FPGA images.
pub(crate) struct Board {
    pub(crate) core: &'static str,
    /// Its name in keys and JSON.
    pub(crate) key: &'static str,
    machine: &'static str,
    pub(crate) target: &'static str,
    /// Whether there is the DSP extension, which stable Rust cannot tell from the target.
    dsp: bool,
}

/// One per core. The M7's runs the M4's programs: its instructions and its memory map are
/// a superset.
pub(crate) const BOARDS: [Board; 4] = [
    Board {
        core: "Cortex-M3",
        key: "m3",
        machine: "mps2-an385",
        target: "thumbv7m-none-eabi",
        dsp: false,
    },
    Board {
        core: "Cortex-M4",
        key: "m4",
        machine: "mps2-an386",
        target: "thumbv7em-none-eabihf",
        dsp: true,
    },
    Board {
        core: "Cortex-M7",
        key: "m7",
        machine: "mps2-an500",
        target: "thumbv7em-none-eabihf",
        dsp: true,
    },
    Board {
        core: "Cortex-M33",
        key: "m33",
        machine: "mps2-an505",
        target: "thumbv8m.main-none-eabihf",
        dsp: true,
    },
];

/// A stuck program waits forever.
const TIMEOUT_S: u32 = 300;

impl Board {
    /// The boards that programs are built for, one per target.
    pub(crate) fn builds() -> impl Iterator<Item = &'static Self> {
        let mut last = "";
        BOARDS
            .iter()
            .filter(move |board| std::mem::replace(&mut last, board.target) != board.target)
    }

    /// Whether it is among those.
    pub(crate) fn is_built(&self) -> bool {
        Self::builds().any(|board| board.core == self.core)
    }

    /// Cargo's arguments: package, profile, target, and the board's features with those of the
    /// program.
    pub(crate) fn build(&self, features: &str) -> String {
        let target = self.target;
        let dsp = if self.dsp { "dsp," } else { "" };
        match format!("{dsp}{features}").trim_end_matches(',') {
            "" => format!("-p sori-mcu --release --locked --target {target}"),
            features => {
                format!("-p sori-mcu --release --locked --target {target} --features {features}")
            }
        }
    }

    /// Where a program of the board is, from [`DIRECTORY`].
    pub(crate) fn program(&self, name: &str) -> String {
        format!("target/{}/release/{name}", self.target)
    }

    /// Runs a program built in [`DIRECTORY`], from there.
    pub(crate) fn run(&self, program: &str) -> String {
        self.run_with(&self.program(program), "", "")
    }

    /// The same several times as fast, for a program that has no use for a clock.
    pub(crate) fn run_untimed(&self, program: &str) -> String {
        self.qemu(&self.program(program), "", "")
    }

    /// The same for a program at any path, with arguments (`arg=WORD,…`) and options of QEMU. An
    /// instruction takes a nanosecond of virtual time, and waiting for a timer takes no real time.
    pub(crate) fn run_with(&self, elf: &str, words: &str, options: &str) -> String {
        self.qemu(elf, words, &format!("-icount shift=0,sleep=off {options}"))
    }

    fn qemu(&self, elf: &str, words: &str, options: &str) -> String {
        let machine = self.machine;
        let words = match words {
            "" => String::new(),
            words => format!(",arg=sori-mcu,{words}"),
        };
        format!(
            "timeout {TIMEOUT_S} qemu-system-arm -machine {machine} -nographic -monitor none \
             -serial stdio -semihosting-config enable=on,target=native{words} \
             {options} -kernel {elf}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_built_once() {
        for board in &BOARDS {
            let built = Board::builds().filter(|built| built.target == board.target);
            assert_eq!(built.count(), 1, "{}", board.target);
        }
    }

    #[test]
    fn boards_and_programs_have_their_features() {
        let [m3, m4, ..] = &BOARDS;
        let m3 = m3.build("");
        assert!(m3.ends_with(" --target thumbv7m-none-eabi"), "{m3}");
        let m4 = m4.build("conformance");
        assert!(m4.ends_with(" --features dsp,conformance"), "{m4}");
    }
}
