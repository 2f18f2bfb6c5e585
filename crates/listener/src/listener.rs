use sori_dsp::{FrontEnd, Resampler};
use sori_nn::{Network, Prepared, softmax_q15};
use sori_package::{DecisionRule, MelContract, Thresholds};

use crate::{Decider, Error, MAX_CLASSES, Probabilities, Verdict, frontend_backend, unknown_class};

/// Resampled samples that go to the front end at a time.
const BLOCK: usize = 128;

/// Memory that a listener borrows.
#[derive(Debug)]
pub struct Memory<'a> {
    /// [`Listener::frontend_len`] words, or [`Listener::ample_frontend_len`].
    pub frontend: &'a mut [i32],
    /// `Network::arena_bytes` bytes for a row at a time, aligned to `sori_nn::ARENA_ALIGNMENT`.
    pub arena: &'a mut [u8],
}

/// A verdict, and the evidence for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Smoothed, one per class, Q15; empty before the first output row.
    pub probabilities_q15: Probabilities,
    /// Level of the latest row, 1/256 dBFS.
    pub level_dbfs_q8: i32,
    /// Milliseconds of audio since the start or the last reset.
    pub time_ms: u64,
}

/// What happens in a listener, in order.
#[derive(Debug, Clone, Copy)]
pub enum Event<'e> {
    /// A feature row.
    Row {
        /// One value per band.
        features: &'e [i8],
        /// 1/256 dBFS.
        level_dbfs_q8: i32,
    },
    /// An output row of the network.
    Output {
        /// One per class.
        logits: &'e [i8],
        /// One per class, Q15.
        probabilities_q15: &'e [u16],
    },
    /// After each output row, and whenever silence begins or ends.
    Decision(&'e Decision),
}

/// Samples in, decisions out.
#[derive(Debug)]
pub struct Listener<'p, 'a> {
    resampler: Option<Resampler<&'a mut [i32], &'a mut [i32]>>,
    frontend: FrontEnd<'p, 'a>,
    stages: Stages<'p, 'a>,
}

/// What follows the front end; apart from it, so that its rows can be borrowed.
#[derive(Debug)]
struct Stages<'p, 'a> {
    network: Network<'p, 'a>,
    softmax_step_q16: u32,
    decider: Decider,
    decision: Decision,
    rows: u64,
    hop_samples: u64,
    rate_hz: u64,
}

impl<'p, 'a> Listener<'p, 'a> {
    /// Words of [`Memory::frontend`] for samples at `rate_hz`: those of the front end, and of a
    /// resampler where the contract has another rate.
    pub fn frontend_len(mel: &MelContract<'_>, rate_hz: u32) -> usize {
        let resampler_len = match rate_hz == mel.sample_rate_hz {
            true => 0,
            false => Resampler::MEMORY_LEN,
        };
        FrontEnd::workspace_len(mel) + resampler_len
    }

    /// The same with room for a table of the resampler's taps, which makes most of what it costs go
    /// away: 30 720 words more for 44.1 kHz.
    pub fn ample_frontend_len(mel: &MelContract<'_>, rate_hz: u32) -> usize {
        let table_len = Resampler::new(rate_hz, mel.sample_rate_hz)
            .map_or(0, |resampler| resampler.ample_table_len());
        Self::frontend_len(mel, rate_hz) + table_len
    }

