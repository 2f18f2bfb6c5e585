//! `sori listen`: the genre of live audio.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use sori_listener::{Decision, Event, Listener, Verdict, unknown_class};
use sori_nn::Backend;
use sori_sound::Layout;

use crate::backend::Weights;
use crate::exit::Failure;
use crate::hearing::{self, Workspace};
use crate::output;
use crate::package::{self, Audible};
use crate::pcm::{self, Format};

#[derive(Debug, Args)]
#[command(after_help = "Example: arecord -q -f S16_LE -r 16000 -c 1 | sori listen")]
pub(crate) struct Listen {
    /// The package [default: the built-in genre model]
    #[arg(long, value_name = "FILE.sori")]
    model: Option<PathBuf>,
    /// Sample rate of standard input, 8000 to 192000; a WAV header overrides it
    #[arg(long, value_name = "HZ", default_value_t = 16_000, value_parser = clap::value_parser!(u32).range(8_000..=192_000))]
    rate: u32,
    /// Sample format of standard input
    #[arg(long, value_enum, default_value = "S16_LE", ignore_case = true)]
    format: Format,
    /// Number of channels on standard input
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    channels: u8,
    /// Use this channel, counted from 0, instead of the mean of all
    #[arg(long, value_name = "N")]
    channel: Option<usize>,
    /// Listen to a microphone of this machine, not to standard input
    #[cfg(feature = "microphone")]
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "default", conflicts_with_all = ["rate", "format", "channels"])]
    microphone: Option<String>,
    /// Print one line of JSON per decision
    #[arg(long)]
    json: bool,
}

impl Listen {
    pub(crate) fn run(self, backend: Backend) -> Result<()> {
        let bytes = package::read_or_built_in(self.model.as_deref())?;
        let model = Audible::new(&bytes, self.model.as_deref())?;
        let mut weights = Weights::new(&model.package, backend);
        let prepared = weights.prepare(&model.package, backend)?;
        let mut workspace = Workspace::new(&prepared, &model.mel);
        let mut display = Display::new(self.json, model.labels, unknown_class(&model.package));

        #[cfg(feature = "microphone")]
        if let Some(microphone) = &self.microphone {
            let microphone = crate::microphone::Microphone::open(microphone, self.channel)?;
            let rate_hz = microphone.rate_hz();
            let mut listener = workspace.listener(&prepared, rate_hz)?;
            display.settings(&microphone.describe());
            return microphone.run(&mut |samples| display.hear(&mut listener, samples));
        }

        if io::stdin().is_terminal() {
            return Err(Failure::Usage(
                "nothing is piped in: try arecord -q -f S16_LE -r 16000 -c 1 | sori listen".into(),
            )
            .into());
        }
        let layout = Layout {
            encoding: self.format.into(),
            rate_hz: self.rate,
            channels: self.channels.into(),
        };
        let mut input = pcm::open(io::stdin().lock(), layout, self.channel)?;
        let Layout {
            encoding,
            rate_hz,
            channels,
        } = input.layout();
        let mut listener = workspace
            .listener(&prepared, rate_hz)
            .context("standard input")?;
        display.settings(&format!(
            "standard input, {encoding:?}, {rate_hz} Hz, channels: {channels}"
        ));
        let mut samples = Vec::new();
        while input
            .next_block(self.channel, &mut samples)
            .context("cannot read standard input")?
        {
            display.hear(&mut listener, &samples)?;
        }
        display.finish(&mut listener)
    }
}

/// Version of the JSON lines.
const SCHEMA_VERSION: u32 = 1;

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    schema_version: u32,
    time_s: f64,
    verdict: &'a str,
    /// The most probable label, after smoothing.
    best: Option<&'a str>,
    confidence: Option<f64>,
    level_dbfs: f64,
}

/// How decisions are shown: on a terminal as one line that is rewritten, elsewhere as one line
/// per change, or as JSON.
struct Display<'l> {
    labels: Vec<&'l str>,
    /// The class that means unknown.
    unknown: Option<u8>,
    form: Form,
    latest: Decision,
    shown: Option<Verdict>,
    rows: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Live,
    Changes,
    Json,
}

