//! What a few seconds of sound say of a microphone and its wires.

use std::time::{Duration, Instant};

use super::Finding;
use crate::capture::{Kind, Source, Trouble};
use crate::meter::{Meter, Reading};

/// What a microphone of the usual kind says in a silent room: -87 dBFS, and a little more.
const TOO_QUIET_DBFS: f64 = -82.0;

/// Fractions of full scale. A few thousandths are usual; an SPH0645 has some hundredths.
const OFFSET: f64 = 0.002;
const HUGE_OFFSET: f64 = 0.25;

/// Share of the power at the mains' frequency, and the level from which on it is worth a word.
const HUM: f64 = 0.4;
const HUM_DBFS: f64 = -70.0;

/// Sound after opening that is not judged: the microphone wakes up.
const SETTLE_MS: u64 = 300;

/// Some seconds of a microphone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listened {
    /// Each second, each channel.
    pub seconds: Vec<Vec<Reading>>,
    /// Overruns and the like.
    pub interruptions: u32,
    /// Why it ended early, or why it did not begin.
    pub trouble: Option<Trouble>,
}

/// Listens for that long, and tells of every tenth of a second.
pub fn listen(
    source: &mut dyn Source,
    length: Duration,
    on_tenth: &mut dyn FnMut(&[Reading]),
) -> Listened {
    let mut listened = Listened::default();
    let layout = match source.open() {
        Ok(layout) => layout,
        Err(trouble) => {
            listened.trouble = Some(trouble);
            return listened;
        }
    };
    let channels = layout.channels.max(1);
    let rate_hz = layout.rate_hz.max(10);
    let mut seconds = vec![Meter::new(rate_hz); channels];
    let mut tenths = seconds.clone();
    let frames = (length.as_secs_f64() * f64::from(rate_hz)) as u64;
    let mut settling = match source.wakes_up() {
        true => SETTLE_MS * u64::from(rate_hz) / 1000,
        false => 0,
    };
    // A clock that says nothing of a device without sound, and one for that.
    let until = Instant::now() + length + Duration::from_secs(3);
    let (mut heard, mut samples) = (0, Vec::new());
    while heard < frames && Instant::now() < until {
        samples.clear();
        match source.read(&mut samples) {
            Ok(()) => {}
            Err(trouble) if matches!(trouble.kind, Kind::Overrun | Kind::Suspended) => {
                listened.interruptions += 1;
                continue;
            }
            Err(trouble) => {
                listened.trouble = Some(trouble).filter(|trouble| trouble.kind != Kind::Ended);
                break;
            }
        }
        for frame in samples.chunks_exact(channels) {
            if settling > 0 {
                settling -= 1;
                continue;
            }
            for (channel, &sample) in frame.iter().enumerate() {
                seconds[channel].push(sample);
                tenths[channel].push(sample);
            }
            heard += 1;
            if heard % u64::from(rate_hz / 10) == 0 {
                on_tenth(&take(&mut tenths));
            }
            if heard % u64::from(rate_hz) == 0 {
                listened.seconds.push(take(&mut seconds));
            }
            if heard == frames {
                break;
            }
        }
    }
    // What is left of a second counts if there is no other.
    let rest = take(&mut seconds);
    if listened.seconds.is_empty() && !rest.is_empty() {
        listened.seconds.push(rest);
    }
    listened
}

fn take(meters: &mut [Meter]) -> Vec<Reading> {
    meters.iter_mut().filter_map(Meter::take).collect()
}

/// A channel's name as wired: L/R to ground is the left half of the frame.
pub(crate) fn channel_name(channel: usize, channels: usize) -> String {
    match (channels, channel) {
        (2, 0) => "left".into(),
        (2, 1) => "right".into(),
        _ => format!("channel {channel}"),
    }
}

/// What that says, each with the line to type or the wire to look at.
pub fn judge(listened: &Listened) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(trouble) = &listened.trouble {
        findings.push(of_trouble(trouble));
    }
    let channels = listened.seconds.first().map_or(0, Vec::len);
    if channels == 0 {
        if listened.trouble.is_none() {
            findings.push(of_trouble(&Trouble::new(Kind::Quiet, "no audio arrived")));
        }
        return findings;
    }
    if listened.interruptions > 0 {
        let what = format!("{} interruptions: audio was lost", listened.interruptions);
        let why = "the device was not read in time: the processor is busy";
        findings.push(Finding::note(what).why(why).fix("top"));
    }
    let of = |channel: usize| -> Vec<Reading> {
        let seconds = listened.seconds.iter();
        seconds.filter_map(|s| s.get(channel)).copied().collect()
    };
    let is_live = |channel: &usize| of(*channel).iter().any(Reading::is_live);
    let live: Vec<usize> = (0..channels).filter(is_live).collect();
    if let [channel] = live[..]
        && channels > 1
    {
        let name = channel_name(channel, channels);
        findings.push(
            Finding::ok(format!("the microphone is on the {name} channel")).why(
                "one microphone leaves the other channel empty; `channel = \"auto\"` finds it",
            ),
        );
    }
    for channel in 0..channels {
        let name = channel_name(channel, channels);
        let readings = of(channel);
        match live.contains(&channel) {
            true => findings.extend(of_live(&name, &readings)),
            // Empty beside a live one is as it should be.
            false if live.is_empty() => findings.push(of_dead(&name, &readings)),
            false => {}
        }
    }
    findings
}

