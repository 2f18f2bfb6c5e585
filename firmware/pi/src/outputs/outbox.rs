//! What is on its way to the broker, in order, until it says that it has it.
//!
//! Two kinds: messages of which only the latest matters, one a topic, and spans, every one
//! of which matters and of which as many wait as there is room for.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::history::Span;

/// Spans that may wait: days of music, or 2 MB.
pub(super) const MOST_SPANS: usize = 10_000;

/// Messages that the broker may not have acknowledged yet. Less than the client's own limit,
/// which it takes badly.
pub(super) const MOST_IN_FLIGHT: usize = 20;

/// Topics of which the latest message is kept, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    State,
    Discovery,
    Mute,
    Heard,
    Health,
}

impl Kept {
    const ALL: [Self; 5] = [
        Self::State,
        Self::Discovery,
        Self::Mute,
        Self::Heard,
        Self::Health,
    ];
}

/// What is to be published next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Kept(Kept, Vec<u8>),
    Span(Arc<Span>),
}

#[derive(Debug, Default)]
struct Slot {
    payload: Option<Vec<u8>>,
    due: bool,
}

#[derive(Debug)]
struct Flight {
    /// None until the client has given it one.
    packet: Option<u16>,
    is_span: bool,
    acknowledged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    slots: [Slot; Kept::ALL.len()],
    /// The first `sent` of them are in flight.
    spans: VecDeque<Arc<Span>>,
    sent: usize,
    /// In the order of sending.
    flights: VecDeque<Flight>,
    closed: bool,
}

impl Outbox {
    /// The latest for that topic.
    pub(super) fn keep(&mut self, kept: Kept, payload: Vec<u8>) {
        self.slots[kept as usize] = Slot {
            payload: Some(payload),
            due: true,
        };
    }

    /// The latest for that topic, if it is new.
    pub(super) fn keep_new(&mut self, kept: Kept, payload: Vec<u8>) {
        if self.slots[kept as usize].payload.as_ref() != Some(&payload) {
            self.keep(kept, payload);
        }
    }

    /// A span waits. False if the oldest had to go for it.
    pub(super) fn push(&mut self, span: Arc<Span>) -> bool {
        let has_room = self.spans.len() < MOST_SPANS;
        if !has_room {
            // The oldest that is not on its way already.
            self.spans.remove(self.sent);
        }
        self.spans.push_back(span);
        has_room
    }

    /// A new connection: it has nothing of what the one before did not acknowledge, and
    /// perhaps a broker without memory.
    pub(super) fn restart(&mut self) {
        self.flights.clear();
        self.sent = 0;
        self.repeat();
    }

    /// All that is kept is due again.
    pub(super) fn repeat(&mut self) {
        for slot in &mut self.slots {
            slot.due = slot.payload.is_some();
        }
    }

