//! A push button to ground: what a hand meant by the levels that a pin shows.
//!
//! The pin is polled. Edges could be had as interrupts, but a press bounces for 20 ms, which
//! is dozens of wake-ups at the wrong time, and embedded-hal has no blocking trait for them.
//! A read of the register is nothing beside the wake-up, and 100 of those a second took 0.12 %
//! of a core of an x86-64 server: `cargo test -p sori-pi what_polling_costs -- --ignored`.

use std::time::Duration;

/// How often to look: three looks fall into what counts as steady.
pub const POLL: Duration = Duration::from_millis(10);

/// A level that held so long is no bounce: contacts come to rest within 20 ms.
const STEADY: Duration = Duration::from_millis(25);

/// From here on a press is long.
const LONG: Duration = Duration::from_secs(1);

/// What was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Pressed and let go.
    Short,
    /// Held for a second; said while it is still held, so that the hand knows.
    Long,
}

/// Levels over time in, presses out.
#[derive(Debug, Clone)]
pub struct Button {
    down: bool,
    /// Since when the level is another one.
    changing: Option<Duration>,
    pressed_at: Duration,
    /// Nothing more will come of this press.
    said: bool,
}

impl Button {
    /// One that has to be up first: who starts with a short circuit is not pressed.
    pub fn new() -> Self {
        Self {
            down: true,
            changing: None,
            pressed_at: Duration::ZERO,
            said: true,
        }
    }

    /// Takes the level at a time, which never goes back.
    pub fn push(&mut self, now: Duration, down: bool) -> Option<Press> {
        if down == self.down {
            self.changing = None;
            let is_long = down && !self.said && now.saturating_sub(self.pressed_at) >= LONG;
            self.said |= is_long;
            return is_long.then_some(Press::Long);
        }
        let since = *self.changing.get_or_insert(now);
        if now.saturating_sub(since) < STEADY {
            return None;
        }
        self.down = down;
        self.changing = None;
        if down {
            self.pressed_at = since;
            self.said = false;
            return None;
        }
        if std::mem::replace(&mut self.said, true) {
            return None;
        }
        match since.saturating_sub(self.pressed_at) >= LONG {
            true => Some(Press::Long),
            false => Some(Press::Short),
        }
    }
}

impl Default for Button {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is pressed, milliseconds: a pause, a press, and when the contact bounces after
    /// either edge.
    #[derive(Debug, Clone)]
    struct Hand {
        pause: u64,
        held: u64,
        down_bounces: Vec<u64>,
        up_bounces: Vec<u64>,
    }

    fn hand() -> impl Strategy<Value = Hand> {
        // Nobody can tell what a press of about a second meant. The shortest is one that polls 12 ms
        // apart must see: 20 ms of bouncing, the first poll after it, 25 ms steady, the poll that
        // finds it so.
        let held = prop_oneof![70..960u64, 1040..4000u64];
        let bounces = || prop::collection::vec(0..20u64, 0..12);
        (80..2000u64, held, bounces(), bounces()).prop_map(
            |(pause, held, down_bounces, up_bounces)| Hand {
                pause,
                held,
                down_bounces,
                up_bounces,
            },
        )
    }

    /// Times at which the level changes; it is up at first and after every press.
    fn edges(hands: &[Hand]) -> Vec<u64> {
        let mut edges = Vec::new();
        let mut now = 0;
        for hand in hands {
            for (wait, bounces) in [
                (hand.pause, &hand.down_bounces),
                (hand.held, &hand.up_bounces),
            ] {
                now += wait;
                edges.push(now);
                // Two edges a bounce, so that the level comes to rest where it should.
                edges.extend(bounces.iter().flat_map(|&at| [now + at, now + 20]));
            }
        }
        edges.sort_unstable();
        edges
    }

    fn presses(edges: &[u64], polls: impl Iterator<Item = u64>) -> Vec<Press> {
        let mut button = Button::new();
        let mut said = Vec::new();
        let mut now = 0;
        let end = edges.last().map_or(0, |last| last + 200);
        for wait in polls {
            let down = edges.iter().filter(|&&edge| edge <= now).count() % 2 == 1;
            said.extend(button.push(Duration::from_millis(now), down));
            now += wait;
            if now > end {
                break;
            }
        }
        said
    }

    proptest! {
        #[test]
        fn every_press_is_told_once_however_it_bounces(
            hands in prop::collection::vec(hand(), 0..8),
            polls in prop::collection::vec(8..13u64, 50),
        ) {
            let expected: Vec<Press> = hands
                .iter()
                .map(|hand| match hand.held >= 1000 {
                    true => Press::Long,
                    false => Press::Short,
                })
                .collect();
            prop_assert_eq!(presses(&edges(&hands), polls.into_iter().cycle()), expected);
        }

        #[test]
        fn a_disturbance_is_no_press(
            starts in prop::collection::vec(100..300u64, 1..20),
            length in 1..20u64,
        ) {
            let mut now = 0;
            let edges: Vec<u64> = starts
                .iter()
                .flat_map(|wait| {
                    now += wait;
                    [now, now + length]
                })
                .collect();
            prop_assert_eq!(presses(&edges, std::iter::repeat(10)), []);
        }
    }

    #[test]
    fn a_button_that_is_stuck_says_nothing_at_first_and_one_thing_later() {
        let mut button = Button::new();
        let at = Duration::from_millis;
        let mut push = |range: std::ops::Range<u64>, down| -> Vec<Press> {
            range
                .step_by(10)
                .filter_map(|now| button.push(at(now), down))
                .collect()
        };
        assert_eq!(push(0..60_000, true), []);
        assert_eq!(push(60_000..61_000, false), []);
        assert_eq!(push(61_000..120_000, true), [Press::Long]);
    }

    #[test]
    fn a_long_press_is_told_while_it_is_held() {
        let mut button = Button::new();
        let at = Duration::from_millis;
        for now in (0..100).step_by(10) {
            assert_eq!(button.push(at(now), false), None);
        }
        let told = (100..2000)
            .step_by(10)
            .find(|&now| button.push(at(now), true).is_some());
        assert_eq!(told, Some(1100));
    }
}
