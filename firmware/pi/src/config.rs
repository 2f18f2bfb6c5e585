//! The configuration file. Every key has a default that works on a Pi with one microphone.
//!
//! `sori-pi.toml` beside this crate is the file with all keys, documented; a test holds it
//! equal to the defaults. A wrong key or value is refused with its line and what is allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use sori_sign::PublicKey;

/// Environment variables that begin so override the file: `SORI_PI_MQTT_HOST` is
/// `host` of `[mqtt]`.
pub const ENVIRONMENT: &str = "SORI_PI_";

/// Most bytes of the file; the documented one has a hundredth.
const MOST_BYTES: u64 = 1 << 20;

/// A whole number between two bounds, both allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded<const LEAST: i64, const MOST: i64>(i64);

impl<const LEAST: i64, const MOST: i64> Bounded<LEAST, MOST> {
    /// A default, checked when the program is compiled.
    const fn new(value: i64) -> Self {
        assert!(LEAST <= value && value <= MOST);
        Self(value)
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Bounded<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = i64::deserialize(deserializer)?;
        match (LEAST..=MOST).contains(&value) {
            true => Ok(Self(value)),
            false => Err(serde::de::Error::custom(format_args!(
                "{value} is not allowed: it must be a whole number from {LEAST} to {MOST}"
            ))),
        }
    }
}

/// A GPIO by its BCM number that the microphone does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin(u8);

impl Pin {
    /// I2S, and what googlevoicehat-soundcard claims besides.
    const OF_THE_MICROPHONE: [u8; 5] = [16, 18, 19, 20, 21];

    /// BCM number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let refuse = |why: fmt::Arguments<'_>| Err(serde::de::Error::custom(why));
        match u8::try_from(number) {
            Ok(pin) if Self::OF_THE_MICROPHONE.contains(&pin) => refuse(format_args!(
                "GPIO {pin} belongs to the I2S microphone (16, 18 to 21): use 5, 6, 13, 17, 22, 23, 26 or 27"
            )),
            Ok(pin @ 2..=27) => Ok(Self(pin)),
            _ => refuse(format_args!(
                "{number} is not a GPIO on the header: BCM numbers go from 2 to 27"
            )),
        }
    }
}

/// Which channel of the microphone to listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channel {
    /// The one that has a microphone.
    #[default]
    Auto,
    /// Always this one, from 0.
    Fixed(u8),
}

impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            Number(i64),
        }
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Number(number @ 0..=31) => Ok(Self::Fixed(number as u8)),
            _ => Err(serde::de::Error::custom(
                "a channel must be \"auto\" or a number from 0 (left) to 31",
            )),
        }
    }
}

/// What MQTT topics begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let topic = String::deserialize(deserializer)?;
        let is_wrong = |c: char| c.is_control() || c.is_whitespace() || c == '+' || c == '#';
        if topic.split('/').any(str::is_empty)
            || topic.contains(is_wrong)
            || topic.starts_with('$')
            || topic.len() > 128
        {
            return Err(serde::de::Error::custom(format_args!(
                "{topic:?} cannot begin a topic: use words separated by /, such as sori/kitchen, without spaces, + or #"
            )));
        }
        Ok(Self(topic))
    }
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where sound comes from.
    pub microphone: Microphone,
    /// What recognizes it.
    pub model: Model,
    /// What is remembered.
    pub history: History,
    /// Page, API and metrics.
    pub page: Page,
    /// A broker to tell, if there is one.
    pub mqtt: Option<Mqtt>,
    /// Lights and a button.
    pub gpio: Gpio,
    /// An SSD1306 display, if there is one.
    pub display: Option<Display>,
    /// WS2812 lights as a level bar, if there are any.
    pub lights: Option<Lights>,
    /// How it runs.
    pub service: Service,
}

/// `[microphone]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Microphone {
    /// ALSA's name for it, `hw:CARD=…,DEV=0`; `auto` takes the I2S card, or the first that
    /// can record. Never a number: those change at boot.
    pub device: String,
    /// Which channel to listen to.
    pub channel: Channel,
    /// Sound after opening that is not listened to: an INMP441 takes 85 ms to wake up.
    pub settle_ms: Bounded<0, 5000>,
    /// Seconds of sound that may wait when the processor is busy; older sound is dropped.
    pub buffer_s: Bounded<1, 30>,
}

