//! Edits cloud-init's `user-data` by whole keys.
//!
//! On a card customised by Raspberry Pi Imager its settings must survive, and people read the file:
//! so keys are replaced and lists extended as text, and everything else is kept, including
//! comments. A layout that cannot be edited safely is rejected.

use std::cmp::Ordering;

use anyhow::{Result, bail};

use super::config;

/// A cloud-config: a marker in the first line, then a YAML mapping in block style.
#[derive(Debug)]
pub(super) struct CloudConfig {
    lines: Vec<String>,
    newline: &'static str,
}

impl CloudConfig {
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let Ok(text) = str::from_utf8(text) else {
            bail!("it is not UTF-8");
        };
        let newline = match config::newline(text.as_bytes()) {
            b"\r\n" => "\r\n",
            _ => "\n",
        };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines
            .first()
            .is_none_or(|line| line.trim_end() != "#cloud-config")
        {
            bail!("its first line is not #cloud-config");
        }
        if let Some(line) = lines.iter().find(|line| !is_block_style(line)) {
            bail!("it has a line that cannot be edited safely: {line}");
        }
        Ok(Self { lines, newline })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.lines.iter().any(|line| key_of(line) == Some(key))
    }

    /// Sets a key to `block`, which begins with the key.
    pub(super) fn set(&mut self, key: &str, block: &str) {
        let block = block.lines().map(str::to_owned);
        match self.block(key) {
            Some((start, end)) => {
                self.lines.splice(start..end, block);
            }
            None => self.lines.extend(block),
        }
    }

    /// Adds the missing items to a key's list, which may not exist yet.
    pub(super) fn append(&mut self, key: &str, items: &[String]) -> Result<()> {
        match self.block(key) {
            Some((start, end)) => self.lengthen(start, end, items),
            None => {
                self.lines.push(format!("{key}:"));
                self.lines
                    .extend(items.iter().map(|item| format!("- {item}")));
                Ok(())
            }
        }
    }

    /// Adds the missing items to the list whose key is in the line `start`, and whose last line is
    /// before `end`.
    fn lengthen(&mut self, start: usize, end: usize, items: &[String]) -> Result<()> {
        let lines = &self.lines[start + 1..end];
        let (key, rest) = self.lines[start].split_once(':').unwrap_or_default();
        let indent = match lines.iter().find(|line| is_content(line)) {
            Some(line) if item_of(line).is_some() && rest.trim().is_empty() => indent_of(line),
            _ => bail!(
                "its {} is not a list with one item per line",
                item_of(key).unwrap_or(key).trim()
            ),
        };
        let there: Vec<String> = lines
            .iter()
            .filter_map(|line| Some(unquoted(item_of(line)?)))
            .collect();
        let missing: Vec<String> = items
            .iter()
            .filter(|item| !there.contains(&unquoted(item)))
            .map(|item| format!("{:indent$}- {item}", ""))
            .collect();
        self.lines.splice(end..end, missing);
        Ok(())
    }

    /// The name of the only user, if there is exactly one and its name is clear.
    pub(super) fn name_of_only_user(&self) -> Option<String> {
        let OnlyUser { indent, fields, .. } = self.only_user()?;
        let mut fields = fields.iter().map(|&at| &self.lines[at][indent..]);
        let name = fields.find(|field| key_of(field) == Some("name"))?;
        Some(unquoted(name.split_once(':')?.1))
    }

    /// Adds the missing SSH keys to the only user's.
    pub(super) fn append_ssh_keys(&mut self, keys: &[String]) -> Result<()> {
        const LIST: &str = "ssh_authorized_keys";
        let Some(OnlyUser {
            indent,
            fields,
            end,
        }) = self.only_user()
        else {
            bail!("its users are not a list with one entry");
        };
        let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
        let mut names = fields.iter().map(|&at| key_of(&self.lines[at][indent..]));
        match names.position(|name| name == Some(LIST)) {
            Some(which) => {
                let next = fields.get(which + 1).copied().unwrap_or(end);
                self.lengthen(fields[which], next, &keys)
            }
            None => {
                let mut lines = vec![format!("{:indent$}{LIST}:", "")];
                lines.extend(keys.iter().map(|key| format!("{:indent$}- {key}", "")));
                self.lines.splice(end..end, lines);
                Ok(())
            }
        }
    }

    fn only_user(&self) -> Option<OnlyUser> {
        let (start, end) = self.block("users")?;
        if self.lines[start].trim_end() != "users:" {
            return None;
        }
        let mut content = (start + 1..end).filter(|&at| is_content(&self.lines[at]));
        let first = content.next()?;
        let indent = self.lines[first].len() - item_of(&self.lines[first])?.len();
        let mut fields = vec![first];
        for at in content {
            let line = &self.lines[at];
            match indent_of(line).cmp(&indent) {
                // Another item.
                Ordering::Less => return None,
                Ordering::Equal if item_of(line).is_none() => fields.push(at),
                _ => {}
            }
        }
        Some(OnlyUser {
            indent,
            fields,
            end,
        })
    }

    /// The lines of a key and its value. Comments and blank lines at the end belong to what
    /// follows.
    fn block(&self, key: &str) -> Option<(usize, usize)> {
        let start = self
            .lines
            .iter()
            .position(|line| key_of(line) == Some(key))?;
        let belongs = |line: &String| line.starts_with([' ', '\t', '-', '#']) || line.is_empty();
        let mut end = start + 1;
        for (index, line) in self.lines.iter().enumerate().skip(start + 1) {
            if !belongs(line) {
                break;
            }
            if !line.trim().is_empty() && !line.starts_with('#') {
                end = index + 1;
            }
        }
        Some((start, end))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        let lines = self.lines.iter().flat_map(|line| [line, self.newline]);
        lines.collect::<String>().into_bytes()
    }
}

