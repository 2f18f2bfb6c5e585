//! The files for the boot partition that make the first boot install Sori.

use std::io::{Read, Seek};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sha1::{Digest as _, Sha1};

use super::boot::Boot;
use super::cloud_config::{CloudConfig, quoted};
use super::os::{FirstBoot, System};
use super::settings::{Hostname, Settings, User, Wifi, usage};
use super::{config, size};

/// The installer, and the unit that runs it.
const INSTALL: &str = include_str!("install.sh");
const SERVICE: &str = include_str!("sori-install.service");
/// The unit's path in the running system.
const UNIT: &str = "/boot/firmware/sori-install.service";

/// The user's own package and configuration, as included.
pub(super) const PACKAGE: &str = "genre.sori";
pub(super) const CONFIG: &str = "sori-pi.toml";

/// The groups of Raspberry Pi OS's first user.
const GROUPS: &str =
    "users,adm,dialout,audio,netdev,video,plugdev,cdrom,games,input,gpio,spi,i2c,render,sudo";
const DEFAULT_HOSTNAME: &str = "sori";
const DEFAULT_USER: &str = "pi";

/// Words of the kernel's command line that make systemd run a script and reboot.
const RUN_ONCE: [&str; 3] = [
    "systemd.run=/boot/firmware/firstrun.sh",
    "systemd.run_success_action=reboot",
    "systemd.unit=kernel-command-line.target",
];

/// Marks our part of a script.
const BEGINS: &str = "# Added by sori flash.";

/// Files for the boot partition, and notes about them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) notes: Vec<String>,
}

/// Whether a file on the boot partition was included for an earlier first boot.
pub(super) fn was_carried(name: &str) -> bool {
    let is_deb = name.starts_with("sori-pi_") && name.ends_with(".deb");
    is_deb || [PACKAGE, CONFIG].contains(&name)
}

/// A file included for the first boot.
#[derive(Debug)]
pub(super) struct Carried {
    /// On the boot partition.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// Its source, or `None` if it is already there.
    pub(super) path: Option<PathBuf>,
}

impl Carried {
    /// Its name in messages.
    pub(super) fn shown(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => format!("{} on the boot partition", self.name),
        }
    }
}

/// The user who may log in.
enum Login {
    /// As in the image.
    Kept,
    /// The image's own user, also with the keys.
    KeysFor,
    /// This user, with the keys only.
    New(String),
}

pub(super) fn plan<D: Read + Seek>(
    boot: &Boot<'_, D>,
    system: &System,
    settings: &Settings,
    carried: Vec<Carried>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    for Carried { name, bytes, path } in carried {
        let how = path.map_or(", already there", |_| "");
        plan.notes.push(format!(
            "included: {name}, {}{how}",
            size(bytes.len() as u64)
        ));
        plan.files.push((name, bytes));
    }
    for (name, text) in [
        ("sori-install.sh", INSTALL),
        ("sori-install.service", SERVICE),
    ] {
        plan.files.push((name.into(), text.into()));
    }
    match system.first_boot {
        FirstBoot::CloudInit => plan.cloud_init(boot, settings)?,
        FirstBoot::FirstRun => plan.first_run(boot, settings)?,
    }
    plan.overlay(boot)?;
    Ok(plan)
}

impl Plan {
    fn overlay<D: Read + Seek>(&mut self, boot: &Boot<'_, D>) -> Result<()> {
        let config = boot
            .read("config.txt")?
            .context("it has no config.txt: write the image again")?;
        self.notes.push(match config::with_overlay(&config) {
            Some(config) => {
                self.files.push(("config.txt".into(), config));
                format!("config.txt: {} added", config::OVERLAY)
            }
            None => format!("config.txt: {} is already there", config::OVERLAY),
        });
        Ok(())
    }

