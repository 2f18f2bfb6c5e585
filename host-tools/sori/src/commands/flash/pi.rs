//! Prepares Raspberry Pi OS, in a file or on a card.

use std::fs;
use std::io::{Read, Seek, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sori_host::file;
use sori_package::write::PackageBytes;
use sori_sign::PublicKey;

use super::boot::Boot;
use super::cow::{Change, Cow};
use super::first_boot::{self, CONFIG, Carried, PACKAGE};
use super::image::{Image, Layout};
use super::os::{self, Architecture, System};
use super::settings::{self, Country, Hostname, Settings, User, Wifi, usage};
use super::size;
use crate::exit::Failure;
use crate::{output, package};

/// Where `cargo xtask dist` writes packages.
const DIST: &str = "target/dist";
/// Where the user's own package will be installed.
const PACKAGE_THERE: &str = "/var/lib/sori-pi/genre.sori";
/// Bytes to copy at a time.
const PIECE: usize = 1 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "For a Raspberry Pi")]
#[group(conflicts_with_all = ["board", "firmware"])]
pub(super) struct Pi {
    /// Write the prepared image to this file
    #[arg(long, value_name = "FILE.img", conflicts_with = "to")]
    out: Option<PathBuf>,
    /// Write the prepared image to this card, erasing everything on it
    #[arg(long, value_name = "DEVICE")]
    to: Option<PathBuf>,
    /// Write to a card without asking for confirmation
    #[arg(long)]
    yes: bool,
    /// sori-pi's Debian package [default: the image's own, or the newest in target/dist]
    #[arg(long, value_name = "FILE.deb")]
    deb: Option<PathBuf>,
    /// The package to listen with, instead of the built-in one
    #[arg(long, value_name = "FILE.sori")]
    package: Option<PathBuf>,
    /// Configuration of sori-pi
    #[arg(long, value_name = "sori-pi.toml")]
    config: Option<PathBuf>,
    /// The Pi's hostname [default: the image's own if customised, or sori]
    #[arg(long, value_name = "NAME")]
    hostname: Option<Hostname>,
    /// The user who may log in [default: the image's own if customised, or pi]
    #[arg(long, value_name = "NAME")]
    user: Option<User>,
    /// Public keys that may log in over SSH, such as ~/.ssh/id_ed25519.pub
    #[arg(long, value_name = "FILE.pub")]
    ssh_key: Option<PathBuf>,
    /// The Wi-Fi network; asks for the password, or takes it from SORI_WIFI_PASSWORD
    #[arg(long, value_name = "SSID", requires = "country")]
    wifi: Option<String>,
    /// File with the Wi-Fi password; - for standard input
    #[arg(long, value_name = "FILE", requires = "wifi")]
    wifi_password_file: Option<PathBuf>,
    /// The country where the Pi will be, such as DE, GB, KR or US
    #[arg(long, value_name = "CODE", requires = "wifi")]
    country: Option<Country>,
}

/// The result of preparing an image.
struct Prepared {
    changes: Vec<Change>,
    /// Shown before anything is written.
    notes: Vec<String>,
    /// Instructions for the card.
    next: &'static str,
}

const NEXT: &str = "\
Wire the microphone, put the card into the Pi and power it on. The first boot takes a few minutes:
it installs Sori and starts listening. sori-install.log on the card records the result.";
const NEXT_OF_APPLIANCE: &str = "\
Its settings are files on the card, see firmware/appliance/README.md. Wire the microphone, put the
card into the Pi and power it on: it listens within a minute.";

impl Pi {
    pub(super) fn run(&self, place: &Path) -> Result<()> {
        if is_device(place) {
            if self.out.is_some() || self.to.is_some() {
                return Err(usage(format!(
                    "{} is a card, which is prepared in place: omit --out and --to, or name an image",
                    place.display()
                )));
            }
            return self.prepare_card(place);
        }
        match (&self.out, &self.to) {
            (Some(out), _) => self.to_file(place, out),
            (None, Some(to)) => self.to_card(place, to),
            (None, None) => Err(usage(
                "an image is never changed in place: write the prepared one to --out FILE.img or --to DEVICE"
                    .to_owned(),
            )),
        }
    }

