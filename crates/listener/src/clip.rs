use sori_package::Package;

use crate::{Event, Probabilities, Verdict, nameable, unknown_class};

/// The verdict on a whole clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// `Silence`, `Unknown` (see [`Verdict`]), or the best class.
    pub verdict: Verdict,
    /// One per class, Q15; empty if the clip gave no output row.
    pub probabilities_q15: Probabilities,
    /// The most probable class that can be named, whatever the verdict.
    pub best: Option<u8>,
    /// Feature rows.
    pub rows: u32,
    /// Level of the loudest row, 1/256 dBFS.
    pub peak_dbfs_q8: i32,
}

/// Gathers a listener's events over a clip.
///
/// The probabilities are the mean over the output rows at which the network's running
/// mean was full, or those of the last output row if it never was.
#[derive(Debug, Clone)]
pub struct ClipSummary {
    pool_rows: usize,
    silence_dbfs_q8: i32,
    enter_q15: u16,
    unknown: Option<u8>,
    /// Sums over the full output rows.
    sums: heapless::Vec<u64, { crate::MAX_CLASSES }>,
    full: u64,
    outputs: usize,
    last: Probabilities,
    rows: u32,
    silent_rows: u32,
    peak_dbfs_q8: i32,
}

impl ClipSummary {
    /// An empty summary. Packages without a decision rule never say `unknown`.
    pub fn new(package: &Package<'_>) -> Self {
        let thresholds = package.decision().map(|rule| rule.thresholds);
        Self {
            pool_rows: package.classifier().pool_rows,
            silence_dbfs_q8: thresholds.map_or(i32::MIN, |t| t.silence_dbfs_q8),
            enter_q15: thresholds.map_or(0, |t| t.enter_q15),
            unknown: unknown_class(package),
            sums: heapless::Vec::new(),
            full: 0,
            outputs: 0,
            last: Probabilities::new(),
            rows: 0,
            silent_rows: 0,
            peak_dbfs_q8: i32::MIN,
        }
    }

    /// Takes one of the listener's events.
    pub fn observe(&mut self, event: &Event<'_>) {
        match *event {
            Event::Row { level_dbfs_q8, .. } => {
                self.rows += 1;
                self.silent_rows += u32::from(level_dbfs_q8 < self.silence_dbfs_q8);
                self.peak_dbfs_q8 = self.peak_dbfs_q8.max(level_dbfs_q8);
            }
            Event::Output {
                probabilities_q15, ..
            } => {
                self.outputs += 1;
                self.last = probabilities_q15.iter().copied().collect();
                if self.outputs >= self.pool_rows {
                    self.full += 1;
                    let sums = self.sums.iter().copied().chain(core::iter::repeat(0));
                    self.sums = sums
                        .zip(probabilities_q15)
                        .map(|(sum, &p)| sum + u64::from(p))
                        .collect();
                }
            }
            Event::Decision(_) => {}
        }
    }

    /// The verdict so far.
    pub fn clip(&self) -> Clip {
        let probabilities_q15: Probabilities = match self.full {
            0 => self.last.clone(),
            n => self
                .sums
                .iter()
                .map(|sum| ((sum + n / 2) / n) as u16)
                .collect(),
        };
        let best = nameable(&probabilities_q15, self.unknown);
        let verdict = match best {
            // A click in an otherwise silent clip is still silence.
            _ if self.rows > 0 && self.silent_rows >= self.rows - self.rows / 20 => {
                Verdict::Silence
            }
            Some((best, p, false)) if p >= self.enter_q15 => Verdict::Label(best),
            _ => Verdict::Unknown,
        };
        Clip {
            verdict,
            probabilities_q15,
            best: best.map(|(best, ..)| best),
            rows: self.rows,
            peak_dbfs_q8: self.peak_dbfs_q8,
        }
    }
}
