//! Two networks' answers to the same clips.

use serde::Serialize;

use crate::answers::{Sqnr, best, softmax};

/// The differences found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of this structure.
    pub schema_version: u32,
    /// Clips on which both were run.
    pub clips: usize,
    /// Share on which both name the same class.
    pub agreement: f64,
    /// Power of the first network's logits over that of the difference, dB.
    pub sqnr_db: f64,
    /// Largest difference of two logits.
    pub largest_difference: f64,
    /// Mean over clips of the largest difference of two probabilities.
    pub mean_probability_change: f64,
    /// Share of the labelled clips whose [answer](crate::answers) is their own, of each; `None` if
    /// no clip has a label.
    pub accuracy: Option<[f64; 2]>,
    /// By class.
    pub per_class: Vec<ClassChange>,
}

/// How results for one class change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassChange {
    /// Clips to which each network's answer is this class.
    pub named: [usize; 2],
    /// Clips of that label.
    pub labelled: usize,
    /// Of those, the ones each network gets right.
    pub right: [usize; 2],
}

impl Comparison {
    /// Of both networks' logits at the end of each clip, and of their answers to it; `expected` is
    /// the class that each clip should be, where that is known. None where there is no clip.
    ///
    /// # Panics
    /// When the two do not have the same number of clips, and all clips the same classes.
    pub fn new(
        logits: [&[Vec<f32>]; 2],
        answers: [&[usize]; 2],
        expected: &[Option<usize>],
    ) -> Option<Self> {
        let [first, second] = logits;
        assert_eq!([first.len(), second.len()], [expected.len(); 2], "clips");
        assert_eq!(answers.map(<[_]>::len), [expected.len(); 2], "answers");
        let classes = first.first()?.len();
        let clips = expected.len();
        let mut sqnr = Sqnr::default();
        let mut per_class = vec![ClassChange::default(); classes];
        let (mut same, mut largest, mut changes, mut labelled) = (0, 0f64, 0.0, 0);
        let mut right = [0; 2];
        for (clip, ((a, b), expected)) in first.iter().zip(second).zip(expected).enumerate() {
            assert_eq!([a.len(), b.len()], [classes; 2], "classes");
            for (&a, &b) in a.iter().zip(b) {
                sqnr.add(a, b);
                largest = largest.max(f64::from((a - b).abs()));
            }
            let probabilities = [softmax(a), softmax(b)];
            let pairs = probabilities[0].iter().zip(&probabilities[1]);
            changes += pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            same += usize::from(best(a) == best(b));
            let named = answers.map(|answers| answers[clip]);
            for (n, &class) in named.iter().enumerate() {
                per_class[class].named[n] += 1;
            }
            let Some(class) = *expected else { continue };
            labelled += 1;
            per_class[class].labelled += 1;
            for n in 0..2 {
                let hit = usize::from(named[n] == class);
                per_class[class].right[n] += hit;
                right[n] += hit;
            }
        }
        Some(Self {
            schema_version: 1,
            clips,
            agreement: same as f64 / clips as f64,
            sqnr_db: sqnr.db(),
            largest_difference: largest,
            mean_probability_change: changes / clips as f64,
            accuracy: (labelled > 0).then(|| right.map(|right| right as f64 / labelled as f64)),
            per_class,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_class_and_only_labelled_clips_are_right_or_wrong() {
        let first = [vec![2.0, 0.0], vec![0.0, 1.0], vec![0.0, 3.0]];
        let second = [vec![2.0, 0.0], vec![1.0, 0.0], vec![0.0, 3.0]];
        let expected = [Some(0), Some(1), None];
        let answers: [&[usize]; 2] = [&[0, 1, 1], &[0, 0, 1]];
        let comparison =
            Comparison::new([&first, &second], answers, &expected).expect("three clips");
        assert_eq!(comparison.agreement, 2.0 / 3.0);
        assert_eq!(comparison.accuracy, Some([1.0, 0.5]));
        assert_eq!(comparison.largest_difference, 1.0);
        let rock = comparison.per_class[1];
        assert_eq!((rock.named, rock.labelled, rock.right), ([2, 1], 1, [1, 0]));
    }

    #[test]
    fn no_clip_is_no_comparison_and_no_label_no_accuracy() {
        assert_eq!(Comparison::new([&[], &[]], [&[], &[]], &[]), None);
        let alike = [vec![1.0, 2.0]];
        let comparison = Comparison::new([&alike, &alike], [&[1], &[1]], &[None]).expect("a clip");
        assert_eq!(comparison.accuracy, None);
        assert_eq!(comparison.agreement, 1.0);
    }
}