    /// Adds words to the kernel's command line, replacing those that are equal up to their `=`.
    fn command_line<D: Read + Seek>(
        &mut self,
        boot: &Boot<'_, D>,
        mut words: Vec<String>,
        wifi: Option<&Wifi>,
    ) -> Result<()> {
        let cmdline = boot
            .read("cmdline.txt")?
            .context("it has no cmdline.txt: write the image again")?;
        if let Some(wifi) = wifi {
            words.push(format!("cfg80211.ieee80211_regdom={}", wifi.country));
        }
        let replaced: Vec<String> = words
            .iter()
            .filter_map(|word| Some(format!("{}=", word.split_once('=')?.0)))
            .collect();
        let replaced: Vec<&str> = replaced.iter().map(String::as_str).collect();
        let changed = config::with_words(&cmdline, &replaced, &words);
        self.files.push(("cmdline.txt".into(), changed));
        Ok(())
    }

    fn cloud_init<D: Read + Seek>(
        &mut self,
        boot: &Boot<'_, D>,
        settings: &Settings,
    ) -> Result<()> {
        let user_data = boot.read("user-data")?.unwrap_or_default();
        let cannot = "cannot edit user-data on the boot partition: write the image again, or make it a plain cloud-config";
        let mut config = CloudConfig::parse(&user_data).context(cannot)?;

        if let Some(hostname) = self.hostname(settings, config.has("hostname")) {
            config.set("hostname", &format!("hostname: {}", quoted(&hostname)));
            config.set("manage_etc_hosts", "manage_etc_hosts: true");
        }
        let mut commands = Vec::new();
        let has_user = config.has("users") || config.has("user");
        let login = self.login(settings, has_user, config.name_of_only_user())?;
        if let Login::New(user) = &login {
            let block = format!(
                "users:\n- name: {}\n  groups: {GROUPS}\n  shell: /bin/bash\n  lock_passwd: true\n  sudo: ALL=(ALL) NOPASSWD:ALL\n",
                quoted(user)
            );
            config.set("users", &block);
        }
        if !settings.ssh_keys.is_empty() {
            config.append_ssh_keys(&settings.ssh_keys).context(cannot)?;
            commands.push("[systemctl, enable, --now, ssh]".to_owned());
        }
        commands.push(format!(
            "[install, -m, \"644\", {UNIT}, /etc/systemd/system/]"
        ));
        commands.push("[systemctl, enable, --now, --no-block, sori-install]".to_owned());
        config.append("runcmd", &commands).context(cannot)?;
        self.files.push(("user-data".into(), config.into_bytes()));

        if let Some(wifi) = &settings.wifi {
            self.files
                .push(("network-config".into(), network_config(wifi).into()));
            self.note_wifi(wifi);
        }
        // cloud-init runs once per instance; a new instance ID makes it run again on a card that
        // has booted before. On the command line, which overrides meta-data and where Raspberry
        // Pi Imager sets it. The log is included because a card that has installed Sori would
        // otherwise have the same files again.
        let log = boot.read("sori-install.log")?.unwrap_or_default();
        let instance = format!("ds=nocloud;i=sori-{}", self.fingerprint(&log));
        self.command_line(boot, vec![instance], settings.wifi.as_ref())
    }

