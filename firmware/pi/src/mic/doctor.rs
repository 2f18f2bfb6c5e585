//! `mic doctor`: everything that keeps a microphone from being heard.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{Finding, Outcome, Terminal, boot, groups, judge, listen};
use crate::board::SCHEMA_VERSION;
use crate::capture::cards::{self, Holder, Recorder, SERVERS};
use crate::capture::{Kind, Source};

/// Where Raspberry Pi OS has it, newest first.
const BOOT: [&str; 2] = ["boot/firmware/config.txt", "boot/config.txt"];

/// All that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this form.
    pub schema_version: u32,
    /// What was asked for.
    pub device: String,
    /// ALSA's name of the one that is meant, if there is one.
    pub microphone: Option<String>,
    /// In the order in which to go about them.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    outcome: Option<Outcome>,
}

impl Report {
    /// How it ends.
    pub fn outcome(&self) -> Outcome {
        self.outcome.unwrap_or(Outcome::of(&self.findings))
    }
}

/// Looks at everything below `root`, for the microphone of that name, and listens to the
/// source for a second, if there is one. A program that has the microphone open itself gives
/// none.
pub fn examine(root: &Path, device: &str, source: Option<&mut dyn Source>) -> Report {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let recorders = cards::recorders_below(root);
    let meant = match device {
        "auto" => cards::automatic(&recorders),
        name => cards::named(&recorders, name),
    };
    let mut findings = boot_file(root, &read("proc/device-tree/model"), !recorders.is_empty());
    findings.extend(groups::examine(
        &read("etc/group"),
        &read("proc/self/status"),
    ));
    let names_no_card = device != "auto" && !device.contains(':');
    let mut outcome = None;
    let mut holder = None;
    match meant {
        Some(recorder) => {
            findings.extend(of_card(recorder, device));
            holder = cards::holder(root, recorder);
            findings.extend(of_holder(root, recorder, holder.as_ref()));
        }
        // `default`, or a name from the ALSA configuration: opening it will tell.
        None if names_no_card => {}
        None => {
            findings.push(no_card(&recorders, device, &findings));
            outcome = Some(Outcome::NotFound);
        }
    }
    if let (Some(source), None, None) = (source, &holder, outcome) {
        let listened = listen(source, Duration::from_secs(1), &mut |_| {});
        if listened
            .trouble
            .as_ref()
            .is_some_and(|t| t.kind == Kind::Absent)
        {
            outcome = Some(Outcome::NotFound);
        }
        findings.extend(judge(&listened));
    }
    Report {
        schema_version: SCHEMA_VERSION,
        device: device.into(),
        microphone: meant.map(Recorder::name),
        findings,
        outcome,
    }
}

fn boot_file(root: &Path, model: &str, has_microphone: bool) -> Vec<Finding> {
    let mut files = BOOT.iter().filter_map(|name| {
        let text = fs::read(root.join(name)).ok()?;
        Some((
            format!("/{name}"),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    });
    let Some((path, text)) = files.next() else {
        return vec![
            Finding::note("no config.txt: this is not a Raspberry Pi, or /boot is not mounted")
                .why("an I2S microphone needs one; a USB microphone does not"),
        ];
    };
    let mut findings = boot::examine(&path, &text, model, has_microphone);
    // Since Debian 12 the old file is a stub; many guides still name it.
    let line = format!("dtoverlay={}", boot::OVERLAY);
    if let Some((old, text)) = files.next()
        && text.lines().any(|l| l.trim().starts_with(&line))
    {
        let what = format!("{old} has {line}, but is no longer read");
        findings
            .push(Finding::note(what).fix(format!("sudo nano {path}, and move the line there")));
    }
    findings
}

fn of_card(recorder: &Recorder, device: &str) -> Vec<Finding> {
    let name = recorder.name();
    let mut findings = vec![Finding::ok(format!("{name}: {}", recorder.description))];
    if cards::is_numbered(device) {
        findings.push(
            Finding::note(format!("{device} is a card number"))
                .why("the numbers may change at every boot")
                .fix(format!(
                    "device = \"{name}\" in the configuration, or \"auto\""
                )),
        );
    }
    findings
}

fn no_card(recorders: &[Recorder], device: &str, before: &[Finding]) -> Finding {
    if recorders.is_empty() {
        let finding = Finding::problem("no sound card can record")
            .why("the kernel lists none in /proc/asound/pcm");
        let overlay = before.iter().any(|finding| {
            finding.severity == super::Severity::Ok && finding.what.contains(boot::OVERLAY)
        });
        return finding.fix(match overlay {
            // It is in the file, and not in the kernel.
            true => "sudo reboot; after that: dmesg | grep -iE 'voicehat|i2s|asoc'",
            false => "for an I2S microphone the line above; for one on USB: lsusb",
        });
    }
    let names: Vec<String> = recorders.iter().map(Recorder::name).collect();
    Finding::problem(format!("there is no microphone {device}"))
        .why(format!("available: {}", names.join(", ")))
        .fix("device = \"auto\" in the configuration, or one of these names; replug a USB microphone")
}

fn of_holder(root: &Path, recorder: &Recorder, holder: Option<&Holder>) -> Vec<Finding> {
    let name = recorder.name();
    if let Some(holder) = holder {
        let what = format!("{name} is in use by {holder}");
        let finding = match holder.program.as_deref() {
            // What it hears is on its page.
            Some("sori-pi") => {
                Finding::note(what).why("the service is listening to it, as intended")
            }
            _ => Finding::problem(what).why("only one program can use a microphone"),
        };
        return vec![finding.fix(holder.line_to_type())];
    }
    let servers = running(root);
    if servers.is_empty() {
        return Vec::new();
    }
    let holder = Holder {
        pid: 0,
        program: servers.first().cloned(),
    };
    let what = format!("{} is running and may claim {name}", servers.join(" and "));
    let finding =
        Finding::note(what).why("a sound server opens every card when a desktop requests it");
    vec![finding.fix(holder.line_to_type())]
}

/// Sound servers that run.
fn running(root: &Path) -> Vec<String> {
    let processes = fs::read_dir(root.join("proc")).into_iter().flatten();
    let mut servers: Vec<String> = processes
        .filter_map(|process| fs::read_to_string(process.ok()?.path().join("comm")).ok())
        .map(|comm| comm.trim().to_string())
        .filter(|comm| SERVERS.contains(&comm.as_str()))
        .collect();
    servers.sort();
    servers.dedup();
    servers
}

/// Writes what [`examine`] finds, as text or as JSON.
///
/// # Errors
/// The output cannot be written.
pub fn doctor(
    root: &Path,
    device: &str,
    source: Option<&mut dyn Source>,
    json: bool,
    terminal: Terminal,
    out: &mut impl Write,
) -> io::Result<Outcome> {
    let report = examine(root, device, source);
    if json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        for finding in &report.findings {
            finding.write(out, terminal)?;
        }
    }
    Ok(report.outcome())
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