fn of_trouble(trouble: &Trouble) -> Finding {
    let finding = Finding::problem(trouble.text.clone());
    match trouble.kind {
        Kind::Quiet => Finding::problem(format!("no data at all: {trouble}"))
            .why("the device is open, but its clock does not run")
            .fix("check the wires BCLK to GPIO 18 (pin 12) and LRCLK to GPIO 19 (pin 35), then: dmesg | grep -i i2s"),
        Kind::Absent => finding.fix("sori-pi mic list"),
        Kind::Gone => finding.fix("dmesg | tail"),
        _ => finding,
    }
}

fn of_dead(name: &str, readings: &[Reading]) -> Finding {
    let constant = readings.iter().all(|reading| reading.constant);
    if readings.iter().all(Reading::is_zero) {
        return Finding::problem(format!("{name}: all zeros"))
            .why("nothing drives the data line: no power, no data wire, or the microphone uses the other half of the frame")
            .fix("check the wires: L/R to GND (left) or to 3V3 (right), never floating; SD to GPIO 20 (pin 38); VDD to 3V3 (pin 1)");
    }
    if constant {
        return Finding::problem(format!(
            "{name}: stuck at {:+.4} of full scale",
            readings.first().map_or(0.0, |reading| reading.offset)
        ))
        .why("the data line is held high or low")
        .fix("check the wire SD to GPIO 20 (pin 38) for a short circuit or a loose end");
    }
    Finding::problem(format!("{name}: less than any microphone's noise"))
        .why("only the lowest bits change: a loose wire, or a muted device")
        .fix("check the wires SD and L/R; for a USB microphone: alsamixer -V capture")
}