    fn first_run<D: Read + Seek>(&mut self, boot: &Boot<'_, D>, settings: &Settings) -> Result<()> {
        // Raspberry Pi Imager's script, if it has not run yet.
        let cmdline = boot.read("cmdline.txt")?.unwrap_or_default();
        let is_pending = cmdline.windows(12).any(|word| word == b"systemd.run=");
        let theirs = if is_pending {
            boot.read("firstrun.sh")?
        } else {
            None
        };
        let mut commands = Vec::new();
        if let Some(hostname) = self.hostname(settings, theirs.is_some()) {
            commands.push(format!("imager_custom set_hostname {hostname}"));
        }
        let script = String::from_utf8_lossy(theirs.as_deref().unwrap_or_default());
        let login = self.login(settings, sets_up_a_user(&script), user_of_script(&script))?;
        let keys: String = settings
            .ssh_keys
            .iter()
            .map(|key| shell_quoted(key))
            .filter(|key| !has_key(&script, key))
            .map(|key| format!(" {key}"))
            .collect();
        if !keys.is_empty() {
            // -k forbids passwords; if the image allows them for its user, they stay allowed.
            let only = match login {
                Login::KeysFor if script.contains(" enable_ssh") => "",
                _ => " -k",
            };
            commands.push(format!("imager_custom enable_ssh{only}{keys}"));
        }
        if let Login::New(user) = login {
            // A password that no input matches; it also removes the prompt for a user.
            commands.push(format!("/usr/lib/userconf-pi/userconf {user} '!'"));
        }
        if let Some(wifi) = &settings.wifi {
            commands.push(format!(
                "imager_custom set_wlan {} {} {}",
                shell_quoted(&wifi.ssid),
                shell_quoted(wifi.psk.as_deref().unwrap_or_default()),
                wifi.country
            ));
            self.note_wifi(wifi);
        }
        commands.push(format!("install -m 644 {UNIT} /etc/systemd/system/"));
        commands.push("systemctl enable sori-install".to_owned());
        let script = first_run_script(theirs.as_deref(), &commands);
        self.files.push(("firstrun.sh".into(), script));
        // Bookworm corrects Imager's paths, in the script and here, only as Imager wrote them.
        let words = match theirs {
            Some(_) => Vec::new(),
            None => RUN_ONCE.map(str::to_owned).to_vec(),
        };
        self.command_line(boot, words, settings.wifi.as_ref())
    }

    /// The name to set; an existing one is kept unless another was given.
    fn hostname(&mut self, settings: &Settings, has_one: bool) -> Option<String> {
        let name = match &settings.hostname {
            Some(Hostname(name)) => name.clone(),
            None if has_one => {
                self.notes.push("hostname: as in the image".into());
                return None;
            }
            None => DEFAULT_HOSTNAME.to_owned(),
        };
        self.notes.push(format!("hostname: {name}"));
        Some(name)
    }

    /// The user who may log in. The image may have one, and its name may be clear.
    fn login(
        &mut self,
        settings: &Settings,
        has_one: bool,
        theirs: Option<String>,
    ) -> Result<Login> {
        let theirs = theirs.filter(|name| name.parse::<User>().is_ok());
        let wanted = settings.user.as_ref().map(|User(name)| name);
        let name = match wanted {
            Some(name) if theirs.as_ref() != Some(name) => name.clone(),
            // Without a user the system would ask for one, and wait.
            None if !has_one => DEFAULT_USER.to_owned(),
            _ if settings.ssh_keys.is_empty() => {
                self.notes.push("user: as in the image".into());
                return Ok(Login::Kept);
            }
            _ => {
                let name = theirs.ok_or_else(|| {
                    usage("the image has its own users, and it is unclear who should get the key: add it in Raspberry Pi Imager, where they were set up, or replace them with --user NAME".to_owned())
                })?;
                self.notes.push(format!(
                    "user: {name}, as in the image, and by SSH with the key"
                ));
                return Ok(Login::KeysFor);
            }
        };
        let mut note = match settings.ssh_keys.len() {
            0 => format!("user: {name}, who cannot log in: add a key with --ssh-key FILE.pub"),
            1 => format!("user: {name}, by SSH with the key"),
            n => format!("user: {name}, by SSH with any of {n} keys"),
        };
        if has_one {
            note += "; replaces the image's users";
        }
        self.notes.push(note);
        Ok(Login::New(name))
    }

    fn note_wifi(&mut self, wifi: &Wifi) {
        let how = if wifi.psk.is_some() { "" } else { ", open" };
        self.notes
            .push(format!("Wi-Fi: {}, {}{how}", wifi.ssid, wifi.country));
    }

