//! The same bits: one suite of golden results that every target computes.
//!
//! ```text
//! golden/mel-*.sori ──┐
//!                     ├─► run() ─► (case, CRC32) ─► check() ◄─ golden/conformance.txt
//! seeds ──────────────┘
//! ```
//!
//! [`run`] computes every case and hands on a CRC32 of all its output; [`check`] compares
//! with the file, in order. On a laptop and under QEMU's aarch64 cores a `#[test]` calls
//! it; on a Cortex-M it is `firmware/cortex-m`'s binary `conformance`. The integers are
//! made by [`sori_nn::testing::Noise`]; mel contracts, whose design needs `f64`, come as
//! package files that were made once.
//!
//! With feature `host` the `golden` binary (`cargo xtask golden`) writes the files again.
//!
//! # What it will not do
//! Say whether the results are good: it says that they have not changed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "host")]
extern crate std;

#[cfg(feature = "host")]
pub mod host;
pub mod listening;
mod suite;

pub use suite::run;

/// Packages with the suite's mel contracts: every FFT length, both scales.
const CONTRACTS: [(&str, &[u8]); 5] = [
    ("mel-256", include_bytes!("../golden/mel-256.sori")),
    ("mel-512", include_bytes!("../golden/mel-512.sori")),
    ("mel-1024", include_bytes!("../golden/mel-1024.sori")),
    (
        "mel-1024-narrow",
        include_bytes!("../golden/mel-1024-narrow.sori"),
    ),
    ("mel-2048", include_bytes!("../golden/mel-2048.sori")),
];

/// One line a case: name and CRC32 in hexadecimal.
const GOLDEN: &str = include_str!("../golden/conformance.txt");

/// One case of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// What was computed.
    pub name: &'a str,
    /// CRC32 of all results.
    pub crc: u32,
    /// That of the golden file; none where the file has another case, or none, here.
    pub expected: Option<u32>,
}

impl Outcome<'_> {
    /// Whether the bits are those of the golden file.
    pub fn is_golden(&self) -> bool {
        self.expected == Some(self.crc)
    }
}

/// How the suite went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Cases computed.
    pub cases: usize,
    /// Cases that differ from the golden file or are not in it.
    pub different: usize,
    /// Lines of the golden file that no case belongs to.
    pub missing: usize,
}

impl Summary {
    /// Whether everything in the file was computed and equal.
    pub fn is_golden(&self) -> bool {
        self.cases > 0 && self.different == 0 && self.missing == 0
    }
}

/// Computes every case and compares; `on_outcome` sees each as it is ready.
pub fn check(on_outcome: &mut dyn FnMut(Outcome<'_>)) -> Summary {
    let mut golden = GOLDEN.lines();
    let mut summary = Summary {
        cases: 0,
        different: 0,
        missing: 0,
    };
    run(&mut |name, crc| {
        let expected = golden
            .next()
            .and_then(|line| line.rsplit_once(' '))
            .filter(|(golden_name, _)| *golden_name == name)
            .and_then(|(_, crc)| u32::from_str_radix(crc, 16).ok());
        let outcome = Outcome {
            name,
            crc,
            expected,
        };
        summary.cases += 1;
        summary.different += usize::from(!outcome.is_golden());
        on_outcome(outcome);
    });
    summary.missing = golden.count();
    summary
}