/// Rows between two updates of the live line: about ten per second.
const ROWS_PER_REFRESH: u32 = 6;

impl<'l> Display<'l> {
    fn new(json: bool, labels: Vec<&'l str>, unknown: Option<u8>) -> Self {
        let form = match json {
            true => Form::Json,
            false if io::stdout().is_terminal() => Form::Live,
            false => Form::Changes,
        };
        Self {
            labels,
            unknown,
            form,
            latest: sori_listener::NOTHING_HEARD,
            shown: None,
            rows: 0,
        }
    }

    /// Shows the resolved settings.
    fn settings(&self, text: &str) {
        if self.form != Form::Json {
            eprintln!("listening to {text}; press Ctrl-C to stop");
        }
    }

    fn hear(&mut self, listener: &mut Listener<'_, '_>, samples: &[i32]) -> Result<()> {
        let mut result = Ok(());
        listener.push(samples, &mut |event| {
            if result.is_ok() {
                result = self.show(&event);
            }
        });
        result
    }

    fn show(&mut self, event: &Event<'_>) -> Result<()> {
        match *event {
            Event::Row { level_dbfs_q8, .. } => {
                self.latest.level_dbfs_q8 = level_dbfs_q8;
                self.rows += 1;
                if self.form == Form::Live && self.rows.is_multiple_of(ROWS_PER_REFRESH) {
                    self.rewrite()?;
                }
            }
            Event::Output { .. } => {}
            Event::Decision(decision) => {
                self.latest = decision.clone();
                match self.form {
                    Form::Live => self.rewrite()?,
                    Form::Json => output::line(&serde_json::to_string(&self.line())?)?,
                    Form::Changes if self.shown != Some(decision.verdict) => {
                        output::line(&self.text())?;
                    }
                    Form::Changes => {}
                }
                self.shown = Some(decision.verdict);
            }
        }
        Ok(())
    }

    fn finish(&mut self, listener: &mut Listener<'_, '_>) -> Result<()> {
        let mut result = Ok(());
        listener.finish(&mut |event| {
            if result.is_ok() {
                result = self.show(&event);
            }
        });
        result?;
        if self.form == Form::Live {
            output::line("")?;
        }
        if self.rows == 0 {
            anyhow::bail!("the input ended before the first window was full: send more");
        }
        Ok(())
    }

    /// The most probable label that can be named, and its probability.
    fn best(&self) -> Option<(&'l str, f64)> {
        let (best, p) = sori_listener::best(&self.latest.probabilities_q15, self.unknown)?;
        Some((self.labels.get(usize::from(best))?, hearing::fraction(p)))
    }

    fn line(&self) -> Line<'l> {
        let best = self.best();
        Line {
            schema_version: SCHEMA_VERSION,
            time_s: self.latest.time_ms as f64 / 1000.0,
            verdict: hearing::name(self.latest.verdict, &self.labels),
            best: best.map(|(label, _)| label),
            confidence: best.map(|(_, p)| p),
            level_dbfs: hearing::decibels(self.latest.level_dbfs_q8),
        }
    }

    fn text(&self) -> String {
        let seconds = self.latest.time_ms / 1000;
        let verdict = hearing::name(self.latest.verdict, &self.labels);
        let confidence = match self.best() {
            Some((label, p)) if label == verdict => {
                format!("{} {:3.0} %", output::bar(p, 10), 100.0 * p)
            }
            Some((label, p)) => format!("perhaps {label}, {:.0} %", 100.0 * p),
            None => String::new(),
        };
        format!(
            "{:02}:{:02}  {verdict:10} {confidence:24} {:4.0} dBFS",
            seconds / 60,
            seconds % 60,
            hearing::decibels(self.latest.level_dbfs_q8)
        )
    }

    fn rewrite(&self) -> Result<()> {
        // Back to the start of the line, clearing what the last text left.
        let mut stdout = io::stdout();
        write!(stdout, "\r{}\x1b[K", self.text())?;
        stdout.flush()?;
        Ok(())
    }
}