    /// A listener for mono samples at `rate_hz`, 8 to 192 kHz.
    ///
    /// It runs on the backend that the package was [`Prepared`] for, its front end on the
    /// [`frontend_backend`] of that; an unprepared package runs on the scalar one.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(
        prepared: impl Into<Prepared<'p>>,
        memory: Memory<'a>,
        rate_hz: u32,
    ) -> Result<Self, Error> {
        let prepared = prepared.into();
        let backend = frontend_backend(prepared.backend());
        let package = prepared.package();
        let mel = package.mel().ok_or(Error::NoMelContract)?;
        let classifier = package.classifier();
        if classifier.classes > MAX_CLASSES {
            return Err(Error::TooManyClasses {
                found: classifier.classes,
            });
        }
        let (needed, found) = (Self::frontend_len(&mel, rate_hz), memory.frontend.len());
        let workspace_len = FrontEnd::workspace_len(&mel);
        let Some((workspace, rest)) = memory
            .frontend
            .split_at_mut_checked(workspace_len)
            .filter(|_| found >= needed)
        else {
            let too_small = sori_dsp::Error::WorkspaceTooSmall { needed, found };
            return Err(Error::FrontEnd(too_small));
        };
        let resampler = match rate_hz == mel.sample_rate_hz {
            true => None,
            false => {
                // As long as was asked for above, or what follows says what is wrong with the rate.
                let (memory, table) = rest.split_at_mut(Resampler::MEMORY_LEN);
                let resampler = Resampler::in_memory(rate_hz, mel.sample_rate_hz, memory)
                    .map_err(Error::FrontEnd)?
                    .with_backend(backend);
                let table = table.get_mut(..resampler.table_len()).unwrap_or_default();
                Some(resampler.with_table(table).map_err(Error::FrontEnd)?)
            }
        };
        // Without a rule of its own a package names the best class at once.
        let rule = package.decision().unwrap_or(DecisionRule {
            thresholds: Thresholds {
                silence_dbfs_q8: i32::MIN,
                enter_q15: 0,
                leave_q15: 0,
            },
            smoothing_shift: 0,
            silence_rows: u16::MAX,
        });
        let frontend = FrontEnd::new(&mel, workspace).map_err(Error::FrontEnd)?;
        Ok(Self {
            resampler,
            frontend: frontend.with_backend(backend),
            stages: Stages {
                network: Network::new(&prepared, memory.arena, 1).map_err(Error::Network)?,
                softmax_step_q16: classifier.softmax_step_q16,
                decider: Decider::new(rule, unknown_class(package)),
                decision: NOTHING_HEARD,
                rows: 0,
                hop_samples: mel.hop_samples as u64,
                rate_hz: mel.sample_rate_hz.into(),
            },
        })
    }

    /// Takes samples in 24-bit scale. Any chunking gives the same events.
    pub fn push(&mut self, samples: &[i32], on_event: &mut impl FnMut(Event<'_>)) {
        self.listen(samples, on_event);
    }

    /// Not generic, nor is anything below: compiled once, in this crate, whoever listens.
    fn listen(&mut self, samples: &[i32], on_event: &mut dyn FnMut(Event<'_>)) {
        let Self {
            resampler,
            frontend,
            stages,
        } = self;
        let Some(resampler) = resampler else {
            frontend.push(samples, &mut |row| stages.row(row, on_event));
            return;
        };
        let mut block = heapless::Vec::<i32, BLOCK>::new();
        let mut hand_on = |sample| {
            // A full block is handed on at once, so there is always room.
            let _ = block.push(sample);
            if block.is_full() {
                frontend.push(&block, &mut |row| stages.row(row, on_event));
                block.clear();
            }
        };
        resampler.push(samples, &mut hand_on);
        frontend.push(&block, &mut |row| stages.row(row, on_event));
    }

    /// Ends the stream and emits what is still in the resampler and in the network. An incomplete
    /// last frame is dropped. Call [`reset`](Self::reset) before the next stream.
    pub fn finish(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        self.end(on_event);
    }

    fn end(&mut self, on_event: &mut dyn FnMut(Event<'_>)) {
        let Self {
            resampler,
            frontend,
            stages,
        } = self;
        if let Some(resampler) = resampler {
            resampler.flush(&mut |sample| {
                frontend.push(&[sample], &mut |row| stages.row(row, on_event));
            });
        }
        stages.finish(on_event);
    }

    /// Forgets the stream.
    pub fn reset(&mut self) {
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
        self.frontend.reset();
        self.stages.network.reset();
        self.stages.decider.reset();
        self.stages.decision = NOTHING_HEARD;
        self.stages.rows = 0;
    }

    /// The latest decision.
    pub fn decision(&self) -> &Decision {
        &self.stages.decision
    }
}

/// The decision before any sound.
pub const NOTHING_HEARD: Decision = Decision {
    verdict: Verdict::Unknown,
    probabilities_q15: Probabilities::new(),
    level_dbfs_q8: sori_dsp::Row::SILENT,
    time_ms: 0,
};

impl Stages<'_, '_> {
    fn row(&mut self, row: sori_dsp::Row<'_>, on_event: &mut dyn FnMut(Event<'_>)) {
        on_event(Event::Row {
            features: row.features,
            level_dbfs_q8: row.level_dbfs_q8,
        });
        self.rows += 1;
        self.decision.level_dbfs_q8 = row.level_dbfs_q8;
        self.decision.time_ms = self.rows * self.hop_samples * 1000 / self.rate_hz;
        self.decider.level(row.level_dbfs_q8);
        let mut decided = false;
        let (decider, decision, step) =
            (&mut self.decider, &mut self.decision, self.softmax_step_q16);
        self.network.push(row.features, &mut |logits| {
            output(logits, step, decider, decision, on_event);
            decided = true;
        });
        let verdict = self.decider.verdict();
        if !decided && verdict != self.decision.verdict {
            self.decision.verdict = verdict;
            on_event(Event::Decision(&self.decision));
        }
    }

    fn finish(&mut self, on_event: &mut dyn FnMut(Event<'_>)) {
        let (decider, decision, step) =
            (&mut self.decider, &mut self.decision, self.softmax_step_q16);
        self.network
            .flush(&mut |logits| output(logits, step, decider, decision, on_event));
    }
}

fn output(
    logits: &[i8],
    softmax_step_q16: u32,
    decider: &mut Decider,
    decision: &mut Decision,
    on_event: &mut dyn FnMut(Event<'_>),
) {
    let mut probabilities = [0; MAX_CLASSES];
    let probabilities = &mut probabilities[..logits.len()];
    softmax_q15(logits, softmax_step_q16, probabilities);
    on_event(Event::Output {
        logits,
        probabilities_q15: probabilities,
    });
    decider.probabilities(probabilities);
    decision.verdict = decider.verdict();
    decision.probabilities_q15 = decider.smoothed_q15();
    on_event(Event::Decision(decision));
}
