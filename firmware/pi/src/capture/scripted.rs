//! A source that does as it is told, for tests.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use super::{Kind, Source, Trouble};
use crate::engine::Layout;

/// What it does at the next call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Of `open`: it works.
    Open(Layout),
    /// Of either: it does not.
    Fail(Kind),
    /// Of `read`: so many frames that count on.
    Frames(usize),
    /// Of `read`: these samples.
    Samples(Vec<i32>),
    /// Of `read`: none.
    Nothing,
}

/// The source. When its steps are over, so is its sound.
#[derive(Debug)]
pub(crate) struct Scripted {
    steps: VecDeque<Step>,
    layout: Layout,
    next: i32,
    pub(crate) waits: bool,
    pub(crate) wakes_up: bool,
}

impl Scripted {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            layout: Layout {
                rate_hz: 1000,
                channels: 2,
            },
            next: 0,
            waits: false,
            wakes_up: true,
        }
    }

    fn step(&mut self) -> Result<Step, Trouble> {
        match self.steps.pop_front() {
            None => Err(Trouble::new(Kind::Ended, "the script is over")),
            Some(Step::Fail(kind)) => Err(Trouble::new(kind, format!("{kind:?}: as told"))),
            Some(step) => Ok(step),
        }
    }
}

impl Source for Scripted {
    fn name(&self) -> String {
        "script".into()
    }

    fn open(&mut self) -> Result<Layout, Trouble> {
        match self.step()? {
            Step::Open(layout) => {
                self.layout = layout;
                Ok(layout)
            }
            step => panic!("{step:?} where it is opened"),
        }
    }

    fn read(&mut self, into: &mut Vec<i32>) -> Result<(), Trouble> {
        match self.step()? {
            Step::Frames(frames) => {
                for n in self.next..self.next + frames as i32 {
                    into.extend(std::iter::repeat_n(n, self.layout.channels));
                }
                self.next += frames as i32;
            }
            Step::Samples(samples) => into.extend(samples),
            Step::Nothing => thread::sleep(Duration::from_millis(1)),
            step => panic!("{step:?} where it is read"),
        }
        Ok(())
    }

    fn can_wait(&self) -> bool {
        self.waits
    }

    fn wakes_up(&self) -> bool {
        self.wakes_up
    }
}