impl Default for Microphone {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            channel: Channel::Auto,
            settle_ms: Bounded::new(300),
            buffer_s: Bounded::new(4),
        }
    }
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// The package; without it `genre.sori` in the service's state directory, and where there
    /// is none the genre model that is built in. A new file at this path is verified and taken
    /// while running.
    pub package: Option<PathBuf>,
    /// Who must have signed the package, which then is proof that it is the owner's. The one
    /// that is built in needs no signature: it came with the program that would check it.
    pub key: Option<PublicKey>,
}

impl Model {
    const FILE: &str = "genre.sori";

    /// Where a package may be, now or later.
    pub fn path(&self) -> Option<PathBuf> {
        let usual = || state_directory().map(|folder| folder.join(Self::FILE));
        self.package.clone().or_else(usual)
    }
}

/// `[history]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// The database; without it `history.sqlite` in the service's state directory, or else
    /// in the user's.
    pub path: Option<PathBuf>,
    /// Days to keep.
    pub keep_days: Bounded<1, 36_500>,
    /// Seconds between writes, which spare the SD card.
    pub write_every_s: Bounded<1, 3600>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            path: None,
            keep_days: Bounded::new(365),
            write_every_s: Bounded::new(30),
        }
    }
}

/// `[page]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    /// Address and port.
    pub listen: SocketAddr,
    /// Who does not know it is turned away. Needed for any address but loopback.
    pub token: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            token: None,
        }
    }
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// The broker's name or address.
    pub host: String,
    /// Its port.
    #[serde(default = "Mqtt::port")]
    pub port: Bounded<1, 65_535>,
    /// If the broker asks.
    pub username: Option<String>,
    /// If the broker asks.
    pub password: Option<String>,
    /// What all topics begin with.
    #[serde(default = "Mqtt::topic")]
    pub topic: Topic,
    /// Where Home Assistant looks for new devices.
    #[serde(default = "Mqtt::discovery")]
    pub discovery: Topic,
}

impl Mqtt {
    fn port() -> Bounded<1, 65_535> {
        Bounded::new(1883)
    }

    fn topic() -> Topic {
        Topic("sori".into())
    }

    fn discovery() -> Topic {
        Topic("homeassistant".into())
    }
}

/// `[gpio]`
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpio {
    /// A light for each label that is named here.
    pub lights: BTreeMap<String, Pin>,
    /// A light that is on while music is heard.
    pub activity: Option<Pin>,
    /// A push button to ground: mutes, and unmutes.
    pub button: Option<Pin>,
}

/// `[display]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// The I2C bus.
    pub bus: PathBuf,
    /// Its address there.
    #[serde(default = "Display::address")]
    pub address: Bounded<8, 119>,
}

impl Display {
    fn address() -> Bounded<8, 119> {
        Bounded::new(0x3c)
    }
}

/// `[lights]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lights {
    /// The SPI device whose MOSI drives them: GPIO 10 is free, PWM on GPIO 18 is not.
    pub spi: PathBuf,
    /// How many there are.
    pub count: Bounded<1, 144>,
}

/// `[service]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Niceness of what listens; capture asks for real-time priority.
    pub nice: Bounded<-20, 19>,
    /// Cores to stay on; empty for all.
    pub cores: Vec<Bounded<0, 63>>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            nice: Bounded::new(5),
            cores: Vec::new(),
        }
    }
}

/// A configuration that cannot be used: file, line, key, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// Where the service's configuration is.
const USUAL: &str = "/etc/sori-pi/sori-pi.toml";

/// Where the service's history is.
const STATE: &str = "/var/lib/sori-pi";

impl History {
    const FILE: &str = "history.sqlite";

    /// Where the database is written.
    pub fn path(&self) -> PathBuf {
        match &self.path {
            Some(path) => path.clone(),
            None => state_directory()
                .unwrap_or_else(users_state)
                .join(Self::FILE),
        }
    }

    /// Where it is read: the service's, if this user has none.
    pub fn path_to_read(&self) -> PathBuf {
        let own = self.path();
        let service = Path::new(STATE).join(Self::FILE);
        match self.path.is_none() && !own.exists() && service.exists() {
            true => service,
            false => own,
        }
    }
}

