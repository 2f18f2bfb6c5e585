//! The emulated boards that the firmware runs on.

/// Where the firmware and its workspace are.
pub(crate) const DIRECTORY: &str = "firmware/cortex-m";

/// An Arm MPS2 board with one of Arm's FPGA images.
pub(crate) struct Board {
    pub(crate) core: &'static str,
    machine: &'static str,
    pub(crate) target: &'static str,
}

/// One per core. The M7's runs the M4's programs: its instructions and its memory map are
/// a superset.
pub(crate) const BOARDS: [Board; 4] = [
    Board {
        core: "Cortex-M3",
        machine: "mps2-an385",
        target: "thumbv7m-none-eabi",
    },
    Board {
        core: "Cortex-M4",
        machine: "mps2-an386",
        target: "thumbv7em-none-eabihf",
    },
    Board {
        core: "Cortex-M7",
        machine: "mps2-an500",
        target: "thumbv7em-none-eabihf",
    },
    Board {
        core: "Cortex-M33",
        machine: "mps2-an505",
        target: "thumbv8m.main-none-eabihf",
    },
];

/// A wait that never ends is what a stuck program looks like.
const TIMEOUT_S: u32 = 300;

impl Board {
    /// The targets that programs are built for, each once.
    pub(crate) fn targets() -> impl Iterator<Item = &'static str> {
        let mut last = "";
        let targets = BOARDS.iter().map(|board| board.target);
        targets.filter(move |&target| std::mem::replace(&mut last, target) != target)
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
        let targets: Vec<_> = Board::targets().collect();
        for board in &BOARDS {
            let built = targets.iter().filter(|&&target| target == board.target);
            assert_eq!(built.count(), 1, "{}", board.target);
        }
    }
}