fn of_live(name: &str, readings: &[Reading]) -> Vec<Finding> {
    let live = || readings.iter().filter(|reading| reading.is_live());
    let loudest = live().map(|r| r.rms_dbfs).fold(f64::NEG_INFINITY, f64::max);
    let peak = live()
        .map(|r| r.peak_dbfs)
        .fold(f64::NEG_INFINITY, f64::max);
    let count = live().count().max(1) as f64;
    let offset = live().map(|r| r.offset).sum::<f64>() / count;
    let clipped: u64 = live().map(|r| u64::from(r.clipped)).sum();
    let mut hums: Vec<f64> = live().map(|r| r.hum).collect();
    hums.sort_by(f64::total_cmp);
    let hum = hums.get(hums.len() / 2).copied().unwrap_or(0.0);

    let mut findings = Vec::new();
    let level = format!("{name}: up to {loudest:.1} dBFS, peak {peak:.1} dBFS");
    if loudest < TOO_QUIET_DBFS {
        findings.push(
            Finding::note(format!("{level}: too quiet"))
                .why("that is the microphone's own noise: the room is silent, or no sound reaches it")
                .fix("clap near it and try again; if the level does not move, check its sound hole: it may face away or be covered"),
        );
    } else {
        findings.push(Finding::ok(level));
    }
    if readings.iter().any(|reading| reading.constant) {
        findings.push(
            Finding::note(format!("{name}: sound comes and goes"))
                .why("at times the data line does not change: a loose wire, or a USB microphone that mutes silence itself")
                .fix("wiggle the wires SD (GPIO 20, pin 38) and VDD while running this again"),
        );
    }
    if clipped > 0 {
        findings.push(
            Finding::problem(format!("{name}: clipping, {clipped} samples at full scale"))
                .why("louder sound is distorted, and recognized as something else")
                .fix("move it away from the loudspeaker; for a USB microphone, lower its gain: alsamixer -V capture"),
        );
    }
    if offset.abs() > HUGE_OFFSET {
        findings.push(
            Finding::problem(format!("{name}: an offset of {offset:+.3} of full scale"))
                .why("it leaves little headroom, and is more than any good microphone has")
                .fix("check its power: 3V3 (pin 1), not 5V; then try another microphone"),
        );
    } else if offset.abs() > OFFSET {
        findings.push(
            Finding::note(format!("{name}: an offset of {offset:+.4} of full scale"))
                .why("usual for an SPH0645; it is removed first and does no harm"),
        );
    }
    if hum > HUM && loudest > HUM_DBFS {
        findings.push(
            Finding::note(format!(
                "{name}: hum, {:.0} % of the power is at 50 or 60 Hz and above",
                100.0 * hum
            ))
            .why("mains hum enters through the power supply or long wires")
            .fix("shorten the wires to 10 cm, route GND beside BCLK, or try another power supply"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::scripted::{Scripted, Step};
    use crate::engine::Layout;
    use crate::meter::FULL_SCALE;
    use crate::mic::Severity;

    const LAYOUT: Layout = Layout {
        rate_hz: 8000,
        channels: 2,
    };

    /// What is said of two seconds of that.
    fn judged(left: impl Fn(f64) -> f64, right: impl Fn(f64) -> f64) -> Vec<Finding> {
        let scale = |x: f64| (x * FULL_SCALE).clamp(-FULL_SCALE, FULL_SCALE - 1.0) as i32;
        let frames = (0..16_000 + 2400).flat_map(|n| {
            let t = f64::from(n) / 8000.0;
            [scale(left(t)), scale(right(t))]
        });
        let steps = [Step::Open(LAYOUT), Step::Samples(frames.collect())];
        let mut tenths = 0;
        let listened = listen(
            &mut Scripted::new(steps),
            Duration::from_secs(2),
            &mut |readings| {
                assert_eq!(readings.len(), 2);
                tenths += 1;
            },
        );
        assert_eq!((listened.seconds.len(), tenths), (2, 20));
        judge(&listened)
    }

    fn sine(hz: f64, amplitude: f64) -> impl Fn(f64) -> f64 {
        move |t| amplitude * (std::f64::consts::TAU * hz * t).sin()
    }

    fn zero(_: f64) -> f64 {
        0.0
    }

    /// Each finding's severity, and words of it, in order.
    fn assert_said(findings: &[Finding], expected: &[(Severity, &str)]) {
        let said: Vec<_> = findings.iter().map(|f| (f.severity, &f.what)).collect();
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (finding, (severity, part)) in findings.iter().zip(expected) {
            assert_eq!(finding.severity, *severity, "{said:#?}");
            assert!(finding.what.contains(part), "{part} is not in {said:#?}");
            assert!(
                finding.severity != Severity::Problem || finding.fix.is_some(),
                "no way out: {finding:?}"
            );
        }
    }

    #[test]
    fn every_state_of_the_wires_has_its_words() {
        use Severity::{Note, Ok, Problem};
        let music = || sine(440.0, 0.01);
        assert_said(
            &judged(music(), zero),
            &[(Ok, "on the left channel"), (Ok, "left: up to -43.0 dBFS")],
        );
        assert_said(
            &judged(zero, move |t| sine(440.0, 0.01)(t) + 0.03),
            &[
                (Ok, "on the right channel"),
                (Ok, "right: up to"),
                (Note, "right: an offset of +0.0300"),
            ],
        );
        assert_said(
            &judged(zero, zero),
            &[(Problem, "left: all zeros"), (Problem, "right: all zeros")],
        );
        assert_said(
            &judged(zero, |_| -0.5),
            &[
                (Problem, "left: all zeros"),
                (Problem, "right: stuck at -0.5000"),
            ],
        );
        assert_said(
            &judged(sine(1000.0, 3e-7), zero),
            &[(Problem, "left: less than"), (Problem, "right: all zeros")],
        );
        assert_said(
            &judged(sine(1000.0, 5e-5), zero),
            &[(Ok, "left"), (Note, "too quiet")],
        );
        assert_said(
            &judged(sine(440.0, 2.0), music()),
            &[(Ok, "left"), (Problem, "left: clipping"), (Ok, "right")],
        );
        assert_said(
            &judged(move |t| sine(440.0, 0.01)(t) - 0.4, zero),
            &[(Ok, "left"), (Ok, "left"), (Problem, "an offset of -0.400")],
        );
        assert_said(
            &judged(sine(50.0, 0.01), zero),
            &[(Ok, "left"), (Ok, "left"), (Note, "left: hum, 100 %")],
        );
        assert_said(
            &judged(|t| if t < 1.4 { 0.0 } else { sine(440.0, 0.01)(t) }, zero),
            &[(Ok, "left"), (Ok, "left"), (Note, "comes and goes")],
        );
    }

    #[test]
    fn what_cannot_be_listened_to_is_said_too() {
        let failed = |steps: Vec<Step>| {
            let mut source = Scripted::new(steps);
            judge(&listen(&mut source, Duration::from_secs(1), &mut |_| {}))
        };
        let problem = Severity::Problem;
        for kind in [Kind::Busy, Kind::Absent] {
            let text = format!("{kind:?}: as told");
            let found = failed(vec![Step::Fail(kind)]);
            assert_eq!((found.len(), found[0].severity), (1, problem), "{found:?}");
            assert!(found[0].what.contains(&text), "{found:?}");
        }
        let quiet = [Step::Open(LAYOUT), Step::Nothing, Step::Fail(Kind::Quiet)];
        assert_said(&failed(quiet.to_vec()), &[(problem, "no data at all")]);
        // A file without sound in it.
        let found = failed(vec![Step::Open(LAYOUT)]);
        assert_said(&found, &[(problem, "no data at all")]);
        // Overruns are no end, and half a second is enough for an opinion.
        let found = failed(vec![
            Step::Open(LAYOUT),
            Step::Frames(2400),
            Step::Fail(Kind::Overrun),
            Step::Frames(4000),
        ]);
        assert_said(&found[..1], &[(Severity::Note, "1 interruptions")]);
        assert!(found.len() > 1, "{found:?}");
    }
}
