use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::board::{Broker, Channels, Heard, News, State};
use crate::meter::Meter;

/// A line as the format's grammar has it.
#[derive(Debug, PartialEq)]
enum Line {
    Help(String),
    Type(String, String),
    Sample {
        name: String,
        labels: BTreeMap<String, String>,
        value: f64,
    },
}

fn is_name(text: &str, others: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphabetic() || others.contains(c);
    text.starts_with(is_part) && text.chars().all(|c| is_part(c) || c.is_ascii_digit())
}

fn parse(line: &str) -> Option<Line> {
    if let Some(comment) = line.strip_prefix("# ") {
        let (keyword, rest) = comment.split_once(' ')?;
        let (name, text) = rest.split_once(' ')?;
        is_name(name, "_:").then_some(())?;
        return match (keyword, text) {
            ("HELP", text) if !text.is_empty() => Some(Line::Help(name.into())),
            ("TYPE", "counter" | "gauge" | "summary") => Some(Line::Type(name.into(), text.into())),
            _ => None,
        };
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    is_name(name, "_:").then_some(())?;
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"")?;
            is_name(label, "_").then_some(())?;
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => text.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, c) => text.push(c),
                }
            };
            labels.insert(label.into(), text).is_none().then_some(())?;
            rest = &quoted[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = match rest.strip_prefix(' ')? {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Line::Sample {
        name: name.into(),
        labels,
        value,
    })
}

/// A board on which everything is known, with labels as awkward as they can be.
fn full() -> Arc<Board> {
    let (board, _commands) = Board::new();
    let mut silent = Meter::new(48_000);
    let mut loud = Meter::new(48_000);
    for n in 0..48_000 {
        silent.push(0);
        loud.push(((n * 7919) % 20_000) - 10_000);
    }
    let readings = [&mut silent, &mut loud].map(|meter| meter.take().expect("a second"));
    board.publish(News::Channels(Arc::new(Channels {
        readings: readings.into(),
        chosen: 1,
    })));
    board.publish(News::Heard(Arc::new(Heard {
        time_ms: 1,
        verdict: "drum \"n\" bass\\\n".into(),
        confidence: Some(0.75),
        probabilities: BTreeMap::from([
            ("drum \"n\" bass\\\n".into(), 0.75),
            ("a,b}".into(), 0.25),
        ]),
        level_dbfs: -40.5,
    })));
    board.update(|status| {
        status.capture.state = State::NoMicrophone;
        status.capture.overruns = 3;
        status.latency.p99_s = 0.25;
        status.latency.sum_s = 1.0;
        status.latency.sound_s = 50.0;
        status.latency.count = 500;
        status.temperature_c = Some(48.3);
        status.broker = Some(Broker {
            connected: true,
            ..Broker::default()
        });
    });
    board
}

fn lines(board: &Board) -> Vec<Line> {
    let text = text(board);
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| parse(line).unwrap_or_else(|| panic!("no line of the format: {line}")))
        .collect()
}

fn value(lines: &[Line], wanted: &str, label: Option<(&str, &str)>) -> f64 {
    let found: Vec<f64> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Sample {
                name,
                labels,
                value,
            } if name == wanted => label
                .is_none_or(|(label, text)| labels.get(label).is_some_and(|t| t == text))
                .then_some(*value),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 1, "{wanted} {label:?}");
    found[0]
}

#[test]
fn every_line_is_of_the_format_and_says_what_the_board_says() {
    let lines = lines(&full());
    let said = |name, label| value(&lines, name, label);
    assert_eq!(said("sori_overruns_total", None), 3.0);
    let state = |state| said("sori_microphone_state", Some(("state", state)));
    assert_eq!((state("no-microphone"), state("listening")), (1.0, 0.0));
    let level = |channel| said("sori_level_dbfs", Some(("channel", channel)));
    assert_eq!(level("0"), f64::NEG_INFINITY);
    assert!((-70.0..-60.0).contains(&level("1")), "{}", level("1"));
    let awkward = Some(("label", "drum \"n\" bass\\\n"));
    assert_eq!(said("sori_heard_probability_ratio", awkward), 0.75);
    let slowest = Some(("quantile", "0.99"));
    assert_eq!(said("sori_inference_seconds", slowest), 0.25);
    assert_eq!(said("sori_inference_seconds_count", None), 500.0);
    assert_eq!(said("sori_real_time_ratio", None), 0.02);
    assert_eq!(said("sori_temperature_celsius", None), 48.3);
    assert_eq!(said("sori_broker_connected", None), 1.0);
    assert!(said("process_resident_memory_bytes", None) > 1e6);
    assert!(said("process_open_fds", None) >= 3.0);
    assert!(said("process_cpu_seconds_total", None) >= 0.0);
}

/// What `promtool check metrics` looks at.
#[test]
fn names_are_unique_announced_and_end_as_their_kind_demands() {
    let (fresh, _commands) = Board::new();
    for board in [fresh, full()] {
        let mut announced = BTreeMap::new();
        let mut samples = BTreeSet::new();
        let mut helped = None;
        let mut current = String::new();
        for line in lines(&board) {
            match line {
                Line::Help(name) => helped = Some(name),
                Line::Type(name, kind) => {
                    assert_eq!(helped.take().as_ref(), Some(&name), "HELP, then TYPE");
                    assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
                    let again = announced.insert(name.clone(), kind);
                    assert!(again.is_none(), "{name} is announced twice");
                    current = name;
                }
                Line::Sample { name, labels, .. } => {
                    let family = match announced.get(&current).map(String::as_str) {
                        Some("summary") => name
                            .strip_suffix("_sum")
                            .or_else(|| name.strip_suffix("_count"))
                            .unwrap_or(&name),
                        _ => &name,
                    };
                    assert_eq!(family, current, "under its own TYPE");
                    assert!(
                        samples.insert((name.clone(), format!("{labels:?}"))),
                        "{name} {labels:?} is there twice"
                    );
                }
            }
        }
        for prefix in ["sori_uptime_seconds", "sori_frames_total", "sori_info"] {
            assert!(announced.contains_key(prefix), "{prefix}");
        }
        // Base units, and no scale hidden in a name.
        for name in announced.keys() {
            for unit in ["_ms", "_milliseconds", "_percent", "_kb", "_minutes"] {
                assert!(!name.ends_with(unit), "{name}");
            }
        }
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let (board, _commands) = Board::new();
    let text = text(&board);
    for absent in ["temperature", "broker", "heard", "real_time", "level_dbfs"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn a_command_with_parentheses_does_not_shift_the_processor_time() {
    let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
    assert_eq!(processor_seconds(stat), Some(3.0));
    assert_eq!(processor_seconds("42 (a) S 1"), None);
}