    /// Twelve digits that change with any file so far, or the log.
    fn fingerprint(&self, log: &[u8]) -> String {
        let mut hash = Sha1::new_with_prefix(log);
        for (path, bytes) in &self.files {
            hash.update(path);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let bytes = hash.finalize();
        bytes[..6]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// For netplan, which takes a password of 64 hexadecimal digits as the key itself.
fn network_config(wifi: &Wifi) -> String {
    let access = match &wifi.psk {
        Some(psk) => format!("\n          password: \"{psk}\""),
        None => " {}".to_owned(),
    };
    format!(
        "network:
  version: 2
  ethernets:
    eth0:
      dhcp4: true
      optional: true
  wifis:
    wlan0:
      dhcp4: true
      optional: true
      regulatory-domain: \"{}\"
      access-points:
        {}:{access}
",
        wifi.country,
        quoted(&wifi.ssid)
    )
}

/// Raspberry Pi Imager's script, if there is one, with the commands inserted before it removes
/// itself; or one of our own.
///
/// Commands that it already has, because the card was prepared before, are not added again.
fn first_run_script(theirs: Option<&[u8]>, commands: &[String]) -> Vec<u8> {
    let lines: Vec<&[u8]> = theirs
        .unwrap_or_default()
        .split_inclusive(|&byte| byte == b'\n')
        .collect();
    let has = |command: &str| {
        lines
            .iter()
            .any(|line| line.trim_ascii() == command.as_bytes())
    };
    let mut ours = String::new();
    if !has(BEGINS) {
        ours += &format!(
            "{BEGINS}\nimager_custom() {{\n    /usr/lib/raspberrypi-sys-mods/imager_custom \"$@\"\n}}\n"
        );
    }
    let missing = commands.iter().filter(|command| !has(command));
    ours.extend(missing.map(|command| format!("{command}\n")));
    if theirs.is_none() {
        // It must not fail: the system would neither reboot nor continue.
        return format!(
            "#!/bin/sh
set +e
{ours}rm -f /boot/firmware/firstrun.sh
sed -i 's| systemd\\.run[^ ]*||g; s| systemd\\.unit=kernel-command-line\\.target||' /boot/firmware/cmdline.txt
sync
exit 0
"
        )
        .into_bytes();
    }
    let is_end = |line: &&[u8]| {
        let line = line.trim_ascii();
        line.starts_with(b"rm ") && line.ends_with(b"firstrun.sh") || line.starts_with(b"exit")
    };
    let end = lines.iter().position(is_end).unwrap_or(lines.len());
    let (body, rest) = lines.split_at(end);
    let mut body = body.concat();
    config::end_line(&mut body, b"\n");
    [body, ours.into_bytes(), rest.concat()].concat()
}

/// The user that a script sets up, by the call that both Raspberry Pi Imager and `sori flash` use.
fn user_of_script(script: &str) -> Option<String> {
    let calls = script
        .lines()
        .filter_map(|line| line.split_once("/userconf-pi/userconf "));
    let words = calls.filter_map(|(_, words)| words.split(' ').next());
    let mut names = words.map(|name| name.trim_matches(['\'', '"']).to_owned());
    // Not the `];` of the test whether the program exists.
    names.rfind(|name| name.parse::<User>().is_ok())
}

/// Whether a script creates a user or renames the first, in any of the usual ways.
fn sets_up_a_user(script: &str) -> bool {
    let ways = ["userconf", "useradd", "adduser"];
    ways.iter().any(|way| script.contains(way))
}

/// Whether a script gives the first user a key, which is one shell word.
fn has_key(script: &str, key: &str) -> bool {
    let mut lines = script.lines();
    lines.any(|line| line.contains(" enable_ssh ") && line.contains(key))
}

/// Any text as one shell word.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

// The tests need a shell.
#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use serde_json::{Value, json};

    use super::*;

    fn wifi(ssid: &str, psk: Option<&str>) -> Wifi {
        Wifi {
            ssid: ssid.into(),
            psk: psk.map(str::to_owned),
            country: "DE".into(),
        }
    }

    #[test]
    fn a_network_is_yaml_whatever_its_name_is() {
        for ssid in ["home", "caf\u{e9}: \"#1\"", "no", "\\", "'"] {
            for psk in [None, Some("ab12")] {
                let text = network_config(&wifi(ssid, psk));
                let yaml: Value = serde_saphyr::from_str(&text).unwrap();
                let wlan0 = &yaml["network"]["wifis"]["wlan0"];
                let expected = match psk {
                    Some(psk) => json!({ ssid: { "password": psk } }),
                    None => json!({ ssid: {} }),
                };
                assert_eq!(wlan0["access-points"], expected);
                assert_eq!(wlan0["regulatory-domain"], "DE");
            }
        }
    }

    /// The commands that a script calls, with their words.
    fn calls(script: &[u8]) -> Vec<Vec<String>> {
        let text = String::from_utf8(script.to_vec()).unwrap();
        // Instead of this machine's commands, stand-ins record how they were called.
        let text = text
            .replace("/usr/lib/raspberrypi-sys-mods/imager_custom", "said custom")
            .replace("/usr/lib/userconf-pi/userconf", "said userconf")
            .replace("install -m", "said install -m")
            .replace("systemctl", "said systemctl")
            .replace("rm -f", "said rm")
            .replace("sed -i", "said sed")
            .replace("\nsync\n", "\n");
        let said = "said() { printf '%s\\037' \"$@\"; printf '\\n'; }\n";
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("{said}{text}"))
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| line.split_terminator('\x1f').map(str::to_owned).collect())
            .collect()
    }

