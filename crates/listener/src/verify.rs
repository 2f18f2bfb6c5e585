use core::fmt;

use sori_dsp::FrontEnd;
use sori_nn::{Network, Prepared};

use crate::{Error, Memory, frontend_backend};

/// Samples converted at a time.
const BLOCK: usize = 64;

/// What [`verify`] compared and found equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Feature rows computed from the golden audio; 0 for packages without audio.
    pub feature_rows: usize,
    /// Output rows, those of the flush included.
    pub output_rows: usize,
}

/// Why a package's golden vectors were not reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The package has none.
    NoGoldenVectors,
    /// The package cannot run in this memory.
    Setup(Error),
    /// The golden audio gave another number of feature rows than `Package::parse` counted.
    FeatureRows {
        /// Rows in the package.
        expected: usize,
        /// Rows computed.
        found: usize,
    },
    /// The first feature that differs.
    Feature {
        /// Feature row.
        row: usize,
        /// Position in the row.
        position: usize,
        /// Value in the package.
        expected: i8,
        /// Value computed.
        found: i8,
    },
    /// The golden features gave another number of output rows than `Package::parse` counted.
    OutputRows {
        /// Rows in the package.
        expected: usize,
        /// Rows computed.
        found: usize,
    },
    /// The first logit that differs.
    Logit {
        /// Output row.
        row: usize,
        /// Class.
        class: usize,
        /// Value in the package.
        expected: i8,
        /// Value computed.
        found: i8,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OTHER_BITS: &str =
            "this build does not compute the same bits as the one that made the package";
        match *self {
            Self::NoGoldenVectors => {
                f.write_str("the package has no golden vectors: quantize the model again")
            }
            Self::Setup(error) => error.fmt(f),
            Self::FeatureRows { expected, found } => write!(
                f,
                "{found} feature rows were computed, but the package has {expected}: {OTHER_BITS}"
            ),
            Self::Feature {
                row,
                position,
                expected,
                found,
            } => write!(
                f,
                "feature row {row} differs at position {position}: {found} instead of {expected}: {OTHER_BITS}"
            ),
            Self::OutputRows { expected, found } => write!(
                f,
                "{found} output rows were computed, but the package has {expected}: {OTHER_BITS}"
            ),
            Self::Logit {
                row,
                class,
                expected,
                found,
            } => write!(
                f,
                "the logits of output row {row} differ at class {class}: {found} instead of {expected}: {OTHER_BITS}"
            ),
        }
    }
}

impl core::error::Error for Mismatch {}

/// Computes the package's golden vectors again, row by row, and compares every bit.
///
/// The network gets the golden features, not those just computed, so that a difference
/// can be attributed to one of the two parts. They run on the backends that a
/// [`crate::Listener`] would use; `memory` is what a listener needs, with an arena for this stripe,
/// and is only used during the call.
///
/// # Errors
/// The first difference, or why the package cannot be verified.
pub fn verify<'p>(
    prepared: impl Into<Prepared<'p>>,
    memory: Memory<'_>,
    stripe: usize,
) -> Result<Verified, Mismatch> {
    let prepared = prepared.into();
    let package = prepared.package();
    let golden = package.golden().ok_or(Mismatch::NoGoldenVectors)?;
    let features = match (golden.audio, package.mel()) {
        (Some(audio), Some(mel)) => {
            let mut frontend = FrontEnd::new(&mel, memory.frontend)
                .map_err(|error| Mismatch::Setup(Error::FrontEnd(error)))?
                .with_backend(frontend_backend(prepared.backend()));
            let mut rows = Rows::new(golden.features, mel.bands);
            let mut block = [0; BLOCK];
            for samples in audio.chunks(BLOCK) {
                let block = &mut block[..samples.len()];
                for (to, &from) in block.iter_mut().zip(samples) {
                    *to = sori_dsp::from_i16(from);
                }
                frontend.push(block, &mut |row| rows.compare(row.features));
            }
            rows
        }
        _ => Rows::new(&[], package.input().row_len()),
    };
    let feature_rows = features.finish(
        |expected, found| Mismatch::FeatureRows { expected, found },
        |[row, position], expected, found| Mismatch::Feature {
            row,
            position,
            expected,
            found,
        },
    )?;

    let mut network = Network::new(&prepared, memory.arena, stripe)
        .map_err(|error| Mismatch::Setup(Error::Network(error)))?;
    let mut logits = Rows::new(golden.logits, network.classes());
    network.push(golden.features, &mut |row| logits.compare(row));
    network.flush(&mut |row| logits.compare(row));
    let output_rows = logits.finish(
        |expected, found| Mismatch::OutputRows { expected, found },
        |[row, class], expected, found| Mismatch::Logit {
            row,
            class,
            expected,
            found,
        },
    )?;
    Ok(Verified {
        feature_rows,
        output_rows,
    })
}

/// Rows as they come, against those that are expected.
struct Rows<'g> {
    golden: &'g [i8],
    row_len: usize,
    computed: usize,
    /// Row, position, expected and found value of the first difference.
    difference: Option<([usize; 2], i8, i8)>,
}

impl<'g> Rows<'g> {
    fn new(golden: &'g [i8], row_len: usize) -> Self {
        Self {
            golden,
            row_len,
            computed: 0,
            difference: None,
        }
    }

    fn compare(&mut self, row: &[i8]) {
        let golden = self.golden.chunks_exact(self.row_len).nth(self.computed);
        if let (Some(golden), None) = (golden, self.difference) {
            let position = row
                .iter()
                .zip(golden)
                .position(|(found, golden)| found != golden);
            self.difference = position.map(|at| ([self.computed, at], golden[at], row[at]));
        }
        self.computed += 1;
    }

    /// The number of rows, if all were equal and none is missing.
    fn finish(
        self,
        other_number: impl FnOnce(usize, usize) -> Mismatch,
        other_value: impl FnOnce([usize; 2], i8, i8) -> Mismatch,
    ) -> Result<usize, Mismatch> {
        if let Some((at, expected, found)) = self.difference {
            return Err(other_value(at, expected, found));
        }
        let expected = self.golden.len() / self.row_len;
        if self.computed != expected {
            return Err(other_number(expected, self.computed));
        }
        Ok(self.computed)
    }
}