/// What systemd says.
fn state_directory() -> Option<PathBuf> {
    // More than one are separated by colons.
    let all = std::env::var("STATE_DIRECTORY").ok()?;
    all.split(':').next().map(PathBuf::from)
}

/// By the XDG base directory specification.
fn users_state() -> PathBuf {
    let of = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let state = of("XDG_STATE_HOME").map(PathBuf::from);
    let home = || of("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let none = || std::env::temp_dir();
    state.or_else(home).unwrap_or_else(none).join("sori-pi")
}

impl Config {
    /// Reads the file, or the usual one if there is one, and the environment.
    ///
    /// # Errors
    /// A named file that cannot be read; what [`read`](Self::read) refuses.
    pub fn load(path: Option<&Path>) -> Result<Self, Wrong> {
        let named = path.unwrap_or(Path::new(USUAL));
        let text = match text_of(named) {
            Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| Wrong(format!("{}: {error}", named.display())))?,
        };
        let environment = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self::read(&text, named, environment)
    }

    /// Reads the text of `path`, then what the environment overrides.
    ///
    /// # Errors
    /// The first key or value that is not allowed, with its line or its variable.
    pub fn read(
        text: &str,
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Wrong> {
        let at = |error: toml::de::Error| {
            Wrong(format!(
                "{}: {}",
                path.display(),
                error.to_string().trim_end()
            ))
        };
        let mut config: Self = toml::from_str(text).map_err(at)?;
        let mut table: toml::Table = toml::from_str(text).map_err(at)?;
        for (variable, value) in environment {
            let Some(key) = variable.strip_prefix(ENVIRONMENT) else {
                continue;
            };
            let wrong = |why: &dyn fmt::Display| Wrong(format!("{variable}={value}: {why}"));
            let key = key.to_lowercase();
            let (section, key) = key.split_once('_').ok_or_else(|| {
                wrong(&"a variable is named SORI_PI_SECTION_KEY, such as SORI_PI_PAGE_LISTEN")
            })?;
            let section = table
                .entry(section)
                .or_insert_with(|| toml::Table::new().into());
            if let Some(section) = section.as_table_mut() {
                section.insert(key.into(), in_toml(&value));
            }
            config = of_table(&table).map_err(|error| wrong(&error.message()))?;
        }
        config.check(path)?;
        Ok(config)
    }

    /// What no single value shows.
    fn check(&self, path: &Path) -> Result<(), Wrong> {
        let wrong = |why: String| Err(Wrong(format!("{}: {why}", path.display())));
        if !self.page.listen.ip().is_loopback() && self.page.token.is_none() {
            return wrong(format!(
                "[page] listen = \"{}\" is reachable from other machines and needs a token: token = \"…\"",
                self.page.listen
            ));
        }
        if let Some(token) = &self.page.token
            && token.len() < 16
        {
            return wrong(
                "[page] token has fewer than 16 characters: openssl rand -hex 16 generates a good one"
                    .into(),
            );
        }
        if let Some(mqtt) = &self.mqtt
            && mqtt.password.is_some()
            && mqtt.username.is_none()
        {
            return wrong("[mqtt] password needs a username as well".into());
        }
        let mut used = BTreeMap::new();
        let lights = self.gpio.lights.iter();
        let pins = lights
            .map(|(label, pin)| (format!("lights.{label}"), *pin))
            .chain(self.gpio.activity.map(|pin| ("activity".into(), pin)))
            .chain(self.gpio.button.map(|pin| ("button".into(), pin)));
        for (what, pin) in pins {
            if let Some(other) = used.insert(pin, what.clone()) {
                return wrong(format!(
                    "[gpio] {other} and {what} are both on GPIO {}: move one of them",
                    pin.number()
                ));
            }
        }
        Ok(())
    }
}

/// Its text, of bounded length. It may be a pipe.
fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MOST_BYTES {
        true => Err(ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

fn of_table<T: DeserializeOwned>(table: &toml::Table) -> Result<T, toml::de::Error> {
    table.clone().try_into()
}

/// A variable's text as TOML has it: a number, `true`, a list, or else a string.
fn in_toml(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Wrong> {
        Config::read(text, Path::new("sori-pi.toml"), [])
    }

    fn refused(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    #[test]
    fn nothing_need_be_set_and_the_documented_file_sets_the_defaults() {
        assert_eq!(read(""), Ok(Config::default()));
        let documented = include_str!("../sori-pi.toml");
        assert_eq!(read(documented), Ok(Config::default()));
        // What is commented out there can be used as it stands.
        let all: String = documented
            .lines()
            .filter(|line| !line.starts_with("# "))
            .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
            .collect();
        let all = read(&all).expect("the commented keys are right");
        assert!(all.mqtt.is_some() && all.display.is_some() && all.lights.is_some());
        assert!(!all.gpio.lights.is_empty() && all.page.token.is_some());
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let refusal = Config::load(Some(Path::new("/dev/zero"))).expect_err("endless");
        assert!(refusal.to_string().contains("/dev/zero"), "{refusal}");
    }

    #[test]
    fn what_is_wrong_names_file_line_key_and_what_is_allowed() {
        for (text, parts) in [
            (
                "[microphone]\n\nchanel = 1\n",
                vec!["line 3", "chanel", "`channel`"],
            ),
            ("[microfone]\n", vec!["line 1", "microfone", "`microphone`"]),
            (
                "[model]\npackage = \"a.sori\"\nkey = \"11qYAYKxCrfVS\"\n",
                vec!["line 3", "key", "ed25519:", "`sori sign` prints"],
            ),
            (
                "[history]\nkeep_days = 0\n",
                vec!["line 2", "keep_days", "from 1 to 36500"],
            ),
            (
                "[microphone]\nchannel = \"left\"\n",
                vec!["line 2", "channel", "\"auto\" or a number"],
            ),
            (
                "[page]\nlisten = \"localhost\"\n",
                vec!["line 2", "listen", "socket address"],
            ),
            (
                "[gpio]\nbutton = 18\n",
                vec!["line 2", "button", "I2S", "17"],
            ),
            (
                "[gpio]\nactivity = 99\n",
                vec!["line 2", "activity", "2 to 27"],
            ),
            (
                "[gpio]\nlights = { jazz = 5 }\nactivity = 5\n",
                vec!["lights.jazz", "activity", "GPIO 5"],
            ),
            ("[mqtt]\nport = 1883\n", vec!["line 1", "host"]),
            (
                "[mqtt]\nhost = \"b\"\nport = 70000\n",
                vec!["line 3", "port", "65535"],
            ),
            (
                "[mqtt]\nhost = \"b\"\ntopic = \"sori/#\"\n",
                vec!["line 3", "topic", "sori/kitchen"],
            ),
            (
                "[mqtt]\nhost = \"b\"\npassword = \"secret\"\n",
                vec!["password", "username"],
            ),
            (
                "[page]\nlisten = \"0.0.0.0:80\"\n",
                vec!["0.0.0.0:80", "token"],
            ),
            ("[page]\ntoken = \"short\"\n", vec!["token", "16"]),
            ("[page\n", vec!["line 1"]),
        ] {
            let message = refused(text);
            for part in ["sori-pi.toml"].iter().chain(&parts) {
                assert!(message.contains(part), "{part} is not in: {message}");
            }
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let set = |variable: &str, value: &str| {
            let environment = [
                ("HOME".into(), "/root".into()),
                (variable.into(), value.into()),
            ];
            Config::read("[history]\nkeep_days = 7\n", Path::new("c"), environment)
        };
        let config = set("SORI_PI_HISTORY_WRITE_EVERY_S", "5").expect("a good value");
        assert_eq!(config.history.write_every_s.get(), 5);
        assert_eq!(config.history.keep_days.get(), 7);
        let config = set("SORI_PI_MQTT_HOST", "broker.local").expect("a new section");
        assert_eq!(
            config.mqtt.map(|mqtt| mqtt.host),
            Some("broker.local".into())
        );
        for (variable, value, part) in [
            ("SORI_PI_HISTORY_KEEP_DAYS", "many", "invalid type"),
            ("SORI_PI_HISTORY_KEEP_DAYS", "0", "from 1 to"),
            ("SORI_PI_MODEL_KEY", "ed25519:mine", "`sori sign` prints"),
            ("SORI_PI_HISTORY_COLOUR", "red", "unknown field"),
            ("SORI_PI_NONSENSE", "1", "SORI_PI_SECTION_KEY"),
        ] {
            let message = set(variable, value).expect_err(variable).to_string();
            assert!(
                message.contains(variable) && message.contains(part),
                "{message}"
            );
        }
    }
}
