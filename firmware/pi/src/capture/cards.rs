//! The sound cards that there are, by what the kernel says in `/proc/asound`.
//!
//! Cards are numbered in the order in which they are found, which changes from boot to boot:
//! a number is used here within one look only, and never as a name.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Cards of I2S microphones, as their ids begin: the Pi's own overlays, and hats.
const I2S: [&str; 5] = ["sndrpi", "seeed", "adau7002", "wm8960", "voicehat"];

/// What a program gives out again, and no microphone.
const LAST: [&str; 2] = ["Loopback", "Dummy"];

/// A device that can record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorder {
    /// Its card's id, which stays.
    pub card: String,
    /// Device of the card.
    pub device: u32,
    /// For people.
    pub description: String,
    /// The card's number, for now.
    #[serde(skip)]
    pub number: u32,
}

impl Recorder {
    /// ALSA's name.
    pub fn name(&self) -> String {
        format!("hw:CARD={},DEV={}", self.card, self.device)
    }

    fn is_i2s(&self) -> bool {
        I2S.iter().any(|id| self.card.starts_with(id))
    }
}

/// A program that has a device open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its name, where that may be read.
    pub program: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let program = self.program.as_deref().unwrap_or("another program");
        write!(f, "{program} (PID {})", self.pid)
    }
}

impl Holder {
    /// A sound server, which takes every card that it finds.
    pub fn is_server(&self) -> bool {
        let program = self.program.as_deref().unwrap_or_default();
        SERVERS.iter().any(|server| program.starts_with(server))
    }

    /// The line to type to have the device.
    pub fn line_to_type(&self) -> String {
        match self.program.as_deref() {
            Some(program) if program.starts_with("pulse") => {
                "systemctl --user mask --now pulseaudio.socket pulseaudio.service".into()
            }
            _ if self.is_server() => {
                "systemctl --user mask --now pipewire.socket pipewire.service wireplumber.service"
                    .into()
            }
            Some("sori-pi") => "sudo systemctl stop sori-pi".into(),
            _ => format!("kill {}", self.pid),
        }
    }
}

/// Programs of sound servers, as their names begin.
pub(crate) const SERVERS: [&str; 3] = ["pulseaudio", "pipewire", "wireplumber"];

/// The devices that can record, from the texts of `/proc/asound/cards` and `…/pcm`.
pub fn recorders(cards: &str, pcm: &str) -> Vec<Recorder> {
    let ids: Vec<(u32, &str)> = cards.lines().filter_map(card).collect();
    pcm.lines()
        .filter_map(|line| {
            // 00-00: id : name : playback 1 : capture 1
            let (numbers, rest) = line.split_once(':')?;
            let (number, device) = numbers.trim().split_once('-')?;
            let (number, device) = (number.parse().ok()?, device.parse().ok()?);
            let mut fields = rest.split(" : ").map(str::trim);
            let (id, name) = (fields.next()?, fields.next()?);
            fields.find(|field| field.starts_with("capture"))?;
            let (_, card) = ids.iter().find(|(n, _)| *n == number)?;
            Some(Recorder {
                card: (*card).into(),
                device,
                description: if name.is_empty() { id } else { name }.into(),
                number,
            })
        })
        .collect()
}

/// ` 0 [sndrpigooglevoi]: RPi-simple - snd_rpi_googlevoicehat_soundcar`
fn card(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.split_once('[')?;
    let (id, _) = rest.split_once(']')?;
    Some((number.trim().parse().ok()?, id.trim()))
}

/// The devices that can record; none where there is no sound at all.
pub fn recorders_below(root: &Path) -> Vec<Recorder> {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    recorders(&read("proc/asound/cards"), &read("proc/asound/pcm"))
}

/// What `auto` takes: the I2S card, else the first that can record.
pub fn automatic(recorders: &[Recorder]) -> Option<&Recorder> {
    recorders.iter().min_by_key(|recorder| {
        let last = LAST.contains(&recorder.card.as_str());
        (last, !recorder.is_i2s())
    })
}

/// The device that an ALSA name means, if it names one of a card: `hw:CARD=x,DEV=n`,
/// `plughw:x,n`, `sysdefault:x`.
pub fn named<'r>(recorders: &'r [Recorder], name: &str) -> Option<&'r Recorder> {
    let (card, device) = card_of(name)?;
    recorders.iter().find(|recorder| {
        let number: Option<u32> = card.parse().ok();
        (recorder.card == card || number == Some(recorder.number)) && recorder.device == device
    })
}

/// Whether a name counts cards, as `hw:1` does.
pub fn is_numbered(name: &str) -> bool {
    card_of(name).is_some_and(|(card, _)| card.parse::<u32>().is_ok())
}

fn card_of(name: &str) -> Option<(&str, u32)> {
    let (_, parameters) = name.split_once(':')?;
    let (mut card, mut device) = (None, 0);
    for (n, parameter) in parameters.split(',').enumerate() {
        match (n, parameter.split_once('=')) {
            (_, Some(("CARD", id))) => card = Some(id),
            (_, Some(("DEV", number))) => device = number.parse().ok()?,
            (0, None) => card = Some(parameter),
            (1, None) => device = parameter.parse().ok()?,
            _ => {}
        }
    }
    Some((card?, device))
}

