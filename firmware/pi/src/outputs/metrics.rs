//! Numbers for Prometheus, in its text format 0.0.4.
//!
//! Names say the unit and counters end in `_total`; what is not known is left out rather
//! than written as 0.

use std::fmt::Write as _;
use std::fs;

use crate::board::{Board, Status};

/// What a response with [`text`] is to call itself.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All states of the microphone: one of them is 1.
const STATES: [&str; 5] = ["starting", "listening", "muted", "no-microphone", "ended"];

/// Everything that the board and the system know now.
pub fn text(board: &Board) -> String {
    let status = board.status();
    let mut page = Exposition::default();
    page.gauge("sori_info", "Build information; always 1.")
        .with(
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("package", &status.recognizer.name),
                ("backend", &status.recognizer.backend),
            ],
            1.0,
        );
    page.gauge("sori_uptime_seconds", "Time since the start.")
        .is(board.uptime_s());
    page.gauge("sori_muted", "1 while muted.")
        .is(f64::from(board.is_muted()));
    microphone(&mut page, &status);
    recognition(&mut page, &status);
    outputs(&mut page, &status);
    process(&mut page);
    if let Some(celsius) = status.temperature_c {
        page.gauge("sori_temperature_celsius", "Processor temperature.")
            .is(celsius);
    }
    page.0
}

fn microphone(page: &mut Exposition, status: &Status) {
    let capture = &status.capture;
    // The name that JSON uses too.
    let state = serde_json::to_value(capture.state).unwrap_or_default();
    let mut family = page.gauge("sori_microphone_state", "1 for the current state.");
    for name in STATES {
        family.with(&[("state", name)], f64::from(state == name));
    }
    page.counter("sori_frames_total", "Frames read from the microphone.")
        .is(capture.frames as f64);
    page.counter(
        "sori_overruns_total",
        "Times the microphone was not read in time.",
    )
    .is(capture.overruns as f64);
    page.counter("sori_suspends_total", "Times the system was suspended.")
        .is(capture.suspends as f64);
    page.counter("sori_reopened_total", "Times the microphone was reopened.")
        .is(capture.reopened as f64);
    page.counter(
        "sori_dropped_frames_total",
        "Frames dropped because recognition fell behind.",
    )
    .is(capture.dropped_frames as f64);
    page.counter(
        "sori_clipped_samples_total",
        "Samples at full scale on the active channel.",
    )
    .is(status.clipped_samples as f64);
    let Some(channels) = &status.channels else {
        return;
    };
    let numbers: Vec<String> = (0..channels.readings.len())
        .map(|n| n.to_string())
        .collect();
    let readings = || numbers.iter().zip(&channels.readings);
    let mut family = page.gauge("sori_level_dbfs", "Level of the last second.");
    for (number, reading) in readings() {
        family.with(&[("channel", number)], reading.rms_dbfs);
    }
    let mut family = page.gauge("sori_peak_dbfs", "Peak of the last second.");
    for (number, reading) in readings() {
        family.with(&[("channel", number)], reading.peak_dbfs);
    }
    page.gauge("sori_channel", "The active channel.")
        .is(channels.chosen as f64);
}

fn recognition(page: &mut Exposition, status: &Status) {
    page.counter("sori_decisions_total", "Decisions.")
        .is(status.decisions as f64);
    if let Some(heard) = &status.heard {
        page.gauge("sori_heard_info", "The latest decision; always 1.")
            .with(&[("verdict", &heard.verdict)], 1.0);
        if let Some(confidence) = heard.confidence {
            page.gauge("sori_heard_confidence_ratio", "Probability of the verdict.")
                .is(confidence);
        }
        let mut family = page.gauge(
            "sori_heard_probability_ratio",
            "Probability of each label, smoothed.",
        );
        for (label, &probability) in &heard.probabilities {
            family.with(&[("label", label)], probability);
        }
        page.gauge("sori_heard_level_dbfs", "Level of the latest decision.")
            .is(heard.level_dbfs);
    }
    let latency = &status.latency;
    page.summary(
        "sori_inference_seconds",
        "Processing time of a block of audio, over the whole run.",
        &[(0.5, latency.p50_s), (0.99, latency.p99_s)],
        latency.sum_s,
        latency.count,
    );
    page.counter("sori_sound_seconds_total", "Audio processed.")
        .is(latency.sound_s);
    if latency.sound_s > 0.0 {
        page.gauge(
            "sori_real_time_ratio",
            "Processing time over audio time: at 1 the processor is fully loaded.",
        )
        .is(latency.sum_s / latency.sound_s);
    }
    page.counter(
        "sori_packages_swapped_total",
        "Packages loaded while running.",
    )
    .is(status.recognizer.swapped as f64);
    page.counter(
        "sori_packages_refused_total",
        "Packages rejected while running.",
    )
    .is(status.recognizer.refused as f64);
}