    #[test]
    fn the_script_says_what_was_chosen_whatever_is_in_it() {
        let ssid = "it's $HOME \"`x`\\";
        let commands = [
            format!("imager_custom set_wlan {} 'ab12' DE", shell_quoted(ssid)),
            "systemctl enable sori-install".to_owned(),
        ];
        let calls = calls(&first_run_script(None, &commands));
        assert_eq!(calls[0], ["custom", "set_wlan", ssid, "ab12", "DE"]);
        assert_eq!(calls[1], ["systemctl", "enable", "sori-install"]);
        assert_eq!(calls[2], ["rm", "/boot/firmware/firstrun.sh"]);
        assert_eq!(calls[3][0], "sed");
    }

    /// The end of Raspberry Pi Imager's script, whose last lines Bookworm replaces at first boot.
    #[test]
    fn imager_s_script_is_kept_and_ours_comes_before_it_removes_itself() {
        let theirs = "#!/bin/sh\n\nset +e\n\n   systemctl restart keyboard-setup\nrm -f /boot/firstrun.sh\nsed -i 's| systemd.run.*||g' /boot/cmdline.txt\nexit 0\n";
        let script = first_run_script(Some(theirs.as_bytes()), &["systemctl enable x".into()]);
        let calls = calls(&script);
        assert_eq!(calls[0], ["systemctl", "restart", "keyboard-setup"]);
        assert_eq!(calls[1], ["systemctl", "enable", "x"]);
        assert_eq!(calls[2], ["rm", "/boot/firstrun.sh"]);
        let text = String::from_utf8(script).unwrap();
        let ours = &text[text.find("# Added").unwrap()..text.find("rm -f").unwrap()];
        assert_eq!(text.replace(ours, ""), theirs);
        let again = first_run_script(Some(text.as_bytes()), &["systemctl enable x".into()]);
        assert_eq!(String::from_utf8(again).unwrap(), text);
    }

