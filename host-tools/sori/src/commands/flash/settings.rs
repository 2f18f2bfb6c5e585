//! Settings for the first boot, checked before anything is written.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::str::FromStr;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::exit::Failure;

/// The user's choices; `None` keeps the image's setting, or uses a default.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) hostname: Option<Hostname>,
    pub(super) user: Option<User>,
    pub(super) ssh_keys: Vec<String>,
    pub(super) wifi: Option<Wifi>,
}

/// A hostname label (RFC 1123).
#[derive(Debug, Clone)]
pub(super) struct Hostname(pub(super) String);

impl FromStr for Hostname {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let ends = name.starts_with('-') || name.ends_with('-');
        if name.is_empty() || name.len() > 63 || ends || !name.chars().all(is_letter) {
            return Err("up to 63 of a-z, 0-9 and -, without - at either end".into());
        }
        Ok(Self(name.into()))
    }
}

/// The user who may log in.
#[derive(Debug, Clone)]
pub(super) struct User(pub(super) String);

impl FromStr for User {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || name.len() > 32 || !name.chars().all(is_letter) {
            return Err("a-z, then up to 31 of a-z, 0-9, - and _".into());
        }
        // The service runs as sori.
        if ["root", "sori"].contains(&name) {
            return Err(format!("{name} is reserved for the system: choose another"));
        }
        Ok(Self(name.into()))
    }
}

/// ISO 3166's two letters, which determine the Wi-Fi channels allowed.
#[derive(Debug, Clone)]
pub(super) struct Country(pub(super) String);

impl FromStr for Country {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, String> {
        if code.len() != 2 || !code.chars().all(|c| c.is_ascii_alphabetic()) {
            return Err("two letters, such as DE, GB, KR or US".into());
        }
        Ok(Self(code.to_ascii_uppercase()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wifi {
    pub(super) ssid: String,
    /// 64 hexadecimal digits; `None` for an open network.
    pub(super) psk: Option<String>,
    pub(super) country: String,
}

impl Wifi {
    /// `password` may be a passphrase, the 64 digits themselves, or empty.
    pub(super) fn new(ssid: &str, password: &str, country: Country) -> Result<Self> {
        if ssid.is_empty() || ssid.len() > 32 || ssid.chars().any(char::is_control) {
            return Err(usage(format!(
                "{ssid:?} is not a network name: it must have 1 to 32 bytes"
            )));
        }
        Ok(Self {
            ssid: ssid.into(),
            psk: psk(ssid, password)?,
            country: country.0,
        })
    }
}

/// The key that WPA2 derives from a passphrase (IEEE 802.11, J.4.1), so that the passphrase itself
/// is nowhere on the card.
fn psk(ssid: &str, password: &str) -> Result<Option<String>> {
    const ROUNDS: u32 = 4096;
    let is_hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    match password.len() {
        0 => Ok(None),
        64 if is_hex(password) => Ok(Some(password.to_ascii_lowercase())),
        8..=63 if password.chars().all(|c| matches!(c, ' '..='~')) => {
            let mut key = [0; 32];
            pbkdf2::pbkdf2_hmac::<sha1::Sha1>(
                password.as_bytes(),
                ssid.as_bytes(),
                ROUNDS,
                &mut key,
            );
            Ok(Some(key.map(|byte| format!("{byte:02x}")).concat()))
        }
        _ => Err(usage(
            "a Wi-Fi password must have 8 to 63 printable ASCII characters".into(),
        )),
    }
}

/// Reads it from a file (`-` for standard input), the environment, or the keyboard, in this order:
/// never from the arguments, which every user of the machine can read.
pub(super) fn password(file: Option<&Path>, ssid: &str) -> Result<String> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the password on standard input")?;
            text
        }
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the password in {}", path.display()))?,
        None => match env::var(PASSWORD_VARIABLE) {
            Ok(password) => password,
            Err(_) if io::stdin().is_terminal() => {
                ask(&format!("Password for the network {ssid}: "))?
            }
            Err(_) => {
                return Err(usage(format!(
                    "no password for the network {ssid}: give --wifi-password-file FILE (- for standard input) or {PASSWORD_VARIABLE}, empty for an open network"
                )));
            }
        },
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub(super) const PASSWORD_VARIABLE: &str = "SORI_WIFI_PASSWORD";

/// Reads a line without echo.
fn ask(question: &str) -> Result<String> {
    eprint!("{question}");
    let mut line = String::new();
    let read = without_echo(|| io::stdin().read_line(&mut line));
    eprintln!();
    read?;
    Ok(line)
}

#[cfg(unix)]
fn without_echo<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let read = read();
    tcsetattr(io::stdin(), OptionalActions::Now, &shown)?;
    read
}

#[cfg(not(unix))]
fn without_echo<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    eprint!("(shown as you type) ");
    read()
}

/// The keys of a public key file, or of an `authorized_keys`.
pub(super) fn ssh_keys(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the key {}: ssh-keygen -t ed25519 creates one",
            path.display()
        )
    })?;
    if text.contains("PRIVATE KEY") {
        return Err(usage(format!(
            "{0} is the private key, which must stay secret: give {0}.pub",
            path.display()
        )));
    }
    let lines = text.lines().map(str::trim);
    let keys: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let is_key = |key: &String| {
        let kind = key.split(' ').next().unwrap_or_default();
        ["ssh-", "ecdsa-", "sk-"]
            .iter()
            .any(|start| kind.starts_with(start))
            && key.contains(' ')
    };
    if keys.is_empty() || !keys.iter().all(is_key) {
        bail!("{} is not an SSH public key", path.display());
    }
    Ok(keys)
}