    /// From now on spans stay here.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// What to publish now, if anything. It is in flight from here on.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.flights.len() >= MOST_IN_FLIGHT {
            return None;
        }
        let due = Kept::ALL.into_iter().find_map(|kept| {
            let slot = &mut self.slots[kept as usize];
            let payload = slot.payload.as_ref().filter(|_| slot.due)?;
            slot.due = false;
            Some(Next::Kept(kept, payload.clone()))
        });
        let span = || self.spans.get(self.sent).filter(|_| !self.closed);
        let next = due.or_else(|| span().cloned().map(Next::Span))?;
        let is_span = matches!(next, Next::Span(_));
        self.sent += usize::from(is_span);
        self.flights.push_back(Flight {
            packet: None,
            is_span,
            acknowledged: false,
        });
        Some(next)
    }

    /// The client gave the next in flight its number.
    pub(super) fn numbered(&mut self, packet: u16) {
        let next = self.flights.iter_mut().find(|f| f.packet.is_none());
        if let Some(flight) = next {
            flight.packet = Some(packet);
        }
    }

    /// The broker has that one. False if nothing of that number is in flight.
    pub(super) fn acknowledged(&mut self, packet: u16) -> bool {
        let of_packet = |f: &&mut Flight| f.packet == Some(packet) && !f.acknowledged;
        let Some(flight) = self.flights.iter_mut().find(of_packet) else {
            return false;
        };
        flight.acknowledged = true;
        // A broker that acknowledges out of order keeps the front waiting.
        while self.flights.front().is_some_and(|f| f.acknowledged) {
            if self.flights.pop_front().is_some_and(|f| f.is_span) {
                self.spans.pop_front();
                self.sent -= 1;
            }
        }
        true
    }

    /// Spans that the broker does not have.
    pub(super) fn spans(&self) -> usize {
        self.spans.len()
    }

    /// Nothing is in flight, and nothing is due.
    pub(super) fn is_idle(&self) -> bool {
        let waits = !self.closed && self.sent < self.spans.len();
        self.flights.is_empty() && !waits && self.slots.iter().all(|slot| !slot.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: i64) -> Arc<Span> {
        Arc::new(Span {
            started_ms: number,
            seconds: 1.0,
            verdict: "jazz".into(),
            confidence: None,
            level_dbfs: -40.0,
            confirmed: false,
        })
    }

    /// Publishes all that may be, numbered from `packet` on, and says which spans those were.
    fn publish(outbox: &mut Outbox, packet: &mut u16) -> Vec<i64> {
        let mut spans = Vec::new();
        while let Some(next) = outbox.next() {
            *packet += 1;
            outbox.numbered(*packet);
            if let Next::Span(span) = next {
                spans.push(span.started_ms);
            }
        }
        spans
    }

    #[test]
    fn only_the_latest_of_a_topic_is_published_and_again_on_a_new_connection() {
        let mut outbox = Outbox::default();
        outbox.keep(Kept::Heard, b"jazz".into());
        outbox.keep(Kept::Heard, b"rock".into());
        outbox.keep(Kept::State, b"online".into());
        assert_eq!(
            outbox.next(),
            Some(Next::Kept(Kept::State, b"online".into()))
        );
        assert_eq!(outbox.next(), Some(Next::Kept(Kept::Heard, b"rock".into())));
        assert_eq!(outbox.next(), None);
        outbox.keep_new(Kept::Heard, b"rock".into());
        assert_eq!(outbox.next(), None);
        outbox.restart();
        let again: Vec<_> = std::iter::from_fn(|| outbox.next()).collect();
        assert_eq!(again.len(), 2);
        assert!(!outbox.is_idle());
    }

    #[test]
    fn spans_that_were_not_acknowledged_are_sent_again_in_order() {
        let mut outbox = Outbox::default();
        let mut packet = 0;
        for number in 0..50 {
            assert!(outbox.push(span(number)));
        }
        let first = publish(&mut outbox, &mut packet);
        assert_eq!(first, (0..MOST_IN_FLIGHT as i64).collect::<Vec<_>>());
        for acknowledged in [1, 2, 3] {
            assert!(outbox.acknowledged(acknowledged));
        }
        assert_eq!(publish(&mut outbox, &mut packet), [20, 21, 22]);
        outbox.restart();
        // Everything from the fourth on, whatever the old connection still says.
        assert!(!outbox.acknowledged(4));
        let mut packet = 100;
        let again = publish(&mut outbox, &mut packet);
        assert_eq!(again[0], 3);
        let mut got = again;
        let mut acknowledged = 100;
        while outbox.spans() > 0 {
            acknowledged += 1;
            assert!(outbox.acknowledged(acknowledged));
            got.extend(publish(&mut outbox, &mut packet));
        }
        assert_eq!(got, (3..50).collect::<Vec<_>>());
        assert!(outbox.is_idle());
    }

    #[test]
    fn acknowledgements_out_of_order_or_twice_lose_nothing() {
        let mut outbox = Outbox::default();
        let mut packet = 0;
        for number in 0..3 {
            outbox.push(span(number));
        }
        publish(&mut outbox, &mut packet);
        assert!(outbox.acknowledged(2));
        assert!(!outbox.acknowledged(2));
        assert_eq!(outbox.spans(), 3, "the first is still not there");
        assert!(outbox.acknowledged(1));
        assert_eq!(outbox.spans(), 1);
        assert!(!outbox.acknowledged(77));
    }

    #[test]
    fn too_many_spans_drop_the_oldest_that_is_not_in_flight() {
        let mut outbox = Outbox::default();
        let mut packet = 0;
        for number in 0..MOST_SPANS as i64 {
            assert!(outbox.push(span(number)));
        }
        publish(&mut outbox, &mut packet);
        assert!(!outbox.push(span(-1)));
        assert_eq!(outbox.spans(), MOST_SPANS);
        for acknowledged in 1..=MOST_IN_FLIGHT as u16 {
            assert!(outbox.acknowledged(acknowledged));
        }
        // Number 20 was the oldest that was not on its way.
        let next = publish(&mut outbox, &mut packet);
        assert_eq!(next[0], MOST_IN_FLIGHT as i64 + 1);
    }

    #[test]
    fn a_closed_outbox_still_says_goodbye() {
        let mut outbox = Outbox::default();
        outbox.push(span(1));
        outbox.close();
        outbox.keep(Kept::State, b"offline".into());
        assert_eq!(
            outbox.next(),
            Some(Next::Kept(Kept::State, b"offline".into()))
        );
        assert_eq!(outbox.next(), None);
        outbox.numbered(1);
        assert!(outbox.acknowledged(1));
        assert!(outbox.is_idle());
        assert_eq!(outbox.spans(), 1);
    }
}
