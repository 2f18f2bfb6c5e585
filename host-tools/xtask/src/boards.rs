//! The emulated boards that the firmware runs on.

/// Where the firmware and its workspace are.
pub(crate) const DIRECTORY: &str = "firmware/cortex-m";

/// An Arm MPS2 board with one of Arm's FPGA images.
pub(crate) struct Board {
    pub(crate) core: &'static str,
    machine: &'static str,
    pub(crate) target: &'static str,
    /// What stable Rust cannot tell from the target: whether there is the DSP extension.
    dsp: bool,
}

/// One per core. The M7's runs the M4's programs: its instructions and its memory map are
/// a superset.
pub(crate) const BOARDS: [Board; 4] = [
    Board {
        core: "Cortex-M3",
        machine: "mps2-an385",
        target: "thumbv7m-none-eabi",
        dsp: false,
    },
    Board {
        core: "Cortex-M4",
        machine: "mps2-an386",
        target: "thumbv7em-none-eabihf",
        dsp: true,
    },
    Board {
        core: "Cortex-M7",
        machine: "mps2-an500",
        target: "thumbv7em-none-eabihf",
        dsp: true,
    },
    Board {
        core: "Cortex-M33",
        machine: "mps2-an505",
        target: "thumbv8m.main-none-eabihf",
        dsp: true,
    },
];

/// A wait that never ends is what a stuck program looks like.
const TIMEOUT_S: u32 = 300;

impl Board {
    /// The boards that programs are built for, one a target.
    pub(crate) fn builds() -> impl Iterator<Item = &'static Self> {
        let mut last = "";
        BOARDS
            .iter()
            .filter(move |board| std::mem::replace(&mut last, board.target) != board.target)
    }

    /// Cargo's arguments: profile, target, and the board's features with those of the program.
    pub(crate) fn build(&self, features: &str) -> String {
        let target = self.target;
        let dsp = if self.dsp { "dsp," } else { "" };
        match format!("{dsp}{features}").trim_end_matches(',') {
            "" => format!("--release --target {target}"),
            features => format!("--release --target {target} --features {features}"),
        }
    }

    /// Runs a program that was built in [`DIRECTORY`], from there. An instruction takes a
    /// nanosecond, and what waits for a timer does not wait for ours.
    pub(crate) fn run(&self, program: &str) -> String {
        let Self {
            machine, target, ..
        } = self;
        format!(
            "timeout {TIMEOUT_S} qemu-system-arm -machine {machine} -nographic -monitor none \
             -serial stdio -semihosting-config enable=on,target=native \
             -icount shift=0,sleep=off -kernel target/{target}/release/{program}"
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
        assert_eq!(m3.build(""), "--release --target thumbv7m-none-eabi");
        let m4 = m4.build("conformance");
        assert!(m4.ends_with(" --features dsp,conformance"), "{m4}");
    }
}