/// Who has it open.
pub fn holder(root: &Path, recorder: &Recorder) -> Option<Holder> {
    let folder = format!(
        "proc/asound/card{}/pcm{}c",
        recorder.number, recorder.device
    );
    let substreams = fs::read_dir(root.join(folder)).ok()?;
    let mut statuses = substreams
        .filter_map(|substream| fs::read_to_string(substream.ok()?.path().join("status")).ok());
    let owner = statuses.find_map(|status| owner(&status))?;
    let process = fs::read_to_string(root.join(format!("proc/{owner}/status")));
    let process = process.unwrap_or_default();
    // The owner is the thread that opened it.
    let pid = field(&process, "Tgid:").and_then(|pid| pid.parse().ok());
    let pid = pid.unwrap_or(owner);
    let comm = fs::read_to_string(root.join(format!("proc/{pid}/comm"))).ok();
    let program = comm.map(|comm| comm.trim().to_string());
    Some(Holder {
        pid,
        program: program.or_else(|| field(&process, "Name:").map(Into::into)),
    })
}

fn owner(status: &str) -> Option<u32> {
    let pid = field(status, "owner_pid")?;
    pid.trim_start_matches([' ', ':']).parse().ok()
}

/// What follows a word at the beginning of a line.
pub(crate) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const CARDS: &str = "\
 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0
                      vc4-hdmi-0
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3, full spe
 2 [sndrpigooglevoi]: RPi-simple - snd_rpi_googlevoicehat_soundcar
                      snd_rpi_googlevoicehat_soundcard
";
    pub(crate) const PCM: &str = "\
00-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
01-00: USB Audio : USB Audio : playback 1 : capture 1
02-00: Google voiceHAT SoundCard HiFi voicehat-hifi-0 : Google voiceHAT SoundCard HiFi voicehat-hifi-0 : playback 1 : capture 1
";

    /// A root with these cards; the device `(card, device)` is held by a thread of PID 812.
    pub(crate) fn root(cards: &str, pcm: &str, held: Option<(u32, u32)>) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        write(root.path(), "proc/asound/cards", cards);
        write(root.path(), "proc/asound/pcm", pcm);
        for recorder in recorders(cards, pcm) {
            let Recorder { number, device, .. } = recorder;
            let status = match held == Some((number, device)) {
                true => "state: RUNNING\nowner_pid   : 830\ntrigger_time: 812.1\n",
                false => "closed\n",
            };
            let name = format!("proc/asound/card{number}/pcm{device}c/sub0/status");
            write(root.path(), &name, status);
        }
        write(
            root.path(),
            "proc/830/status",
            "Name:\tcapture\nTgid:\t812\n",
        );
        write(root.path(), "proc/812/comm", "arecord\n");
        root
    }

    pub(crate) fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    #[test]
    fn what_can_record_is_found_with_its_lasting_name_and_i2s_is_preferred() {
        let found = recorders(CARDS, PCM);
        let names: Vec<String> = found.iter().map(Recorder::name).collect();
        assert_eq!(
            names,
            ["hw:CARD=Device,DEV=0", "hw:CARD=sndrpigooglevoi,DEV=0"]
        );
        assert_eq!(automatic(&found), Some(&found[1]));
        assert_eq!(automatic(&found[..1]), Some(&found[0]));
        assert_eq!(automatic(&[]), None);
        let loopback = Recorder {
            card: "Loopback".into(),
            ..found[0].clone()
        };
        assert_eq!(automatic(&[loopback, found[0].clone()]), Some(&found[0]));
        assert_eq!(recorders("--- no soundcards ---\n", ""), []);
        assert_eq!(recorders("\u{0}[", "x-y: : capture\n00-00\n:\n"), []);
    }

    #[test]
    fn alsa_names_of_every_form_mean_their_card() {
        let found = recorders(CARDS, PCM);
        for name in [
            "hw:CARD=Device,DEV=0",
            "plughw:CARD=Device",
            "hw:DEV=0,CARD=Device",
            "hw:Device,0",
            "sysdefault:Device",
            "hw:1",
            "hw:1,0",
        ] {
            assert_eq!(named(&found, name), Some(&found[0]), "{name}");
        }
        for name in [
            "default",
            "hw:Device,1",
            "hw:CARD=Other",
            "hw:0",
            "hw:,",
            "hw:Device,x",
        ] {
            assert_eq!(named(&found, name), None, "{name}");
        }
        assert!(is_numbered("hw:1,0") && is_numbered("plughw:CARD=1"));
        assert!(!is_numbered("hw:CARD=Device,DEV=0") && !is_numbered("default"));
    }

    #[test]
    fn who_holds_a_device_is_a_process_with_a_name() {
        let root = root(CARDS, PCM, Some((2, 0)));
        let found = recorders_below(root.path());
        assert_eq!(holder(root.path(), &found[0]), None);
        let held = holder(root.path(), &found[1]).expect("it is held");
        assert_eq!(held.to_string(), "arecord (PID 812)");
        assert_eq!(held.line_to_type(), "kill 812");
        // Of other users' processes only the number may be seen.
        fs::remove_dir_all(root.path().join("proc/812")).expect("a folder");
        fs::remove_dir_all(root.path().join("proc/830")).expect("a folder");
        let held = holder(root.path(), &found[1]).expect("it is held");
        assert_eq!(held.to_string(), "another program (PID 830)");
    }
}