    fn to_file(&self, path: &Path, out: &Path) -> Result<()> {
        let same =
            |a: &Path, b: &Path| Some(fs::canonicalize(a).ok()? == fs::canonicalize(b).ok()?);
        if same(path, out) == Some(true) {
            return Err(usage(
                "--out is the image itself: name another file".to_owned(),
            ));
        }
        let image = Image::open(path)?;
        let prepared = self
            .prepare(image.head(), image.layout)
            .with_context(|| cannot(path))?;
        prepared.tell()?;
        let bar = output::bytes(image.len.unwrap_or(image.layout.end), "written");
        let mut from = image.patched(&prepared.changes)?;
        let mut done = 0;
        output::stream_atomically(out, |to| {
            let mut piece = vec![0; PIECE];
            loop {
                match from
                    .read(&mut piece)
                    .with_context(|| format!("{} ends too early", path.display()))?
                {
                    0 => break,
                    n => {
                        to.write_all(&piece[..n])?;
                        done += n as u64;
                        bar.set_position(done);
                    }
                }
            }
            Ok(to.sync_all()?)
        })?;
        bar.finish_and_clear();
        output::line(&format!(
            "wrote {}, {}; write it to a card with sori flash {0} --to DEVICE or any other program\n{}",
            out.display(),
            size(done),
            prepared.next
        ))
    }

    /// Checks everything that can be checked before a card is written.
    fn prepare<D: Read + Seek>(&self, disk: D, layout: Layout) -> Result<Prepared> {
        let mut partition = Cow::new(disk, layout.boot_start, layout.boot_len);
        let boot = Boot::mount(&mut partition)?;
        if os::is_appliance(&boot)? {
            return self.as_it_is();
        }
        let system = System::detect(&boot)?;
        let settings = self.settings()?;
        let carried = self.carried(&boot, system.architecture)?;
        let mut notes = vec![system.to_string()];
        let plan = first_boot::plan(&boot, &system, &settings, carried)?;
        notes.extend(plan.notes);
        boot.write(&plan.files, first_boot::was_carried)?;
        Ok(Prepared {
            changes: partition.into_changes(),
            notes,
            next: NEXT,
        })
    }

    /// The appliance needs no preparation.
    fn as_it_is(&self) -> Result<Prepared> {
        let given = [
            ("--deb", self.deb.is_some()),
            ("--package", self.package.is_some()),
            ("--config", self.config.is_some()),
            ("--hostname", self.hostname.is_some()),
            ("--user", self.user.is_some()),
            ("--ssh-key", self.ssh_key.is_some()),
            ("--wifi", self.wifi.is_some()),
        ];
        let given = given.iter().filter(|(_, is_given)| *is_given);
        let given: Vec<&str> = given.map(|&(option, _)| option).collect();
        if !given.is_empty() {
            return Err(usage(format!(
                "it is Sori's own appliance, which is written unchanged: omit {}; its settings are files on its boot partition, see firmware/appliance/README.md",
                given.join(", ")
            )));
        }
        if self.to.is_none() {
            return Err(usage(
                "it is Sori's own appliance, which needs no preparation: sori flash IMAGE --to DEVICE writes it to a card"
                    .to_owned(),
            ));
        }
        Ok(Prepared {
            changes: Vec::new(),
            notes: vec!["Sori's own appliance, written unchanged".to_owned()],
            next: NEXT_OF_APPLIANCE,
        })
    }

    fn settings(&self) -> Result<Settings> {
        let wifi = match (&self.wifi, &self.country) {
            (Some(ssid), Some(country)) => {
                let password = settings::password(self.wifi_password_file.as_deref(), ssid)?;
                Some(Wifi::new(ssid, &password, country.clone())?)
            }
            _ => None,
        };
        Ok(Settings {
            hostname: self.hostname.clone(),
            user: self.user.clone(),
            ssh_keys: self
                .ssh_key
                .as_deref()
                .map(settings::ssh_keys)
                .transpose()?
                .unwrap_or_default(),
            wifi,
        })
    }

    /// The files that the first boot installs: those given, or those left by an earlier
    /// preparation.
    fn carried<D: Read + Seek>(
        &self,
        boot: &Boot<'_, D>,
        architecture: Architecture,
    ) -> Result<Vec<Carried>> {
        let there = |name: &str| -> Result<Option<Carried>> {
            Ok(boot.read(name)?.map(|bytes| Carried {
                name: name.to_owned(),
                bytes,
                path: None,
            }))
        };
        let given = |path: &Path, name: &str| -> Result<Carried> {
            Ok(Carried {
                name: name.to_owned(),
                bytes: file::read(path, file::MAX_DATA)
                    .with_context(|| format!("cannot read {}: check the path", path.display()))?,
                path: Some(path.to_owned()),
            })
        };
        let mut names = boot.names()?.into_iter();
        let deb = match (&self.deb, names.find(|name| is_deb(name, architecture))) {
            (None, Some(name)) => there(&name)?,
            (None, None) => Some(read_deb(
                &newest_deb(Path::new(DIST), architecture)?,
                architecture,
            )?),
            (Some(deb), _) => Some(read_deb(deb, architecture)?),
        };
        let package = match &self.package {
            Some(path) => Some(given(path, PACKAGE)?),
            None => there(PACKAGE)?,
        };
        let config = match &self.config {
            Some(path) => Some(given(path, CONFIG)?),
            None => there(CONFIG)?,
        };
        check(package.as_ref(), config.as_ref())?;
        Ok([deb, package, config].into_iter().flatten().collect())
    }
}

