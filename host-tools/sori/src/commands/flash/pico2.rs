//! `sori flash --board pico2`: flashes the firmware to a microcontroller.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use sori_host::file;

use crate::exit::Failure;
use crate::{output, uf2};

/// probe-rs's name for the chip.
const CHIP: &str = "RP235x";
/// The file on the boot loader's drive that identifies it, and the ID there.
const INFO: &str = "INFO_UF2.TXT";
const BOARD_ID: &str = "RP2350";
/// The file's name there, which the boot loader ignores.
const FILE: &str = "sori.uf2";

/// Writes `firmware` to `to`: a drive, `probe` or a UF2 file; without it, to the only drive found.
pub(super) fn run(firmware: &Path, to: Option<PathBuf>) -> Result<()> {
    let elf = match file::read(firmware, file::MAX_DATA) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::Usage(format!(
                "no firmware at {}: build it with cargo build --release in firmware/pico2, or name it with --firmware",
                firmware.display()
            ))
            .into());
        }
        read => read.with_context(|| format!("cannot read {}", firmware.display()))?,
    };
    // A probe also needs a program for this board.
    let uf2 = uf2::from_elf(&elf, uf2::RP2350_ARM_S)
        .with_context(|| format!("cannot flash {}", firmware.display()))?;
    match to {
        Some(to) if to == Path::new("probe") => probe(firmware),
        Some(file) if file.extension() == Some("uf2".as_ref()) => write(&file, &uf2),
        Some(drive) => copy(&check(drive)?, &uf2),
        None => copy(&only(find(mounted()))?, &uf2),
    }
}

/// Writes a file for a board elsewhere.
fn write(file: &Path, uf2: &[u8]) -> Result<()> {
    output::write_atomically(file, uf2)?;
    output::line(&format!(
        "wrote {} bytes of UF2 to {}: copy it to the board's drive",
        uf2.len(),
        file.display()
    ))
}

/// Writes the file to the board's drive, which disappears as soon as it has all of it.
fn copy(drive: &Path, uf2: &[u8]) -> Result<()> {
    let path = drive.join(FILE);
    let mut file =
        fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(uf2).with_context(|| {
        format!(
            "{} was not written completely: hold BOOTSEL, plug the board in again, and retry",
            path.display()
        )
    })?;
    // The board may restart before it confirms the last bytes.
    let _ = file.sync_all();
    output::line(&format!(
        "wrote {} bytes of UF2 to {}; the board is starting",
        uf2.len(),
        path.display()
    ))
}

/// Says why a folder is not the drive of an RP2350.
fn check(drive: PathBuf) -> Result<PathBuf> {
    let path = drive.join(INFO);
    let Ok(info) = fs::read(&path) else {
        return Err(Failure::NoDevice(format!(
            "{} is not a board's drive, for it has no {INFO}: hold BOOTSEL while you plug the board in",
            drive.display()
        ))
        .into());
    };
    match board_id(&String::from_utf8_lossy(&info)) {
        Some(id) if id.starts_with(BOARD_ID) => Ok(drive),
        id => Err(Failure::NoDevice(format!(
            "{} is the drive of {}, not of a Pico 2 ({BOARD_ID})",
            drive.display(),
            id.unwrap_or("another board")
        ))
        .into()),
    }
}

fn board_id(info: &str) -> Option<&str> {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let mut ids = lines.filter(|(key, _)| key.trim() == "Board-ID");
    ids.next().map(|(_, id)| id.trim())
}

/// The folders that are drives of an RP2350.
fn find(folders: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    folders
        .into_iter()
        .filter_map(|folder| check(folder).ok())
        .collect()
}

fn only(mut drives: Vec<PathBuf>) -> Result<PathBuf> {
    match (drives.pop(), drives.as_slice()) {
        (Some(drive), []) => Ok(drive),
        (Some(last), others) => {
            let names: Vec<_> = others.iter().chain([&last]).map(|d| d.display().to_string()).collect();
            Err(Failure::Usage(format!("more than one board: name one of {}", names.join(", "))).into())
        }
        (None, _) => Err(Failure::NoDevice(
            "no Pico 2 in its boot loader: hold BOOTSEL while you plug it in, and mount the drive RP2350 if that does not happen automatically".to_owned(),
        )
        .into()),
    }
}

