//! `config.txt`, from which a Pi learns at boot that it has an I2S microphone.

use super::Finding;

/// The overlay that every I2S microphone works with.
pub const OVERLAY: &str = "googlevoicehat-soundcard";

/// What the overlay claims: I2S, and GPIO 16 besides.
const PINS: [u32; 5] = [16, 18, 19, 20, 21];

/// Overlays that claim some of these pins as they come, and which.
const CLAIMS: &[(&str, &[u32])] = &[
    ("spi1-1cs", &[18, 19, 20, 21]),
    ("spi1-2cs", &[18, 19, 20, 21]),
    ("spi1-3cs", &[16, 18, 19, 20, 21]),
    ("spi6-1cs", &[18, 19, 20, 21]),
    ("spi6-2cs", &[18, 19, 20, 21]),
    ("pwm", &[18]),
    ("pwm-2chan", &[18, 19]),
    ("pwm-ir-tx", &[18]),
    ("gpio-ir", &[18]),
    ("gpio-ir-tx", &[18]),
    ("pps-gpio", &[18]),
    ("audremap", &[18, 19]),
    ("vga666", &[16, 18, 19, 20, 21]),
    ("dpi18", &[16, 18, 19, 20, 21]),
    ("dpi24", &[16, 18, 19, 20, 21]),
    ("smi", &[16, 18, 19, 20, 21]),
];

/// What moves a claim away: the parameters that name other pins in its place.
const MOVES: [&str; 6] = [
    "pin",
    "pin2",
    "gpiopin",
    "gpio_pin",
    "pins_12_13",
    "pins_40_41",
];

/// Sound cards on I2S, as their overlays begin: two cannot share the wires.
const SOUND: [&str; 15] = [
    "googlevoicehat",
    "hifiberry",
    "iqaudio",
    "justboom",
    "allo-",
    "audioinjector",
    "rpi-dac",
    "rpi-proto",
    "rpi-codeczero",
    "merus-amp",
    "max98357a",
    "adau7002",
    "wm8960",
    "seeed-",
    "i2s-",
];

/// Whether a line holds on this Pi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applies {
    Yes,
    No,
    /// Nobody can tell from here, as in `[gpio4=1]`.
    Perhaps,
}

/// A line that loads an overlay, with the parameters of later lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overlay<'t> {
    line: usize,
    name: &'t str,
    /// Name, value, and the line that sets it.
    parameters: Vec<(&'t str, &'t str, usize)>,
    applies: Applies,
    section: &'t str,
    commented: bool,
}

/// All that matters here of the file.
#[derive(Debug, Default)]
struct Boot<'t> {
    overlays: Vec<Overlay<'t>>,
    /// `gpio=` and parameters of the board itself: name, value, line.
    settings: Vec<(&'t str, &'t str, usize)>,
    includes: Vec<(&'t str, usize)>,
}

/// What is wrong with it, for an I2S microphone on the Pi that calls itself `model`. Where
/// another microphone is there, that there is none in the file is no problem.
pub fn examine(path: &str, text: &str, model: &str, has_microphone: bool) -> Vec<Finding> {
    let boot = parse(text, model);
    let mut findings = Vec::new();
    let ours = |overlay: &&Overlay<'_>| !overlay.commented && overlay.name == OVERLAY;
    let works = |overlay: &Overlay<'_>| overlay.applies != Applies::No;
    let active = boot.overlays.iter().filter(ours).find(|o| works(o));
    match active {
        Some(overlay) if overlay.applies == Applies::Perhaps => findings.push(
            Finding::note(format!(
                "{path}:{}: dtoverlay={OVERLAY} applies only if {} does",
                overlay.line, overlay.section
            ))
            .fix(append(path)),
        ),
        Some(overlay) => findings.push(Finding::ok(format!(
            "{path}:{}: dtoverlay={OVERLAY}",
            overlay.line
        ))),
        None => findings.extend(missing(&boot, path, has_microphone)),
    }
    findings.extend(no_overlay(&boot, path, active.is_some()));
    if active.is_some() {
        findings.extend(claimed_twice(&boot, path));
    }
    findings.extend(boot.includes.iter().map(|(file, line)| {
        Finding::note(format!("{path}:{line}: includes {file}"))
            .why("the included file was not examined")
    }));
    findings
}

/// A line that holds on every Pi, whatever section the file ends with.
fn append(path: &str) -> String {
    format!("printf '\\n[all]\\ndtoverlay={OVERLAY}\\n' | sudo tee -a {path} && sudo reboot")
}

