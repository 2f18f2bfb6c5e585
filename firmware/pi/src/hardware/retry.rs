//! A part that may be missing, or go away, and is tried again.

use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// A part, or why there is none.
#[derive(Debug)]
pub(super) struct Retry<T> {
    part: Option<T>,
    problem: Option<String>,
    next: Duration,
    wait: Duration,
}

impl<T> Retry<T> {
    pub(super) fn new() -> Self {
        Self {
            part: None,
            problem: None,
            next: Duration::ZERO,
            wait: FIRST_WAIT,
        }
    }

    /// The part; where there is none it is opened, if that is not too soon. The flag says
    /// that it was opened just now.
    pub(super) fn get(
        &mut self,
        now: Duration,
        open: impl FnOnce() -> Result<T, String>,
    ) -> Option<(&mut T, bool)> {
        let mut is_new = false;
        if self.part.is_none() {
            if now < self.next {
                return None;
            }
            match open() {
                Ok(part) => {
                    self.part = Some(part);
                    is_new = true;
                }
                Err(problem) => self.failed(now, problem),
            }
        }
        self.part.as_mut().map(|part| (part, is_new))
    }

    /// It did what it should.
    pub(super) fn worked(&mut self) {
        self.problem = None;
        self.wait = FIRST_WAIT;
    }

    /// It did not: it is closed, and opened again after a while.
    pub(super) fn failed(&mut self, now: Duration, problem: String) {
        self.part = None;
        self.problem = Some(problem);
        self.next = now + self.wait;
        self.wait = (2 * self.wait).min(LONGEST_WAIT);
    }

    /// The part, if it is open.
    pub(super) fn open(&mut self) -> Option<&mut T> {
        self.part.as_mut()
    }

    /// Why there is none; until it has worked again.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_tried_ever_more_seldom_and_taken_when_it_comes() {
        let mut retry = Retry::new();
        let mut tries = Vec::new();
        for second in 0..60 {
            retry.get(Duration::from_secs(second), || {
                tries.push(second);
                Err::<(), _>("none".into())
            });
        }
        assert_eq!(tries, [0, 1, 3, 7, 15, 31, 47]);
        assert_eq!(retry.problem(), Some("none"));
        let opened = retry.get(Duration::from_secs(63), || Ok(()));
        assert!(matches!(opened, Some((_, true))));
        let again = retry.get(Duration::from_secs(63), || panic!("it is open"));
        assert!(matches!(again, Some((_, false))));
        // Open is not yet working: a display may answer and then not take a byte.
        assert_eq!(retry.problem(), Some("none"));
        retry.worked();
        assert_eq!(retry.problem(), None);
        retry.failed(Duration::from_secs(70), "gone".into());
        assert!(retry.open().is_none());
        let soon = retry.get(Duration::from_secs(71), || Ok(()));
        assert!(soon.is_some(), "the wait begins anew after work");
    }
}
