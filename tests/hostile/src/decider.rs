//! Any probabilities and levels under any rule.

use sori_listener::{Decider, Verdict};
use sori_package::{DecisionRule, Thresholds};

use crate::{Input, noise};

/// Probability 1, Q15.
const ONE: u16 = 1 << 15;

pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let classes = usize::from(input.byte()) % 64 + 1;
    let unknown = Some(input.byte() % 80).filter(|&class| usize::from(class) < classes);
    let (enter_q15, leave_q15) = (input.word() % (ONE + 1), input.word() % (ONE + 1));
    let rule = DecisionRule {
        thresholds: Thresholds {
            silence_dbfs_q8: i32::from(input.word() as i16),
            enter_q15: enter_q15.max(leave_q15),
            leave_q15: enter_q15.min(leave_q15),
        },
        smoothing_shift: input.byte() % 16,
        silence_rows: input.word() % 40,
    };
    let mut decider = Decider::new(rule, unknown);
    assert_eq!(decider.verdict(), Verdict::Unknown);
    let (mut quiet, mut before) = (0u32, Verdict::Unknown);
    while !input.0.is_empty() {
        let level_q8 = i32::from(input.word() as i16);
        decider.level(level_q8);
        quiet = if level_q8 < rule.thresholds.silence_dbfs_q8 {
            quiet + 1
        } else {
            0
        };
        let sum = ONE - input.byte() as u16 % 2;
        let mut left = sum;
        let probabilities: Vec<u16> = (0..classes)
            .map(|class| {
                let most = if class + 1 == classes {
                    left
                } else {
                    input.word() % (left + 1)
                };
                left -= most;
                most
            })
            .collect();
        let is_first = decider.smoothed_q15().is_empty();
        decider.probabilities(&probabilities);
        let smoothed = decider.smoothed_q15();
        assert_eq!(smoothed.len(), classes);
        assert!(smoothed.iter().all(|&p| p <= ONE), "{smoothed:?}");
        let is_silent = quiet > 0 && quiet >= u32::from(rule.silence_rows);
        let verdict = decider.verdict();
        assert_eq!(verdict == Verdict::Silence, is_silent, "{quiet} rows");
        if let Verdict::Label(class) = verdict {
            assert!(usize::from(class) < classes && Some(class) != unknown);
            let p = smoothed[usize::from(class)];
            // Named now, or before and still as probable as it takes to stay.
            let is_kept = matches!(before, Verdict::Label(_) | Verdict::Silence);
            let least = if is_kept {
                rule.thresholds.leave_q15
            } else {
                rule.thresholds.enter_q15
            };
            assert!(p >= least && !is_first, "{p} of {rule:?}");
        }
        before = verdict;
    }
    decider.reset();
    assert_eq!(decider.verdict(), Verdict::Unknown);
    assert!(decider.smoothed_q15().is_empty());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |head: [u8; 11], seed| head.into_iter().chain(noise(seed, 200)).collect();
    vec![
        seed([9, 3, 0, 40, 0, 20, 0, 0xd0, 2, 3, 0], 0x9e37_79b9),
        seed([1, 79, 0, 0, 0, 0, 0, 0x80, 0, 0, 0], 0x1234_5677),
        seed(
            [63, 0, 0, 0x80, 0, 0x80, 0xff, 0x7f, 15, 39, 0],
            0xdead_beef,
        ),
    ]
}