fn missing(boot: &Boot<'_>, path: &str, has_microphone: bool) -> Option<Finding> {
    let mut found = boot.overlays.iter().filter(|o| o.name == OVERLAY);
    if let Some(overlay) = found.clone().find(|overlay| !overlay.commented) {
        let what = format!(
            "{path}:{}: dtoverlay={OVERLAY} is in section {}, which does not apply to this Pi",
            overlay.line, overlay.section
        );
        let finding = Finding::problem(what).why("a section extends to the next one");
        return Some(finding.fix(append(path)));
    }
    if let Some(overlay) = found.next() {
        let line = overlay.line;
        let what = format!("{path}:{line}: dtoverlay={OVERLAY} is commented out");
        let fix = match overlay.applies {
            Applies::Yes => format!("sudo sed -i '{line}s/^[# \\t]*//' {path} && sudo reboot"),
            _ => append(path),
        };
        return Some(severe(what, has_microphone).fix(fix));
    }
    // Another line comes in its place, which is told below.
    if boot
        .overlays
        .iter()
        .any(|o| !o.commented && instead(o.name))
    {
        return None;
    }
    let what = format!("{path} loads no overlay for an I2S microphone");
    let finding = severe(what, has_microphone).why("without one the Pi has no I2S card");
    Some(finding.fix(append(path)))
}

fn severe(what: String, has_microphone: bool) -> Finding {
    match has_microphone {
        true => Finding::note(what),
        false => Finding::problem(what),
    }
}

/// Names that were meant for it.
fn instead(name: &str) -> bool {
    name == "i2s-mems" || (name.contains("voicehat") && name != OVERLAY)
}

/// Lines that the Pi passes over without a word.
fn no_overlay(boot: &Boot<'_>, path: &str, has_ours: bool) -> Vec<Finding> {
    let lines = boot.overlays.iter();
    lines
        .filter(|overlay| !overlay.commented && instead(overlay.name))
        .map(|overlay| {
            let Overlay { line, name, .. } = overlay;
            let fix = match (has_ours, overlay.applies) {
                (true, _) => format!("sudo sed -i '{line}d' {path}"),
                (false, Applies::Yes) => {
                    format!("sudo sed -i '{line}s/.*/dtoverlay={OVERLAY}/' {path} && sudo reboot")
                }
                (false, _) => append(path),
            };
            let what = format!("{path}:{line}: dtoverlay={name} does not exist");
            let finding = match has_ours {
                true => Finding::note(what),
                false => Finding::problem(what),
            };
            finding
                .why(format!(
                    "many guides name it, but no Raspberry Pi OS has it; use dtoverlay={OVERLAY}"
                ))
                .fix(fix)
        })
        .collect()
}

/// Pins of the microphone that something else in the file takes.
fn claimed_twice(boot: &Boot<'_>, path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut claim = |line: usize, what: &str, pins: &[u32], sure: bool| {
        let pins: Vec<String> = pins.iter().map(u32::to_string).collect();
        let what = format!(
            "{path}:{line}: {what} conflicts with the microphone on GPIO {}",
            pins.join(", ")
        );
        let finding = match sure {
            true => Finding::problem(what),
            false => Finding::note(what),
        };
        findings.push(
            finding
                .why("the microphone needs GPIO 18 to 21, and its overlay also claims 16: whichever loads second fails")
                .fix(format!("sudo sed -i '{line}s/^/#/' {path} && sudo reboot, or other pins: 5, 6, 13, 17, 22, 23, 26, 27")),
        );
    };
    for overlay in &boot.overlays {
        let is_other = overlay.name != OVERLAY && !instead(overlay.name);
        if overlay.commented || overlay.applies == Applies::No || !is_other {
            continue;
        }
        let sure = overlay.applies == Applies::Yes;
        let what = format!("dtoverlay={}", overlay.name);
        if SOUND.iter().any(|sound| overlay.name.starts_with(sound))
            || overlay.name.starts_with("vc4-kms-dpi")
        {
            claim(overlay.line, &what, &PINS[1..], sure);
            continue;
        }
        let moved = |(name, ..): &(&str, &str, usize)| MOVES.contains(name);
        let parameters = &overlay.parameters;
        match CLAIMS.iter().find(|(name, _)| *name == overlay.name) {
            Some((_, pins)) if !parameters.iter().any(moved) => {
                claim(overlay.line, &what, pins, sure);
            }
            _ => {}
        }
        for (name, value, line) in parameters {
            let pins = named(name, value);
            if !pins.is_empty() {
                claim(*line, &format!("{what} ({name}={value})"), &pins, sure);
            }
        }
    }
    for (name, value, line) in &boot.settings {
        let pins = match *name {
            "gpio" => ranges(value),
            _ => named(name, value),
        };
        if !pins.is_empty() {
            claim(*line, &format!("{name}={value}"), &pins, true);
        }
    }
    findings
}

/// The pin of a parameter that is called after one: `gpiopin=18`, `cs0_pin=16`.
fn named(name: &str, value: &str) -> Vec<u32> {
    let of_a_pin = name.contains("gpio") || name.contains("pin") || name.starts_with("cs");
    let pin = value.parse().ok().filter(|pin| PINS.contains(pin));
    pin.filter(|_| of_a_pin).into_iter().collect()
}