fn outputs(page: &mut Exposition, status: &Status) {
    let history = &status.history;
    page.counter("sori_history_written_total", "Rows in the database.")
        .is(history.written as f64);
    page.gauge("sori_history_waiting", "Rows waiting to be written.")
        .is(history.waiting as f64);
    page.counter(
        "sori_history_dropped_total",
        "Rows dropped because too many were waiting.",
    )
    .is(history.dropped as f64);
    page.counter("sori_history_failures_total", "Writes that failed.")
        .is(history.failures as f64);
    page.counter(
        "sori_history_set_aside_total",
        "Damaged databases set aside.",
    )
    .is(history.set_aside as f64);
    page.gauge(
        "sori_hardware_problems",
        "Lights, buttons and displays not working.",
    )
    .is(status.hardware_problems.len() as f64);
    let Some(broker) = &status.broker else {
        return;
    };
    page.gauge("sori_broker_connected", "1 while connected to the broker.")
        .is(f64::from(broker.connected));
    page.counter("sori_broker_connections_total", "Connections made.")
        .is(broker.connections as f64);
    page.counter(
        "sori_broker_published_total",
        "Messages acknowledged by the broker.",
    )
    .is(broker.published as f64);
    page.counter(
        "sori_broker_dropped_total",
        "Messages dropped while the broker was unreachable.",
    )
    .is(broker.dropped as f64);
}

/// Under the names that every exporter uses.
fn process(page: &mut Exposition) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kibibytes) = field(&status, "VmRSS:") {
        page.gauge("process_resident_memory_bytes", "Memory in use.")
            .is(kibibytes * 1024.0);
    }
    if let Some(threads) = field(&status, "Threads:") {
        page.gauge("process_threads", "Threads.").is(threads);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // Less the one that counts.
        page.gauge("process_open_fds", "Open files.")
            .is(descriptors.count().saturating_sub(1) as f64);
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = processor_seconds(&stat) {
        page.counter("process_cpu_seconds_total", "Processor time.")
            .is(seconds);
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, in ticks that Linux gives user space at 100 Hz on all our machines.
fn processor_seconds(stat: &str) -> Option<f64> {
    // The second field is the command, which may have spaces and parentheses of its own.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let user: f64 = ticks.next()?.parse().ok()?;
    let system: f64 = ticks.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

#[derive(Default)]
struct Exposition(String);

/// A name whose samples are being written.
struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Exposition {
    fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    fn summary(
        &mut self,
        name: &'static str,
        help: &str,
        quantiles: &[(f64, f64)],
        sum: f64,
        count: u64,
    ) {
        let mut family = self.family(name, "summary", help);
        for (share, value) in quantiles {
            family.with(&[("quantile", &share.to_string())], *value);
        }
        family.line("_sum", &[], sum);
        family.line("_count", &[], count as f64);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let page = &mut self.0;
        // Writing to a string cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page, name }
    }
}

impl Family<'_> {
    fn is(&mut self, value: f64) {
        self.line("", &[], value);
    }

    fn with(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.page, "{}{suffix}", self.name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            let _ = write!(self.page, "{before}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.page.push('}');
        }
        let _ = match value {
            value if value.is_nan() => writeln!(self.page, " NaN"),
            f64::INFINITY => writeln!(self.page, " +Inf"),
            f64::NEG_INFINITY => writeln!(self.page, " -Inf"),
            value => writeln!(self.page, " {value}"),
        };
    }
}

/// Labels are the user's: one may have a quote or a line break.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