pub(super) fn usage(text: String) -> anyhow::Error {
    Failure::Usage(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The passphrases of IEEE 802.11's J.4.2.
    #[test]
    fn a_passphrase_becomes_the_standard_s_key() {
        for (ssid, password, key) in [
            (
                "IEEE",
                "password",
                "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e",
            ),
            (
                "ThisIsASSID",
                "ThisIsAPassword",
                "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af",
            ),
        ] {
            assert_eq!(psk(ssid, password).unwrap().as_deref(), Some(key));
            assert_eq!(
                psk(ssid, &key.to_uppercase()).unwrap().as_deref(),
                Some(key)
            );
        }
        assert_eq!(psk("open", "").unwrap(), None);
        for wrong in ["7 chars", "umlaut: ä", &"x".repeat(64), &"0".repeat(65)] {
            assert!(psk("net", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_those_that_the_system_takes() {
        for name in ["sori", "a", "pi-2", &"x".repeat(63)] {
            assert!(name.parse::<Hostname>().is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "a.b", "A", "a b", "a;b", &"x".repeat(64)] {
            assert!(name.parse::<Hostname>().is_err(), "{name}");
        }
        for name in ["pi", "a_b-1"] {
            assert!(name.parse::<User>().is_ok(), "{name}");
        }
        for name in ["", "1a", "root", "sori", "a b", "$(x)", &"x".repeat(33)] {
            assert!(name.parse::<User>().is_err(), "{name}");
        }
        assert_eq!("de".parse::<Country>().unwrap().0, "DE");
        for code in ["", "D", "DEU", "4a"] {
            assert!(code.parse::<Country>().is_err(), "{code}");
        }
        let country = || Country("DE".into());
        for ssid in ["", "a\nb", &"x".repeat(33)] {
            assert!(Wifi::new(ssid, "", country()).is_err(), "{ssid:?}");
        }
    }

    #[test]
    fn only_public_keys_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let with = |text: &str| {
            fs::write(&file, text).unwrap();
            ssh_keys(&file)
        };
        let two = with("# mine\nssh-ed25519 AAAA ada@laptop\n\nsk-ssh-ed25519@openssh.com AAAA\n");
        assert_eq!(two.unwrap().len(), 2);
        let private = with("-----BEGIN OPENSSH PRIVATE KEY-----\n")
            .unwrap_err()
            .to_string();
        assert!(private.contains("key.pub"), "{private}");
        for wrong in ["", "hello world\n", "ssh-ed25519\n"] {
            assert!(with(wrong).is_err(), "{wrong:?}");
        }
    }
}