/// `gpio=0-27=a2`, `gpio=16,17=op,dh`
fn ranges(value: &str) -> Vec<u32> {
    let pins = value.split('=').next().unwrap_or_default();
    let parts: Vec<(u32, u32)> = pins
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        })
        .collect();
    let within = |pin: &u32| parts.iter().any(|(a, z)| (a..=z).contains(&pin));
    PINS.into_iter().filter(within).collect()
}

fn parse<'t>(text: &'t str, model: &str) -> Boot<'t> {
    let mut boot = Boot::default();
    let mut filters = Filters::default();
    // Parameters that follow an overlay are its own, until `dtoverlay=` alone.
    let mut of_overlay = false;
    for (n, line) in text.lines().enumerate() {
        let number = n + 1;
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            filters.begin(section, line, model);
            continue;
        }
        let commented = line.starts_with('#');
        let line = line.trim_start_matches(['#', ' ', '\t']);
        if let (Some(file), false) = (line.strip_prefix("include "), commented) {
            boot.includes.push((file.trim(), number));
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let pairs = |text: &'t str| {
            let pairs = text.split(',').filter(|pair| !pair.is_empty());
            pairs.map(move |pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (name.trim(), value.trim(), number)
            })
        };
        match key {
            "dtoverlay" | "device_tree_overlay" => {
                let (name, parameters) = value.split_once([',', ':']).unwrap_or((value, ""));
                if !commented {
                    of_overlay = !name.is_empty();
                }
                if !name.is_empty() {
                    boot.overlays.push(Overlay {
                        line: number,
                        name: name.trim(),
                        parameters: pairs(parameters).collect(),
                        applies: filters.applies(),
                        section: filters.section,
                        commented,
                    });
                }
            }
            "dtparam" if !commented && filters.applies() != Applies::No => {
                let overlay = boot.overlays.iter_mut().rev().find(|o| !o.commented);
                match overlay.filter(|_| of_overlay) {
                    Some(overlay) => overlay.parameters.extend(pairs(value)),
                    None => boot.settings.extend(pairs(value)),
                }
            }
            "gpio" if !commented && filters.applies() != Applies::No => {
                boot.settings.push((key, value, number));
            }
            _ => {}
        }
    }
    boot
}

/// Sections: one for a model replaces one for another, and what else is asked comes on top,
/// until `[all]`.
struct Filters<'t> {
    model: Applies,
    other: Applies,
    section: &'t str,
}

impl Default for Filters<'_> {
    fn default() -> Self {
        Self {
            model: Applies::Yes,
            other: Applies::Yes,
            section: "[all]",
        }
    }
}

impl<'t> Filters<'t> {
    fn begin(&mut self, section: &str, shown: &'t str, model: &str) {
        self.section = shown;
        let yes_or_no = |yes| if yes { Applies::Yes } else { Applies::No };
        match section {
            "all" => *self = Self::default(),
            "none" | "tryboot" => self.other = Applies::No,
            // For settings of a screen only.
            "HDMI:0" | "HDMI:1" => {}
            _ => match models(section) {
                Some(_) if model.is_empty() => self.model = Applies::Perhaps,
                Some(names) => self.model = yes_or_no(names.iter().any(|n| is_model(model, n))),
                None => self.other = Applies::Perhaps,
            },
        }
    }

    fn applies(&self) -> Applies {
        match (self.model, self.other) {
            (Applies::No, _) | (_, Applies::No) => Applies::No,
            (Applies::Yes, Applies::Yes) => Applies::Yes,
            _ => Applies::Perhaps,
        }
    }
}

/// `Raspberry Pi 4 Model B Rev 1.5` is `4`, and not `400`.
fn is_model(model: &str, name: &str) -> bool {
    let model = model.trim_end_matches('\0');
    let rest = model.strip_prefix("Raspberry Pi ").unwrap_or(model);
    let after = rest.strip_prefix(name);
    after.is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The models of a section, as a Pi calls itself.
fn models(section: &str) -> Option<&'static [&'static str]> {
    Some(match section {
        "pi0" => &["Zero"],
        "pi0w" => &["Zero W", "Zero 2"],
        "pi02" => &["Zero 2"],
        "pi1" => &["Model", "Compute Module Rev"],
        "pi2" => &["2"],
        "pi3" => &["3", "Compute Module 3"],
        "pi3+" => &["3 Model A Plus", "3 Model B Plus"],
        "pi4" => &["4", "400", "Compute Module 4", "Compute Module 4S"],
        "pi400" => &["400"],
        "cm4" => &["Compute Module 4"],
        "cm4s" => &["Compute Module 4S"],
        "pi5" => &["5", "500", "Compute Module 5"],
        "pi500" => &["500"],
        "cm5" => &["Compute Module 5"],
        _ => return None,
    })
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
