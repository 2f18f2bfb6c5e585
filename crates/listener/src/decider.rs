use sori_package::DecisionRule;

use crate::{Probabilities, nameable};

/// Fraction bits of the smoothing beyond Q15.
const EXTRA_BITS: u32 = 8;

/// What a listener reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to hear.
    Silence,
    /// Sound, but no class is probable enough, or the most probable is [`crate::UNKNOWN_LABEL`].
    Unknown,
    /// The class with this number.
    Label(u8),
}

/// Turns probabilities and levels into verdicts.
///
/// Each new probability enters with weight 2^-`smoothing_shift`; the first sets the
/// state and names nothing, since a causal network has heard only a single row by then. A class
/// is named when its smoothed probability is the largest and reaches
/// `enter`, and stays until it falls below `leave`, another is named, or the class
/// `unknown` reaches a probability of one half. Rows below
/// `silence_dbfs` for `silence_rows` in a row are silence; the first louder row ends it.
#[derive(Debug, Clone)]
pub struct Decider {
    rule: DecisionRule,
    unknown: Option<u8>,
    /// Q23.
    smoothed: heapless::Vec<u32, { crate::MAX_CLASSES }>,
    named: Option<u8>,
    quiet_rows: u32,
}

impl Decider {
    /// A decider that has heard nothing yet: its verdict is `unknown`. The class `unknown`, if there is
    /// one, is for anything that is none of the others (see [`crate::unknown_class`]).
    pub fn new(rule: DecisionRule, unknown: Option<u8>) -> Self {
        Self {
            rule,
            unknown,
            smoothed: heapless::Vec::new(),
            named: None,
            quiet_rows: 0,
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::new(self.rule, self.unknown);
    }

    /// Takes a row's level.
    pub fn level(&mut self, dbfs_q8: i32) {
        self.quiet_rows = match dbfs_q8 < self.rule.thresholds.silence_dbfs_q8 {
            true => self.quiet_rows.saturating_add(1),
            false => 0,
        };
    }

    /// Takes an output row's probabilities, at most [`crate::MAX_CLASSES`].
    pub fn probabilities(&mut self, probabilities_q15: &[u16]) {
        if self.smoothed.len() == probabilities_q15.len() {
            for (smoothed, &p) in self.smoothed.iter_mut().zip(probabilities_q15) {
                let step = (i64::from(p) << EXTRA_BITS) - i64::from(*smoothed);
                *smoothed = (i64::from(*smoothed) + (step >> self.rule.smoothing_shift)) as u32;
            }
        } else {
            self.smoothed = probabilities_q15
                .iter()
                .map(|&p| u32::from(p) << EXTRA_BITS)
                .collect();
            return;
        }
        let smoothed = self.smoothed_q15();
        let Some((best, p, refused)) = nameable(&smoothed, self.unknown) else {
            return;
        };
        if refused {
            self.named = None;
        } else if p >= self.rule.thresholds.enter_q15 {
            self.named = Some(best);
        } else if let Some(named) = self.named
            && smoothed[usize::from(named)] < self.rule.thresholds.leave_q15
        {
            self.named = None;
        }
    }

    /// The current verdict.
    pub fn verdict(&self) -> Verdict {
        if self.quiet_rows > 0 && self.quiet_rows >= self.rule.silence_rows.into() {
            return Verdict::Silence;
        }
        self.named.map_or(Verdict::Unknown, Verdict::Label)
    }

    /// The smoothed probabilities; empty before the first output row.
    pub fn smoothed_q15(&self) -> Probabilities {
        let round = |p: &u32| ((p + (1 << (EXTRA_BITS - 1))) >> EXTRA_BITS) as u16;
        self.smoothed.iter().map(round).collect()
    }
}