/// Whether the service will listen with the package: on a Pi without a screen, nobody would see
/// that it does not.
fn check(package: Option<&Carried>, config: Option<&Carried>) -> Result<()> {
    let mut key = None;
    if let Some(config) = config {
        let shown = config.shown();
        let is_no_toml = || format!("{shown} is not TOML");
        let text = str::from_utf8(&config.bytes).with_context(is_no_toml)?;
        let config: toml::Table = toml::from_str(text).with_context(is_no_toml)?;
        let model = |name: &str| config.get("model")?.get(name);
        let elsewhere = model("package").filter(|path| path.as_str() != Some(PACKAGE_THERE));
        if let (Some(package), Some(elsewhere)) = (package, elsewhere) {
            return Err(usage(format!(
                "{shown} makes the service listen with {elsewhere} instead of {}: remove package from [model], or set package = \"{PACKAGE_THERE}\"",
                package.shown()
            )));
        }
        if let Some(text) = model("key") {
            let parsed = text.as_str().unwrap_or_default().parse::<PublicKey>();
            key = Some((
                parsed.with_context(|| format!("{shown}: key in [model]"))?,
                shown,
            ));
        }
    }
    let Some(package) = package else {
        return Ok(());
    };
    let shown = package.shown();
    let bytes = PackageBytes::copy_from(&package.bytes);
    package::mel(
        &package::parse(&bytes, Path::new(&shown))?,
        Path::new(&shown),
    )?;
    if let Some((key, config)) = key {
        sori_sign::check(&bytes, &key).map_err(|refusal| {
            Failure::Incompatible(format!(
                "the service would reject {shown} by the key in {config}: {refusal}"
            ))
        })?;
    }
    Ok(())
}

impl Prepared {
    fn tell(&self) -> Result<()> {
        for note in &self.notes {
            output::line(note)?;
        }
        Ok(())
    }
}

fn cannot(path: &Path) -> String {
    format!("cannot prepare {}", path.display())
}

/// The newest package for an architecture.
fn newest_deb(folder: &Path, architecture: Architecture) -> Result<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let debs = files.filter(|file| is_deb(&file.file_name().to_string_lossy(), architecture));
    let newest = debs.max_by_key(|file| file.metadata().and_then(|deb| deb.modified()).ok());
    let newest = newest.map(|file| file.path());
    newest.ok_or_else(|| {
        usage(format!(
            "no {}/sori-pi_*_{}.deb, which this image needs: build it with cargo xtask dist, or name one with --deb",
            folder.display(),
            architecture.name()
        ))
    })
}

/// Whether a file has the name that `cargo xtask dist` gives it.
fn is_deb(name: &str, architecture: Architecture) -> bool {
    let end = format!("_{}.deb", architecture.name());
    name.starts_with("sori-pi_") && name.ends_with(&end)
}

/// Reads a Debian package whose name fits the image; dpkg checks that again.
fn read_deb(path: &Path, architecture: Architecture) -> Result<Carried> {
    let bytes = file::read(path, file::MAX_DATA)
        .with_context(|| format!("cannot read {}: check the path", path.display()))?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if !bytes.starts_with(b"!<arch>\n") || !name.starts_with("sori-pi_") || !name.ends_with(".deb")
    {
        bail!(
            "{} is not a sori-pi_*.deb: cargo xtask dist builds one",
            path.display()
        );
    }
    if !is_deb(&name, architecture) {
        return Err(usage(format!(
            "{name} is for another system: this image needs sori-pi_*_{}.deb",
            architecture.name()
        )));
    }
    Ok(Carried {
        name,
        bytes,
        path: Some(path.to_owned()),
    })
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::*;

    pub(super) fn is_device(_: &Path) -> bool {
        false
    }

    impl Pi {
        pub(super) fn prepare_card(&self, path: &Path) -> Result<()> {
            self.to_card(path, path)
        }

        pub(super) fn to_card(&self, _: &Path, _: &Path) -> Result<()> {
            Err(usage(
                "cards can only be written on Linux: use --out FILE.img, and write that file to a card with Raspberry Pi Imager"
                    .to_owned(),
            ))
        }
    }
}

#[cfg(not(target_os = "linux"))]
use elsewhere::is_device;
#[cfg(target_os = "linux")]
use on_linux::is_device;

#[cfg(target_os = "linux")]
mod on_linux {
    use std::io::{self, IsTerminal as _, SeekFrom};

    use super::*;
    use crate::commands::flash::burn;
    use crate::commands::flash::device::Disk;
    pub(super) use crate::commands::flash::device::is_device;

