//! `mic test`: a level meter, then verdicts.

use std::io::{self, Write};
use std::time::Duration;

use super::judge::channel_name;
use super::{Outcome, Terminal, judge, listen};
use crate::capture::{Kind, Source};
use crate::meter::Reading;

/// The bar of a channel.
const WIDTH: usize = 24;

/// What its left end means. A silent room is at about -80.
const LEAST_DBFS: f64 = -90.0;

/// From here on a bar is yellow, and red where samples clip.
const LOUD_DBFS: f64 = -12.0;

/// More channels have no room in a line.
const MOST_CHANNELS: usize = 4;

/// Shows the level for that long, then says what it means.
///
/// # Errors
/// The output cannot be written.
pub fn test(
    source: &mut dyn Source,
    seconds: u32,
    terminal: Terminal,
    out: &mut impl Write,
) -> io::Result<Outcome> {
    writeln!(
        out,
        "listening to {} for {seconds} s: make some noise",
        source.name()
    )?;
    let mut written = Ok(());
    let mut tenths = 0_u64;
    let length = Duration::from_secs(seconds.clamp(1, 3600).into());
    let listened = listen(source, length, &mut |readings| {
        tenths += 1;
        let line = line(readings, terminal);
        // After an error nothing more is written; it is told at the end.
        if written.is_ok() {
            written = match terminal.is_tty {
                true => write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()),
                false if tenths.is_multiple_of(10) => writeln!(out, "{line}"),
                false => Ok(()),
            };
        }
    });
    written?;
    if terminal.is_tty && tenths > 0 {
        writeln!(out)?;
    }
    let findings = judge(&listened);
    for finding in &findings {
        finding.write(out, terminal)?;
    }
    let trouble = listened.trouble.map(|trouble| trouble.kind);
    Ok(match trouble {
        Some(Kind::Absent) => Outcome::NotFound,
        _ => Outcome::of(&findings),
    })
}

fn line(readings: &[Reading], terminal: Terminal) -> String {
    let shown = readings.iter().take(MOST_CHANNELS).enumerate();
    let bars: Vec<String> = shown
        .map(|(channel, reading)| {
            let name = channel_name(channel, readings.len());
            format!("{name} {} {}", bar(reading, terminal), level(reading))
        })
        .collect();
    bars.join("  ")
}

fn level(reading: &Reading) -> String {
    match (reading.is_zero(), reading.constant) {
        (true, _) => "  zeros   ".into(),
        (_, true) => "  stuck   ".into(),
        _ => format!("{:5.1} dBFS", reading.rms_dbfs.max(-999.0)),
    }
}

fn bar(reading: &Reading, terminal: Terminal) -> String {
    let share = |dbfs: f64| ((dbfs - LEAST_DBFS) / -LEAST_DBFS).clamp(0.0, 1.0);
    let place = |dbfs: f64| (share(dbfs) * WIDTH as f64).round() as usize;
    let (filled, peak) = (place(reading.rms_dbfs), place(reading.peak_dbfs));
    let bar: String = (1..=WIDTH)
        .map(|n| match n {
            n if n <= filled => '#',
            n if n == peak => '|',
            _ => '-',
        })
        .collect();
    let colour = match reading.clipped > 0 {
        true => "31",
        false if reading.peak_dbfs > LOUD_DBFS => "33",
        false => "32",
    };
    format!("[{}]", terminal.coloured(&bar, colour))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::scripted::{Scripted, Step};
    use crate::engine::Layout;

    fn tested(steps: Vec<Step>, terminal: Terminal) -> (Outcome, String) {
        let mut out = Vec::new();
        let outcome = test(&mut Scripted::new(steps), 2, terminal, &mut out);
        let text = String::from_utf8(out).expect("text");
        (outcome.expect("memory can be written"), text)
    }

    fn music() -> Vec<Step> {
        let sample = |n: i32| (f64::from(n % 10 - 5) * 10_000.0) as i32;
        let frames = (0..20_000).flat_map(|n| [sample(n), 0]).collect();
        let layout = Layout {
            rate_hz: 8000,
            channels: 2,
        };
        vec![Step::Open(layout), Step::Samples(frames)]
    }

    #[test]
    fn a_pipe_gets_a_line_a_second_and_the_verdicts_without_any_escape() {
        let (outcome, text) = tested(music(), Terminal::NONE);
        assert_eq!(outcome, Outcome::Ok);
        let meters: Vec<_> = text.lines().filter(|line| line.contains('[')).collect();
        assert_eq!(meters.len(), 2, "{text}");
        assert!(
            meters[0].contains("right [------------------------]   zeros"),
            "{text}"
        );
        assert!(meters[0].contains("left [###"), "{text}");
        assert!(
            text.contains("ok: the microphone is on the left channel"),
            "{text}"
        );
        assert!(!text.contains(['\x1b', '\r']), "{text:?}");
    }

    #[test]
    fn a_terminal_gets_one_line_that_is_written_over_in_colours_if_wanted() {
        for colour in [false, true] {
            let terminal = Terminal {
                is_tty: true,
                colour,
            };
            let (_, text) = tested(music(), terminal);
            assert_eq!(text.matches("\r\x1b[K").count(), 20, "{text:?}");
            assert_eq!(text.contains("\x1b[32m"), colour, "{text:?}");
            assert_eq!(text.lines().filter(|line| line.contains('#')).count(), 1);
        }
    }

    #[test]
    fn the_outcome_is_for_the_shell() {
        let code = |steps| tested(steps, Terminal::NONE).0.exit_code();
        assert_eq!(code(vec![Step::Fail(Kind::Absent)]), 4);
        assert_eq!(code(vec![Step::Fail(Kind::Busy)]), 1);
        assert_eq!(code(music()), 0);
    }
}
