//! Frames of a device in, everything that Sori says of them out.
//!
//! ```text
//! frames ─► channel with the microphone ─► Listener ─► rows, decisions ─► spans
//!    └────► a meter a channel ─► readings, once a second
//! ```

use std::collections::BTreeMap;

use sori_listener::{Decision, Event, Listener, UNKNOWN_LABEL, Verdict, best};

use crate::config::Channel;
use crate::history::Span;
use crate::meter::{Chooser, Meter, Reading};

/// A span of one verdict is cut here, so that a power cut costs no more of it.
const LONGEST_SPAN_S: f64 = 60.0;

/// What the engine says, in order.
#[derive(Debug, Clone)]
pub enum Said<'e> {
    /// A feature row, one value a band; 1/256 dBFS.
    Row(&'e [i8], i32),
    /// About twice a second.
    Decision(&'e Decision),
    /// Once a second: a reading of each channel, and the one that is listened to.
    Channels(&'e [Reading], usize),
    /// When a verdict ends, or has lasted for a minute.
    Span(Span),
}

/// How frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Frames a second.
    pub rate_hz: u32,
    /// Interleaved samples of a frame.
    pub channels: usize,
}

/// From frames to what is said of them.
#[derive(Debug)]
pub struct Engine<'p, 'a> {
    listener: Listener<'p, 'a>,
    labels: Vec<String>,
    layout: Layout,
    fixed: Option<usize>,
    chooser: Chooser,
    meters: Vec<Meter>,
    frames_to_reading: u32,
    mono: Vec<i32>,
    spans: Spans,
}

impl<'p, 'a> Engine<'p, 'a> {
    /// An engine for a listener that takes the layout's rate; `labels` are the package's.
    pub fn new(
        listener: Listener<'p, 'a>,
        labels: Vec<String>,
        layout: Layout,
        channel: Channel,
    ) -> Self {
        let channels = layout.channels.max(1);
        Self {
            listener,
            labels,
            layout: Layout { channels, ..layout },
            fixed: match channel {
                Channel::Auto => None,
                Channel::Fixed(channel) => Some(usize::from(channel).min(channels - 1)),
            },
            chooser: Chooser::new(),
            meters: vec![Meter::new(layout.rate_hz); channels],
            frames_to_reading: layout.rate_hz,
            mono: Vec::new(),
            spans: Spans::default(),
        }
    }

    /// Takes whole frames of 24-bit samples, the last of which came in at `now_ms`.
    pub fn push(&mut self, frames: &[i32], now_ms: i64, on_said: &mut impl FnMut(Said<'_>)) {
        let mut rest = frames;
        while !rest.is_empty() {
            // Up to the next reading, which may choose another channel.
            let most = self.frames_to_reading as usize * self.layout.channels;
            let (part, later) = rest.split_at(most.min(rest.len()));
            rest = later;
            self.listen(part, now_ms, on_said);
            self.frames_to_reading -= (part.len() / self.layout.channels) as u32;
            if self.frames_to_reading == 0 {
                self.read(on_said);
            }
        }
    }

    fn listen(&mut self, frames: &[i32], now_ms: i64, on_said: &mut impl FnMut(Said<'_>)) {
        let channel = self.fixed.unwrap_or(self.chooser.chosen());
        self.mono.clear();
        for frame in frames.chunks_exact(self.layout.channels) {
            for (meter, &sample) in self.meters.iter_mut().zip(frame) {
                meter.push(sample);
            }
            self.mono.push(frame[channel]);
        }
        let (labels, spans) = (&self.labels, &mut self.spans);
        self.listener.push(&self.mono, &mut |event| match event {
            Event::Row {
                features,
                level_dbfs_q8,
            } => on_said(Said::Row(features, level_dbfs_q8)),
            Event::Output { .. } => {}
            Event::Decision(decision) => {
                if let Some(span) = spans.decision(decision, labels, now_ms) {
                    on_said(Said::Span(span));
                }
                on_said(Said::Decision(decision));
            }
        });
    }

    fn read(&mut self, on_said: &mut impl FnMut(Said<'_>)) {
        self.frames_to_reading = self.layout.rate_hz;
        let readings: Vec<Reading> = self.meters.iter_mut().filter_map(Meter::take).collect();
        let channel = match self.fixed {
            Some(fixed) => fixed,
            None => self.chooser.judge(&readings),
        };
        on_said(Said::Channels(&readings, channel));
    }

    /// Ends the stream: the span that is not over comes out.
    pub fn finish(&mut self, on_said: &mut impl FnMut(Said<'_>)) {
        if let Some(span) = self.spans.end() {
            on_said(Said::Span(span));
        }
    }

    /// After a gap in the sound: what came before is no context for what follows.
    pub fn restart(&mut self, on_said: &mut impl FnMut(Said<'_>)) {
        self.finish(on_said);
        self.listener.reset();
        self.spans = Spans::default();
    }

    /// Somebody says that what is heard is right.
    pub fn confirm(&mut self) {
        if let Some(open) = &mut self.spans.open {
            open.span.confirmed = true;
        }
    }

    /// The latest decision.
    pub fn decision(&self) -> &Decision {
        self.listener.decision()
    }
}

/// A verdict in words.
pub fn name(verdict: Verdict, labels: &[String]) -> &str {
    match verdict {
        Verdict::Silence => "silence",
        Verdict::Unknown => "unknown",
        Verdict::Label(label) => labels.get(usize::from(label)).map_or("?", String::as_str),
    }
}

/// How probable the verdict was: that of the class, or of none that can be named.
pub fn confidence(verdict: Verdict, q15: &[u16], labels: &[String]) -> Option<f64> {
    match verdict {
        Verdict::Silence => None,
        Verdict::Label(label) => q15.get(usize::from(label)).map(|&p| fraction(p)),
        Verdict::Unknown => {
            let unknown = labels.iter().position(|label| label == UNKNOWN_LABEL);
            let unknown = unknown.and_then(|unknown| u8::try_from(unknown).ok());
            best(q15, unknown).map(|(_, p)| 1.0 - fraction(p))
        }
    }
}

/// Each label's probability.
pub fn probabilities(decision: &Decision, labels: &[String]) -> BTreeMap<String, f64> {
    let known = labels.iter().zip(&decision.probabilities_q15);
    known
        .map(|(label, &p)| (label.clone(), fraction(p)))
        .collect()
}

fn fraction(q15: u16) -> f64 {
    f64::from(q15) / f64::from(1 << 15)
}

/// Gathers decisions into spans.
#[derive(Debug, Default)]
struct Spans {
    open: Option<Open>,
    /// Sound until the last decision, milliseconds.
    heard_ms: u64,
}

#[derive(Debug)]
struct Open {
    verdict: Verdict,
    span: Span,
    /// Sums over its decisions.
    confidence: f64,
    level: f64,
    decisions: u32,
}

impl Spans {
    /// Takes a decision and returns the span that it ends.
    fn decision(&mut self, decision: &Decision, labels: &[String], now_ms: i64) -> Option<Span> {
        let seconds = decision.time_ms.saturating_sub(self.heard_ms) as f64 / 1000.0;
        self.heard_ms = decision.time_ms;
        let goes_on = self.open.as_ref().is_some_and(|open| {
            open.verdict == decision.verdict && open.span.seconds < LONGEST_SPAN_S
        });
        let ended = match goes_on {
            true => None,
            false => self.end(),
        };
        let open = self.open.get_or_insert_with(|| Open {
            verdict: decision.verdict,
            span: Span {
                started_ms: now_ms - (seconds * 1000.0) as i64,
                seconds: 0.0,
                verdict: name(decision.verdict, labels).into(),
                confidence: None,
                level_dbfs: 0.0,
                confirmed: false,
            },
            confidence: 0.0,
            level: 0.0,
            decisions: 0,
        });
        open.span.seconds += seconds;
        let of_one = confidence(decision.verdict, &decision.probabilities_q15, labels);
        open.confidence += of_one.unwrap_or(0.0);
        open.level += f64::from(decision.level_dbfs_q8) / 256.0;
        open.decisions += 1;
        ended
    }

    fn end(&mut self) -> Option<Span> {
        let open = self.open.take()?;
        let decisions = f64::from(open.decisions);
        let confidence = (open.verdict != Verdict::Silence).then(|| open.confidence / decisions);
        Some(Span {
            confidence,
            level_dbfs: open.level / decisions,
            ..open.span
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(time_ms: u64, verdict: Verdict) -> Decision {
        Decision {
            verdict,
            probabilities_q15: [1 << 14, 1 << 13].into_iter().collect(),
            level_dbfs_q8: -40 * 256,
            time_ms,
        }
    }

    #[test]
    fn decisions_become_spans_that_leave_no_time_out() {
        let labels = ["jazz".to_string(), "rock".to_string()];
        let mut spans = Spans::default();
        let mut ended = Vec::new();
        let verdicts = [
            Verdict::Unknown,
            Verdict::Label(0),
            Verdict::Label(0),
            Verdict::Label(1),
            Verdict::Silence,
        ];
        for (n, verdict) in verdicts.into_iter().enumerate() {
            let time_ms = 500 * (n as u64 + 1);
            ended.extend(spans.decision(
                &decision(time_ms, verdict),
                &labels,
                10_000 + time_ms as i64,
            ));
        }
        ended.extend(spans.end());
        let said: Vec<_> = ended
            .iter()
            .map(|s| (s.verdict.as_str(), s.started_ms, s.seconds, s.confidence))
            .collect();
        assert_eq!(
            said,
            [
                ("unknown", 10_000, 0.5, Some(0.5)),
                ("jazz", 10_500, 1.0, Some(0.5)),
                ("rock", 11_500, 0.5, Some(0.25)),
                ("silence", 12_000, 0.5, None),
            ]
        );
        assert!(ended.iter().all(|s| s.level_dbfs == -40.0));
    }

    #[test]
    fn a_long_span_is_cut() {
        let labels = ["jazz".to_string()];
        let mut spans = Spans::default();
        let ended: Vec<_> = (1..=300)
            .filter_map(|n| spans.decision(&decision(500 * n, Verdict::Label(0)), &labels, 0))
            .collect();
        assert_eq!(ended.len(), 2);
        assert!(
            ended.iter().all(|s| s.seconds == LONGEST_SPAN_S),
            "{ended:?}"
        );
    }
}