    impl Pi {
        pub(super) fn to_card(&self, path: &Path, to: &Path) -> Result<()> {
            let disk = Disk::find(to)?;
            let image = Image::open(path)?;
            let len = image.len.unwrap_or(image.layout.end);
            if len > disk.len {
                return Err(usage(format!(
                    "{} is too small: it has {} and the image needs {}",
                    disk.path.display(),
                    size(disk.len),
                    size(len)
                )));
            }
            let prepared = self
                .prepare(image.head(), image.layout)
                .with_context(|| cannot(path))?;
            prepared.tell()?;
            self.confirm(&disk, "Everything on it will be erased.")?;

            let name = || disk.path.display().to_string();
            let mut image = image.patched(&prepared.changes)?;
            let bar = output::bytes(len, "written");
            let mut card = disk.open()?;
            let written = burn::write(&mut image, &mut card, |done| bar.set_position(done))
                .with_context(name)?;
            bar.finish_and_clear();
            drop(card);
            let bar = output::bytes(written.len, "verified");
            burn::verify(&written, &mut disk.reopen()?, |done| bar.set_position(done))
                .with_context(name)?;
            bar.finish_and_clear();
            output::line(&format!(
                "wrote {} to {}, {}, and verified it by reading back\n{}",
                size(written.len),
                disk.path.display(),
                disk.model,
                prepared.next
            ))
        }

        pub(super) fn prepare_card(&self, path: &Path) -> Result<()> {
            let disk = Disk::find(path)?;
            let mut card = disk.open()?;
            let layout = Layout::read(&mut card).with_context(|| {
                format!(
                    "{} contains no operating system: sori flash IMAGE --to {0} writes one",
                    disk.path.display()
                )
            })?;
            if layout.end > disk.len {
                bail!(
                    "{}'s partitions extend past its end: write the image again, to a larger card",
                    disk.path.display()
                );
            }
            let prepared = self
                .prepare(&mut card, layout)
                .with_context(|| cannot(path))?;
            prepared.tell()?;
            self.confirm(&disk, "Only its boot partition will be changed.")?;
            let name = || disk.path.display().to_string();
            burn::change(&mut card, &prepared.changes).with_context(name)?;
            drop(card);
            let mut card = disk.reopen()?;
            for change in &prepared.changes {
                let mut back = vec![0; change.bytes.len()];
                card.seek(SeekFrom::Start(change.offset))?;
                card.read_exact(&mut back).with_context(name)?;
                if back[..] != change.bytes[..] {
                    bail!(
                        "{}: data read back at {} differs from what was written: the card or its reader is faulty; use another",
                        disk.path.display(),
                        size(change.offset)
                    );
                }
            }
            output::line(&format!(
                "prepared {}, {}, and verified it by reading back\n{}",
                disk.path.display(),
                disk.model,
                prepared.next
            ))
        }

        fn confirm(&self, disk: &Disk, consequence: &str) -> Result<()> {
            if self.yes {
                return Ok(());
            }
            let card = format!(
                "{}: {}, {}",
                disk.path.display(),
                disk.model,
                size(disk.len)
            );
            if !io::stdin().is_terminal() {
                return Err(usage(format!("{card}. {consequence} Confirm with --yes")));
            }
            eprint!("{card}. {consequence} Type yes to continue: ");
            let mut answer = String::new();
            io::stdin().read_line(&mut answer)?;
            if answer.trim() != "yes" {
                bail!("nothing was written");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_of_the_image_s_architecture_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let none = newest_deb(folder.path(), Architecture::Arm64)
            .unwrap_err()
            .to_string();
        assert!(none.contains("cargo xtask dist"), "{none}");
        for (name, age_s) in [
            ("sori-pi_0.2.0-1_arm64.deb", 10),
            ("sori-pi_0.1.0-1_arm64.deb", 20),
            ("sori-pi_0.3.0-1_armhf.deb", 0),
            ("other_0.4.0-1_arm64.deb", 0),
        ] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            let age = std::time::Duration::from_secs(age_s);
            file.set_modified(std::time::SystemTime::now() - age)
                .unwrap();
        }
        let newest = newest_deb(folder.path(), Architecture::Arm64).unwrap();
        assert_eq!(newest, folder.path().join("sori-pi_0.2.0-1_arm64.deb"));
    }

    #[test]
    fn a_package_for_another_system_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let deb = folder.path().join("sori-pi_0.1.0-1_armhf.deb");
        fs::write(&deb, "!<arch>\n").unwrap();
        assert!(read_deb(&deb, Architecture::Armhf).is_ok());
        let error = read_deb(&deb, Architecture::Arm64).unwrap_err().to_string();
        assert!(error.contains("needs sori-pi_*_arm64.deb"), "{error}");
        fs::write(&deb, "PK").unwrap();
        assert!(read_deb(&deb, Architecture::Armhf).is_err());
    }
}