/// The only item of `users`.
struct OnlyUser {
    /// The column of its keys, the first of which follows the item's dash.
    indent: usize,
    /// The lines with its keys.
    fields: Vec<usize>,
    end: usize,
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The text after the dash, if the line begins a list item.
fn item_of(line: &str) -> Option<&str> {
    let item = line.trim_start().strip_prefix("- ")?;
    Some(item.trim_start())
}

/// The text of a YAML scalar on one line, as far as hostnames, users and keys need it.
fn unquoted(scalar: &str) -> String {
    let scalar = scalar.trim();
    let single = || {
        let inner = scalar.strip_prefix('\'')?.strip_suffix('\'')?;
        Some(inner.replace("''", "'"))
    };
    // As `quoted` writes it.
    let double = || serde_json::from_str(scalar).ok();
    single()
        .or_else(double)
        .unwrap_or_else(|| scalar.to_owned())
}

/// The key that a line begins, if it belongs to the outermost mapping.
fn key_of(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once(':')?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_word);
    (is_key && (rest.is_empty() || rest.starts_with([' ', '\t']))).then_some(key)
}

/// Whether block style allows this line at the margin.
fn is_block_style(line: &str) -> bool {
    line.is_empty() || line.starts_with([' ', '\t', '-', '#']) || key_of(line).is_some()
}

