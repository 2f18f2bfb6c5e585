//! `mic list`: what can record.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::Outcome;
use crate::board::SCHEMA_VERSION;
use crate::capture::cards::{self, Holder, Recorder};

#[derive(Debug, Serialize)]
struct Listed {
    schema_version: u32,
    microphones: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    recorder: Recorder,
    /// The one that `auto` takes.
    auto: bool,
    holder: Option<Holder>,
    /// Formats, channels, rates; none where it cannot be opened.
    offers: Option<String>,
}

/// Writes what can record, below `root`, as text or as JSON.
///
/// # Errors
/// The output cannot be written.
pub fn list(root: &Path, json: bool, out: &mut impl Write) -> io::Result<Outcome> {
    let recorders = cards::recorders_below(root);
    let automatic = cards::automatic(&recorders).cloned();
    let entries = recorders.into_iter().map(|recorder| {
        let holder = cards::holder(root, &recorder);
        Entry {
            name: recorder.name(),
            auto: automatic.as_ref() == Some(&recorder),
            // Who asks a device that is in use is told nothing.
            offers: holder.is_none().then(|| offers(&recorder)).flatten(),
            holder,
            recorder,
        }
    });
    let listed = Listed {
        schema_version: SCHEMA_VERSION,
        microphones: entries.collect(),
    };
    let outcome = match listed.microphones.is_empty() {
        true => Outcome::NotFound,
        false => Outcome::Ok,
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &listed)?;
        writeln!(out)?;
        return Ok(outcome);
    }
    if listed.microphones.is_empty() {
        writeln!(out, "no sound card can record: sori-pi mic doctor")?;
    }
    for entry in &listed.microphones {
        let auto = if entry.auto { "  (auto)" } else { "" };
        writeln!(out, "{}{auto}", entry.name)?;
        writeln!(out, "    {}", entry.recorder.description)?;
        if let Some(offers) = &entry.offers {
            writeln!(out, "    {offers}")?;
        }
        if let Some(holder) = &entry.holder {
            writeln!(out, "    in use by {holder}")?;
        }
    }
    Ok(outcome)
}

#[cfg(feature = "alsa")]
fn offers(recorder: &Recorder) -> Option<String> {
    crate::capture::alsa::offers(&recorder.name()).ok()
}

#[cfg(not(feature = "alsa"))]
fn offers(_: &Recorder) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::cards::tests::{CARDS, PCM, root};

    fn listed(root: &Path, json: bool) -> (Outcome, String) {
        let mut out = Vec::new();
        let outcome = list(root, json, &mut out).expect("memory can be written");
        (outcome, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn each_microphone_has_its_name_and_who_has_it() {
        let root = root(CARDS, PCM, Some((2, 0)));
        let (outcome, text) = listed(root.path(), false);
        assert_eq!(outcome, Outcome::Ok);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "hw:CARD=Device,DEV=0");
        assert!(
            lines.contains(&"hw:CARD=sndrpigooglevoi,DEV=0  (auto)"),
            "{text}"
        );
        assert!(lines.contains(&"    in use by arecord (PID 812)"), "{text}");
        let (_, json) = listed(root.path(), true);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["schema_version"], SCHEMA_VERSION);
        assert_eq!(
            json["microphones"][1]["name"],
            "hw:CARD=sndrpigooglevoi,DEV=0"
        );
        assert_eq!(json["microphones"][1]["holder"]["pid"], 812);
        assert_eq!(json["microphones"][0]["auto"], false);
    }

    #[test]
    fn without_any_the_doctor_is_next() {
        let nothing = tempfile::tempdir().expect("a temporary folder");
        let (outcome, text) = listed(nothing.path(), false);
        assert_eq!(outcome.exit_code(), 4);
        assert!(text.contains("mic doctor"), "{text}");
    }
}