    /// The script removes exactly what was added to the command line, so that the next boot is
    /// an ordinary one.
    #[test]
    fn the_command_line_loses_the_script_again() {
        let script = String::from_utf8(first_run_script(None, &[])).unwrap();
        let sed = script
            .lines()
            .find(|line| line.starts_with("sed -i"))
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cmdline.txt");
        let before = "console=tty1 root=PARTUUID=1-02 rootwait\n";
        let words = RUN_ONCE.map(str::to_owned);
        fs::write(&file, config::with_words(before.as_bytes(), &[], &words)).unwrap();
        let sed = sed.replace("/boot/firmware/cmdline.txt", file.to_str().unwrap());
        assert!(
            Command::new("sh")
                .arg("-c")
                .arg(sed)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }

    /// The first boot of a Pi whose commands record how they were called.
    struct Pi(tempfile::TempDir);

    impl Pi {
        fn new(files: &[&str]) -> Self {
            let pi = Self(tempfile::tempdir().unwrap());
            for folder in ["boot", "etc", "state", "units", "bin"] {
                fs::create_dir(pi.at(folder)).unwrap();
            }
            for path in files {
                fs::write(pi.at(path), path).unwrap();
            }
            let mut script = INSTALL.replace(" -o sori -g sori", "");
            for (name, path, here) in [
                ("here", "/boot/firmware", "boot"),
                ("state", "/var/lib/sori-pi", "state"),
                ("etc", "/etc/sori-pi", "etc"),
                ("units", "/etc/systemd/system", "units"),
            ] {
                let line = format!("\n{name}={path}\n");
                assert!(script.contains(&line), "{line}");
                script = script.replace(&line, &format!("\n{name}={}\n", pi.at(here)));
            }
            fs::write(pi.at("boot/sori-install.sh"), script).unwrap();
            for (name, does) in [
                ("dpkg", "sed -i 1d dpkg; exit $(head -n 1 dpkg)"),
                (
                    "apt-get",
                    "for last; do :; done; [ -e network ] && { [ $1 = update ] || [ -e $last ]; }",
                ),
                ("systemctl", "[ $1 != disable ] || rm enabled"),
                ("sleep", ":"),
            ] {
                // With the tools of this machine, whatever the script's own are.
                let (path, here) = (std::env::var("PATH").unwrap(), pi.at(""));
                let said = format!("PATH={path}\ncd {here}\necho {name} \"$@\" >>calls");
                pi.command(name, &format!("{said}\n{does}"));
            }
            fs::write(pi.at("enabled"), "").unwrap();
            pi.dpkg_answers(&[]);
            pi
        }

        fn command(&self, name: &str, script: &str) {
            let file = self.at(&format!("bin/{name}"));
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// dpkg's exit codes, one after another, and 0 from then on.
        fn dpkg_answers(&self, codes: &[&str]) {
            fs::write(self.at("dpkg"), format!("\n{}", codes.join("\n"))).unwrap();
        }

        /// Cuts the power before the script's command of this number, from 0.
        fn loses_power_before(&self, command: usize) {
            fs::write(self.at("count"), "").unwrap();
            let path = std::env::var("PATH").unwrap();
            for name in ["cp", "sed", "install", "sync", "rm", "systemctl", "apt-get"] {
                let real = self.at(&format!("bin/{name}"));
                if fs::exists(&real).unwrap() {
                    fs::rename(&real, self.at(&format!("bin/real-{name}"))).unwrap();
                }
                let script = format!(
                    "count=$(wc -c <{0})\nprintf x >>{0}\n\
                     if [ \"$count\" -eq {command} ]; then kill -KILL $PPID; exit; fi\n\
                     if [ -e {1} ]; then exec {1} \"$@\"; fi\nPATH={path} exec {name} \"$@\"",
                    self.at("count"),
                    self.at(&format!("bin/real-{name}")),
                );
                self.command(name, &script);
            }
        }

        fn at(&self, path: &str) -> String {
            self.0.path().join(path).to_str().unwrap().to_owned()
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.at(path)).unwrap()
        }

        fn has(&self, path: &str) -> bool {
            fs::exists(self.at(path)).unwrap()
        }

        /// Whether the installer succeeded, if the unit would run it at all.
        fn starts(&self) -> bool {
            if !self.has("enabled") || !self.has("boot/sori-install.sh") {
                return true;
            }
            let path = format!("{}:{}", self.at("bin"), std::env::var("PATH").unwrap());
            let mut sh = Command::new("/bin/sh");
            sh.arg(self.at("boot/sori-install.sh")).env("PATH", path);
            sh.status().unwrap().success()
        }
    }

    /// First without the network that it needs.
    #[test]
    fn what_installs_goes_on_after_a_failure_and_cleans_up_after_success() {
        let pi = Pi::new(&[
            "boot/sori-pi_1_arm64.deb",
            "boot/sori-pi.toml",
            "boot/genre.sori",
            "units/sori-install.service",
        ]);
        assert!(!pi.starts());
        assert!(pi.has("boot/sori-pi_1_arm64.deb") && pi.has("boot/sori-install.sh"));
        assert!(!pi.has("etc/sori-pi.toml"));

        fs::write(pi.at("network"), "").unwrap();
        fs::write(pi.at("calls"), "").unwrap();
        assert!(pi.starts());
        assert_eq!(pi.read("etc/sori-pi.toml"), "boot/sori-pi.toml");
        assert_eq!(pi.read("state/genre.sori"), "boot/genre.sori");
        let left: Vec<_> = fs::read_dir(pi.at("boot"))
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        assert_eq!(left, ["sori-install.log"]);
        assert!(!pi.has("units/sori-install.service"));
        let calls = pi.read("calls");
        let calls: Vec<_> = calls.lines().collect();
        assert!(calls[1].ends_with("sori-pi_1_arm64.deb"), "{calls:?}");
        assert_eq!(
            calls[2..],
            [
                "systemctl enable sori-pi",
                "systemctl restart --no-block sori-pi",
                "systemctl disable sori-install"
            ]
        );
        assert!(pi.read("boot/sori-install.log").contains("installed"));
    }

    /// A boot continues from wherever the last one was cut, and leaves no token behind.
    #[test]
    fn a_cut_of_power_repeats_the_installation_or_nothing() {
        let mut cuts = 0;
        loop {
            let pi = Pi::new(&[
                "boot/sori-pi_1_arm64.deb",
                "boot/sori-pi.toml",
                "boot/genre.sori",
                "units/sori-install.service",
                "network",
            ]);
            pi.loses_power_before(cuts);
            let was_cut = !pi.starts();
            assert!(pi.starts(), "{cuts}: {}", pi.read("boot/sori-install.log"));
            assert!(!pi.has("enabled") && !pi.has("boot/sori-pi.toml"), "{cuts}");
            assert_eq!(pi.read("etc/sori-pi.toml"), "boot/sori-pi.toml", "{cuts}");
            assert_eq!(pi.read("state/genre.sori"), "boot/genre.sori", "{cuts}");
            if !was_cut {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 10, "{cuts}");
    }

    /// dpkg exits with 2 if another process has its lock, with 1 if a package is broken.
    #[test]
    fn a_busy_dpkg_is_waited_for_and_a_broken_package_is_not() {
        let pi = Pi::new(&["boot/sori-pi_1_arm64.deb", "network"]);
        pi.dpkg_answers(&["2", "2", "0"]);
        assert!(pi.starts(), "{}", pi.read("boot/sori-install.log"));
        let calls = pi.read("calls");
        let waits = calls.lines().filter(|&call| call == "sleep 10");
        assert_eq!(waits.count(), 2);

        for answers in [&["2", "1"][..], &["2"; 60]] {
            let pi = Pi::new(&["boot/sori-pi_1_arm64.deb", "network"]);
            pi.dpkg_answers(answers);
            assert!(!pi.starts());
            let calls = pi.read("calls");
            assert!(!calls.contains("apt-get"), "{calls}");
            assert_eq!(calls.matches("dpkg").count(), answers.len());
        }
    }

    /// The service finds it there. The Debian package's configuration stays its own, so that an
    /// upgrade may replace it.
    #[test]
    fn a_package_that_is_carried_is_put_where_the_service_looks() {
        let pi = Pi::new(&["boot/sori-pi_1_arm64.deb", "boot/genre.sori", "network"]);
        let shipped = include_str!("../../../../../firmware/pi/sori-pi.toml");
        fs::write(pi.at("etc/sori-pi.toml"), shipped).unwrap();
        assert!(pi.starts(), "{}", pi.read("boot/sori-install.log"));
        assert_eq!(pi.read("state/genre.sori"), "boot/genre.sori");
        assert_eq!(pi.read("etc/sori-pi.toml"), shipped);
    }
}