/// Any string as a YAML scalar: a JSON string, except that control characters which only JSON
/// allows unescaped are escaped.
pub(super) fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let escaped = json.chars().map(|c| match c {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// As an independent parser understands it.
    fn yaml(config: CloudConfig) -> Value {
        let text = String::from_utf8(config.into_bytes()).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn parsed(text: &str) -> CloudConfig {
        CloudConfig::parse(text.as_bytes()).unwrap()
    }

    /// As Raspberry Pi Imager writes it.
    const CUSTOMISED: &str = "#cloud-config\n\
        hostname: attic\nmanage_etc_hosts: true\n\
        packages:\n- avahi-daemon\n\
        apt:\n  conf: |\n    Acquire {\n      Check-Date \"false\";\n    };\n\n\
        # who\nusers:\n- name: ada\n  groups: users,adm\n  ssh_authorized_keys:\n    - ssh-ed25519 AAAA ada\n\n\
        # what\nruncmd:\n  - [ rfkill, unblock, wifi ]\n  - [ sh, -c, \"echo: 1\" ]\n";

    #[test]
    fn a_list_is_lengthened_and_all_else_stays() {
        let mut config = parsed(CUSTOMISED);
        config
            .append("runcmd", &["[one]".into(), "[two]".into()])
            .unwrap();
        config.append("runcmd", &["[two]".into()]).unwrap();
        let text = String::from_utf8(config.into_bytes()).unwrap();
        assert_eq!(text, format!("{CUSTOMISED}  - [one]\n  - [two]\n"));

        let mut config = parsed(CUSTOMISED);
        config.append("packages", &["sox".into()]).unwrap();
        config.append("bootcmd", &["[three]".into()]).unwrap();
        let yaml = yaml(config);
        assert_eq!(yaml["packages"], json!(["avahi-daemon", "sox"]));
        assert_eq!(yaml["bootcmd"], json!([["three"]]));
        assert_eq!(yaml["runcmd"][0], json!(["rfkill", "unblock", "wifi"]));
    }

    #[test]
    fn a_key_is_replaced_with_all_that_belongs_to_it() {
        let mut config = parsed(CUSTOMISED);
        assert!(config.has("users") && !config.has("name") && !config.has("who"));
        config.set("users", "users:\n- name: bob");
        config.set("hostname", "hostname: \"cellar\"");
        let text = String::from_utf8(config.into_bytes()).unwrap();
        let expected = CUSTOMISED.replace("hostname: attic", "hostname: \"cellar\"").replace(
            "- name: ada\n  groups: users,adm\n  ssh_authorized_keys:\n    - ssh-ed25519 AAAA ada\n",
            "- name: bob\n",
        );
        assert_eq!(text, expected);
    }

    /// As Imager writes the user of a password; that user in other layouts; and one with keys.
    #[test]
    fn the_only_user_gets_keys_and_keeps_all_else() {
        let keys = [
            "ssh-ed25519 BBBB bob: \"x\"".to_owned(),
            "ssh-rsa C".to_owned(),
        ];
        for (before, there) in [
            (
                "- name: ada\n  lock_passwd: false\n  passwd: $5$x\n\n",
                json!([]),
            ),
            ("  -   groups: [users, adm]\n      name: 'ada'\n", json!([])),
            (
                "- name: \"ada\"\n  # two\n  ssh_authorized_keys:\n    - ssh-ed25519 AAAA ada\n    - 'ssh-rsa C'\n  sudo: ALL\n",
                json!(["ssh-ed25519 AAAA ada", "ssh-rsa C"]),
            ),
            (
                "- ssh_authorized_keys:\n  - ssh-rsa C\n  name: ada\n",
                json!(["ssh-rsa C"]),
            ),
        ] {
            let text = format!("#cloud-config\nusers:\n{before}ssh_pwauth: true\n");
            let mut config = parsed(&text);
            assert_eq!(config.name_of_only_user().as_deref(), Some("ada"), "{text}");
            let mut expected = yaml(parsed(&text));
            config.append_ssh_keys(&keys).unwrap();
            config.append_ssh_keys(&keys).unwrap();
            let mut all = there.as_array().unwrap().clone();
            all.extend(
                keys.iter()
                    .map(|key| json!(key))
                    .filter(|key| !there.as_array().unwrap().contains(key)),
            );
            expected["users"][0]["ssh_authorized_keys"] = all.into();
            assert_eq!(yaml(config), expected, "{text}");
        }
    }

    #[test]
    fn whose_keys_they_would_be_is_never_guessed() {
        for users in [
            "",
            "users: []\n",
            "users:\n- default\n",
            "users:\n- {name: ada}\n",
            "users:\n  name: ada\n",
            "users:\n- name: ada\n- name: bob\n",
            "users:\n- default\n- name: bob\n",
            "users:\n- groups: adm\n",
        ] {
            let config = parsed(&format!("#cloud-config\n{users}"));
            assert_eq!(config.name_of_only_user(), None, "{users}");
        }
        let mut config = parsed("#cloud-config\nusers:\n- name: ada\n  ssh_authorized_keys: [a]\n");
        let error = config.append_ssh_keys(&[]).unwrap_err().to_string();
        assert!(
            error.contains("ssh_authorized_keys is not a list"),
            "{error}"
        );
    }

    #[test]
    fn commented_keys_are_comments_and_windows_lines_stay_so() {
        let mut config = parsed("#cloud-config\r\n#hostname: raspberrypi\r\nssh_pwauth: false");
        assert!(!config.has("hostname"));
        config.set("hostname", "hostname: sori");
        let text = String::from_utf8(config.into_bytes()).unwrap();
        let expected =
            "#cloud-config\r\n#hostname: raspberrypi\r\nssh_pwauth: false\r\nhostname: sori\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_cannot_be_edited_is_refused() {
        for (text, says) in [
            (&b"#!/bin/sh\n"[..], "not #cloud-config"),
            (b"", "not #cloud-config"),
            (
                b"#cloud-config\n{hostname: sori}\n",
                "cannot be edited safely: {hostname",
            ),
            (
                b"#cloud-config\n\"hostname\": sori\n",
                "cannot be edited safely: \"hostname",
            ),
            (b"#cloud-config\n---\n...\n", "cannot be edited safely: ..."),
            (b"#cloud-config\n\xff\n", "not UTF-8"),
        ] {
            let error = CloudConfig::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        for text in [
            "#cloud-config\nruncmd: [[a]]\n",
            "#cloud-config\nruncmd:\n  a: b\n",
        ] {
            let error = parsed(text).append("runcmd", &["[b]".into()]).unwrap_err();
            assert!(error.to_string().contains("one item per line"), "{error}");
        }
    }

    #[test]
    fn any_text_survives_quoting() {
        for text in [
            "plain",
            "a: b # c",
            "\"'\\",
            "yes",
            "0644",
            "한글 \u{1f600}",
            "\t\u{7f}\u{85}",
        ] {
            let back: String = serde_saphyr::from_str(&quoted(text)).unwrap();
            assert_eq!(back, text);
        }
    }
}
