//! What Home Assistant is told, so that the Pi appears there by itself: one document for the
//! whole device (Home Assistant 2024.11 or newer), kept by the broker.

use serde_json::{Value, json};

use crate::board::Status;
use crate::config;

/// Who this is, for topics and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// In topics: letters, digits, `-` and `_`.
    id: String,
    /// For people.
    pub name: String,
    /// The computer: `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: String,
}

impl Identity {
    /// Longest id: topics and client ids of old brokers are short.
    const LONGEST: usize = 64;

    /// By a name, of which topics get the letters, digits, `-` and `_`.
    pub fn new(name: &str, model: &str) -> Self {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let id: String = name
            .trim()
            .chars()
            .take(Self::LONGEST)
            .map(|c| if is_allowed(c) { c } else { '_' })
            .collect();
        Self {
            id: match id.is_empty() {
                true => "pi".into(),
                false => id.to_ascii_lowercase(),
            },
            name: name.trim().into(),
            model: model.trim_matches(['\0', '\n', ' ']).into(),
        }
    }

    /// This computer's: by its host name.
    pub fn of_this_machine() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::new(
            &read("/proc/sys/kernel/hostname"),
            &read("/proc/device-tree/model"),
        )
    }

    /// In topics.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What presses the button.
pub(super) const PRESS: &str = "PRESS";

/// All topics.
#[derive(Debug)]
pub(super) struct Topics {
    /// `online` or `offline`, kept.
    pub(super) state: String,
    /// The latest decision, kept.
    pub(super) heard: String,
    /// Each span.
    pub(super) span: String,
    /// How everything is doing, kept.
    pub(super) health: String,
    /// `ON` or `OFF`, kept.
    pub(super) mute: String,
    /// The same, as a command.
    pub(super) mute_set: String,
    /// [`PRESS`], as a command.
    pub(super) confirm: String,
    /// Where Home Assistant finds this device.
    pub(super) discovery: String,
    /// Where it says that it is there.
    pub(super) birth: String,
}

impl Topics {
    pub(super) fn new(config: &config::Mqtt, identity: &Identity) -> Self {
        let (topic, discovery) = (config.topic.as_str(), config.discovery.as_str());
        let own = |name| format!("{topic}/{}/{name}", identity.id);
        Self {
            state: own("state"),
            heard: own("heard"),
            span: own("span"),
            health: own("health"),
            mute: own("mute"),
            mute_set: own("mute/set"),
            confirm: own("confirm"),
            discovery: format!("{discovery}/device/sori_{}/config", identity.id),
            birth: format!("{discovery}/status"),
        }
    }
}

/// The document. It follows the labels of the package, and has a temperature where the
/// computer has one.
pub(super) fn document(identity: &Identity, topics: &Topics, status: &Status) -> Value {
    let mut components = components(topics, status);
    for (key, component) in &mut components {
        component["unique_id"] = format!("sori_{}_{key}", identity.id).into();
    }
    let components: serde_json::Map<_, _> = components
        .into_iter()
        .map(|(key, component)| (key.into(), component))
        .collect();
    json!({
        "device": {
            "identifiers": [format!("sori_{}", identity.id)],
            "name": format!("Sori {}", identity.name),
            "manufacturer": "Sori",
            "model": match identity.model.as_str() {
                "" => "Computer",
                model => model,
            },
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "origin": {
            "name": "sori-pi",
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "availability_topic": topics.state,
        "qos": 1,
        "components": components,
    })
}

fn components(topics: &Topics, status: &Status) -> Vec<(&'static str, Value)> {
    // An unknown label is an error there, and one said twice is too.
    let mut options = status.recognizer.labels.clone();
    options.extend(["silence".into(), "unknown".into()]);
    options.sort();
    options.dedup();
    let mut components = vec![
        (
            "genre",
            json!({
                "platform": "sensor",
                "name": "Genre",
                "icon": "mdi:music",
                "device_class": "enum",
                "options": options,
                "state_topic": topics.heard,
                "value_template": "{{ value_json.verdict }}",
            }),
        ),
        (
            "confidence",
            json!({
                "platform": "sensor",
                "name": "Confidence",
                "icon": "mdi:percent",
                "state_class": "measurement",
                "unit_of_measurement": "%",
                "suggested_display_precision": 0,
                "state_topic": topics.heard,
                // `None` is Home Assistant's word for unknown; silence has no confidence.
                "value_template": "{{ value_json.confidence * 100 if value_json.confidence is number else None }}",
            }),
        ),
        (
            "level",
            json!({
                "platform": "sensor",
                "name": "Level",
                "icon": "mdi:volume-high",
                "state_class": "measurement",
                "unit_of_measurement": "dBFS",
                "suggested_display_precision": 0,
                "state_topic": topics.heard,
                "value_template": "{{ value_json.level_dbfs }}",
            }),
        ),
        (
            "music",
            json!({
                "platform": "binary_sensor",
                "name": "Music",
                "device_class": "sound",
                "state_topic": topics.heard,
                "value_template": "{{ 'OFF' if value_json.verdict in ['silence', 'unknown'] else 'ON' }}",
            }),
        ),
        (
            "microphone",
            json!({
                "platform": "sensor",
                "name": "Microphone",
                "icon": "mdi:microphone",
                "entity_category": "diagnostic",
                "device_class": "enum",
                "options": ["starting", "listening", "muted", "no-microphone", "ended"],
                "state_topic": topics.health,
                "value_template": "{{ value_json.capture.state }}",
            }),
        ),
        (
            "overruns",
            json!({
                "platform": "sensor",
                "name": "Overruns",
                "icon": "mdi:counter",
                "entity_category": "diagnostic",
                "state_class": "total_increasing",
                "state_topic": topics.health,
                "value_template": "{{ value_json.capture.overruns }}",
            }),
        ),
        (
            "mute",
            json!({
                "platform": "switch",
                "name": "Mute",
                "icon": "mdi:microphone-off",
                "state_topic": topics.mute,
                "command_topic": topics.mute_set,
            }),
        ),
        (
            "confirm",
            json!({
                "platform": "button",
                "name": "Confirm",
                "icon": "mdi:check",
                "command_topic": topics.confirm,
                "payload_press": PRESS,
            }),
        ),
    ];
    if status.temperature_c.is_some() {
        components.push((
            "temperature",
            json!({
                "platform": "sensor",
                "name": "Processor temperature",
                "entity_category": "diagnostic",
                "device_class": "temperature",
                "state_class": "measurement",
                "unit_of_measurement": "°C",
                "suggested_display_precision": 0,
                "state_topic": topics.health,
                "value_template": "{{ value_json.temperature_c }}",
            }),
        ));
    }
    components
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_in_a_topic_whatever_the_name() {
        for (name, id) in [
            ("raspberrypi\n", "raspberrypi"),
            ("Küche/+#", "k_che___"),
            ("a\0b c", "a_b_c"),
            ("", "pi"),
            (" \n", "pi"),
            (&"x".repeat(1000), &"x".repeat(64)),
        ] {
            assert_eq!(Identity::new(name, "").id(), id, "{name:?}");
        }
        let this = Identity::of_this_machine();
        assert!(!this.id().is_empty() && !this.model.contains('\0'));
    }
}