/// Where this system mounts drives.
fn mounted() -> Vec<PathBuf> {
    if let Ok(mounts) = fs::read_to_string("/proc/self/mounts") {
        return mount_points(&mounts);
    }
    if cfg!(windows) {
        return ('D'..='Z')
            .map(|letter| format!("{letter}:\\").into())
            .collect();
    }
    let volumes = fs::read_dir("/Volumes").into_iter().flatten();
    volumes.flatten().map(|volume| volume.path()).collect()
}

/// FAT drives in Linux's mount table, whose second column writes a space as `\040`.
fn mount_points(mounts: &str) -> Vec<PathBuf> {
    let mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    mounts
        .filter_map(|columns| match columns[..] {
            [_, folder, "vfat" | "msdos" | "fuseblk", ..] => {
                Some(folder.replace("\\040", " ").into())
            }
            _ => None,
        })
        .collect()
}

fn probe(firmware: &Path) -> Result<()> {
    for arguments in [
        &["download", "--chip", CHIP, "--binary-format", "elf"][..],
        &["reset", "--chip", CHIP],
    ] {
        let mut command = Command::new(probe_rs());
        command.args(arguments);
        if arguments[0] == "download" {
            command.arg(firmware);
        }
        match command.status() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "probe-rs is not installed: see https://probe.rs, or hold BOOTSEL while you plug the board in and omit `probe`"
            ),
            status => {
                let status = status.context("probe-rs did not start")?;
                if !status.success() {
                    bail!("probe-rs {} failed: see its message above", arguments[0]);
                }
            }
        }
    }
    output::line("the board is starting")
}

/// `PROBE_RS` overrides it.
fn probe_rs() -> std::ffi::OsString {
    env::var_os("PROBE_RS").unwrap_or_else(|| "probe-rs".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an RP2350's boot ROM writes it.
    const RP2350: &str =
        "UF2 Bootloader v1.0\r\nModel: Raspberry Pi RP2350\r\nBoard-ID: RP2350\r\n";
    const RP2040: &str = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n";

    fn drive(info: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(INFO), info).unwrap();
        fs::write(folder.path().join("INDEX.HTM"), "<html>").unwrap();
        folder
    }

    #[test]
    fn the_drive_of_an_rp2350_is_found_among_others() {
        let (ours, older, stick) = (drive(RP2350), drive(RP2040), tempfile::tempdir().unwrap());
        let folders = [&older, &stick, &ours].map(|folder| folder.path().to_owned());
        assert_eq!(find(folders), [ours.path()]);
        let error = check(older.path().to_owned()).unwrap_err().to_string();
        assert!(
            error.contains("the drive of RPI-RP2, not of a Pico 2"),
            "{error}"
        );
        let error = check(stick.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("no INFO_UF2.TXT"), "{error}");
    }

    #[test]
    fn no_board_and_two_boards_are_told_apart() {
        let (a, b) = (PathBuf::from("/a"), PathBuf::from("/b"));
        assert_eq!(only(vec![a.clone()]).unwrap(), a);
        let none = only(vec![]).unwrap_err().to_string();
        assert!(none.contains("hold BOOTSEL"), "{none}");
        let two = only(vec![a, b]).unwrap_err().to_string();
        assert!(two.contains("/a, /b"), "{two}");
    }

    #[test]
    fn mount_points_are_those_of_fat_drives() {
        let mounts = "proc /proc proc rw 0 0\n\
            /dev/sda1 /media/a\\040b/RP2350 vfat rw,nosuid 0 0\n\
            /dev/sdb2 / ext4 rw 0 0\n\n";
        assert_eq!(mount_points(mounts), [Path::new("/media/a b/RP2350")]);
    }

    #[test]
    fn a_copy_is_the_whole_file() {
        let drive = drive(RP2350);
        copy(drive.path(), &[1, 2, 3]).unwrap();
        assert_eq!(fs::read(drive.path().join(FILE)).unwrap(), [1, 2, 3]);
    }
}
