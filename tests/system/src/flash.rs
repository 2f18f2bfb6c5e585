//! `sori flash` held against tools that share no code with it: images made by sfdisk, mkfs.vfat and
//! mtools, looked at by them, fsck and the kernel; and what it writes read by those that the Pi
//! will read it with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};

use xtask::sori::{self, SORI};

use crate::steps::Steps;
use crate::tools;

/// Everything of it, made anew each time.
const WORK: &str = "target/flash";

const MIB: usize = 1 << 20;
const BOOT_START: usize = 8 * MIB;
/// FAT32 needs 65 525 clusters, which are a sector here.
const BOOT_LEN: usize = 36 * MIB;
const ROOT_LEN: usize = 2 * MIB;
/// A name that a shell, YAML and a key file each have to quote.
const SSID: &str = "it's \"caf\u{e9}\": #1";
/// Of the passphrase `password` there, as wpa_passphrase prints it.
const PASSWORD: &str = "password";

const CONFIG: &str = "dtparam=audio=on\r\n\r\n[cm5]\r\ndtoverlay=dwc2,dr_mode=host\r\n";

/// What needs neither root nor a device: part of `ci`.
pub(crate) fn check() -> anyhow::Result<()> {
    sori::build(&mut Steps::default())?;
    println!("\n── sori flash against mkfs.vfat, mtools, fsck and xz");
    tools::require_quiet("sfdisk", "fdisk")?;
    tools::require_quiet("mkfs.vfat", "dosfstools")?;
    tools::require("mtools", "mtools")?;
    tools::require("xz", "xz-utils")?;
    for mechanism in [TRIXIE, BOOKWORM] {
        mechanism.check().with_context(|| mechanism.name)?;
        println!("   {}: correct", mechanism.name);
    }
    Ok(())
}

/// A release of Raspberry Pi OS, by what it sets itself up with.
#[derive(Clone, Copy)]
struct Mechanism {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// Which of them, or of new ones, are to change.
    changed: &'static [&'static str],
}

const TRIXIE: Mechanism = Mechanism {
    name: "trixie",
    files: &[
        ("issue.txt", "Raspberry Pi reference 2025-10-01\n"),
        (
            "cmdline.txt",
            "console=tty1 root=PARTUUID=8a1b2c3d-02 rootwait resize\n",
        ),
        ("meta-data", "dsmode: local\ninstance_id: rpios-image\n"),
        (
            "user-data",
            "#cloud-config\n#hostname: raspberrypi\nssh_pwauth: false\n",
        ),
        ("network-config", "# network:\n"),
    ],
    changed: &["cmdline.txt", "config.txt", "network-config", "user-data"],
};

const BOOKWORM: Mechanism = Mechanism {
    name: "bookworm",
    files: &[
        ("issue.txt", "Raspberry Pi reference 2025-05-13\n"),
        (
            "cmdline.txt",
            "console=tty1 root=PARTUUID=8a1b2c3d-02 rootwait quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
        ),
    ],
    changed: &["cmdline.txt", "config.txt", "firstrun.sh"],
};

impl Mechanism {
    fn at(self, file: &str) -> PathBuf {
        Path::new(WORK).join(self.name).join(file)
    }

    fn check(self) -> anyhow::Result<()> {
        self.make()?;
        let before = fs::read(self.at("raspios.img"))?;
        let out = self.at("sori.img");
        succeed(self.sori("raspios.img").arg("--out").arg(&out))?;
        let after = fs::read(&out)?;
        self.compare(&before, &after)?;

        // Packed it is the same image, and one that broke off is none.
        let mut xz = Command::new("xz");
        succeed(xz.args(["--keep", "-1"]).arg(self.at("raspios.img")))?;
        let unpacked = self.at("unpacked.img");
        succeed(self.sori("raspios.img.xz").arg("--out").arg(&unpacked))?;
        ensure!(fs::read(&unpacked)? == after, "compressed and plain differ");
        let packed = fs::read(self.at("raspios.img.xz"))?;
        fs::write(self.at("broken.img.xz"), &packed[..packed.len() - 100_000])?;
        let broken = self.at("broken.img");
        fail(
            self.sori("broken.img.xz").arg("--out").arg(&broken),
            1,
            "ends too early",
        )?;
        ensure!(!broken.exists(), "a broken image was prepared");
        ensure!(
            fs::read(self.at("raspios.img"))? == before,
            "the image itself changed"
        );
        Ok(())
    }

    /// The image, by other tools than `sori` uses.
    fn make(self) -> anyhow::Result<()> {
        let folder = Path::new(WORK).join(self.name);
        tools::emptied(&folder)?;
        let tree = folder.join("before");
        fs::create_dir_all(tree.join("overlays"))?;
        for &(path, text) in self.files {
            fs::write(tree.join(path), text)?;
        }
        fs::write(tree.join("config.txt"), CONFIG)?;
        fs::write(tree.join("kernel8.img"), noise(1, 5 * MIB))?;
        fs::write(
            tree.join("overlays/a long name that is no 8.3 one.dtbo"),
            noise(2, 700),
        )?;
        fs::write(
            folder.join("sori-pi_0.1.0-1_arm64.deb"),
            [&b"!<arch>\n"[..], &noise(3, MIB)].concat(),
        )?;
        fs::write(folder.join("id.pub"), "ssh-ed25519 AAAAC3Nza ada@laptop\n")?;

        let fat = folder.join("boot.fat");
        let mut mkfs = Command::new("mkfs.vfat");
        mkfs.args(["-C", "-F", "32", "-s", "1", "-n", "bootfs"])
            .arg(&fat);
        succeed(with_sbin(&mut mkfs).arg((BOOT_LEN / 1024).to_string()))?;
        let mut mcopy = Command::new("mcopy");
        mcopy.args(["-s", "-i"]).arg(&fat);
        for entry in fs::read_dir(&tree)? {
            mcopy.arg(entry?.path());
        }
        succeed(mcopy.arg("::"))?;
        let image = [vec![0; BOOT_START], fs::read(&fat)?, noise(4, ROOT_LEN)].concat();
        fs::write(folder.join("raspios.img"), image)?;
        let table = folder.join("table");
        let sectors = [BOOT_START, BOOT_LEN, ROOT_LEN].map(|bytes| bytes / 512);
        fs::write(
            &table,
            format!(
                "label: dos\nlabel-id: 0x8a1b2c3d\nstart={}, size={}, type=c\nstart={}, size={}, type=83\n",
                sectors[0],
                sectors[1],
                sectors[0] + sectors[1],
                sectors[2]
            ),
        )?;
        let mut sfdisk = Command::new("sfdisk");
        sfdisk
            .arg("--quiet")
            .arg(folder.join("raspios.img"))
            .stdin(File::open(table)?);
        succeed(with_sbin(&mut sfdisk))?;
        Ok(())
    }

    /// `sori flash` of one of the folder's images, with everything that can be told.
    fn sori(self, image: &str) -> Command {
        let mut sori = Command::new(SORI);
        sori.arg("flash")
            .arg(self.at(image))
            .arg("--deb")
            .arg(self.at("sori-pi_0.1.0-1_arm64.deb"))
            .arg("--ssh-key")
            .arg(self.at("id.pub"))
            .args(["--wifi", SSID, "--country", "DE"])
            .env("SORI_WIFI_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
        sori
    }

    /// As mtools and fsck see it.
    fn compare(self, before: &[u8], after: &[u8]) -> anyhow::Result<()> {
        ensure!(before.len() == after.len(), "its length changed");
        ensure!(
            before[..BOOT_START] == after[..BOOT_START],
            "bytes before the boot partition changed"
        );
        let end = BOOT_START + BOOT_LEN;
        ensure!(
            before[end..] == after[end..],
            "bytes after the boot partition changed"
        );
        let fat = self.at("after.fat");
        fs::write(&fat, &after[BOOT_START..end])?;
        let mut fsck = Command::new("fsck.vfat");
        succeed(with_sbin(fsck.arg("-n")).arg(&fat))?;
        let tree = self.at("after");
        fs::create_dir_all(&tree)?;
        succeed(
            Command::new("mcopy")
                .args(["-s", "-n", "-i"])
                .arg(&fat)
                .arg("::")
                .arg(&tree),
        )?;
        self.compare_files(&tree)
    }

    fn compare_files(self, tree: &Path) -> anyhow::Result<()> {
        let (before, mut after) = (files(&self.at("before"))?, files(tree)?);
        let text = |path: &str| -> anyhow::Result<String> {
            let bytes = after
                .get(Path::new(path))
                .with_context(|| format!("{path} is missing"))?;
            Ok(String::from_utf8(bytes.clone())?)
        };
        let config = text("config.txt")?;
        let overlay = "[all]\r\ndtoverlay=googlevoicehat-soundcard\r\n";
        ensure!(
            config == format!("{CONFIG}{overlay}"),
            "config.txt: {config}"
        );
        ensure!(
            text("cmdline.txt")?.lines().count() == 1,
            "cmdline.txt is not a single line"
        );
        let deb = "sori-pi_0.1.0-1_arm64.deb";
        let carried = after
            .get(Path::new(deb))
            .context("the package is missing")?;
        ensure!(
            *carried == fs::read(self.at("sori-pi_0.1.0-1_arm64.deb"))?,
            "the package differs"
        );
        // fusefat shows the volume's label as a file.
        after.remove(Path::new("bootfs"));
        after.retain(|path, _| !path.to_string_lossy().starts_with("sori-"));
        let changed: Vec<&Path> = after
            .iter()
            .filter(|(path, bytes)| before.get(*path) != Some(bytes))
            .map(|(path, _)| path.as_path())
            .collect();
        ensure!(
            changed == self.changed.iter().map(Path::new).collect::<Vec<_>>(),
            "changed: {changed:?}"
        );
        ensure!(
            before.keys().all(|path| after.contains_key(path)),
            "a file is gone"
        );
        Ok(())
    }
}

/// What needs root: part of `endurance`.
pub(crate) fn on_devices() -> anyhow::Result<()> {
    check()?;
    println!("\n── sori flash on loop devices\n   cargo xtask flash --devices");
    let may = Path::new("/dev/loop-control").exists() && tools::is_root();
    ensure!(
        may,
        "loop devices need root and a kernel that has them: sudo modprobe loop, then rerun as root"
    );
    tools::require_quiet("fusefat", "fusefat")?;
    TRIXIE.on_devices()?;
    appliance()?;
    understood()
}

/// An image with the name of Sori's own is written unchanged.
fn appliance() -> anyhow::Result<()> {
    let folder = Path::new(WORK).join("appliance");
    tools::emptied(&folder)?;
    let image = folder.join("appliance.img");
    fs::copy(TRIXIE.at("raspios.img"), &image)?;
    let mut mlabel = Command::new("mlabel");
    mlabel
        .arg("-i")
        .arg(format!("{}@@{BOOT_START}", image.display()));
    succeed(mlabel.arg("::SORI-BOOT"))?;

    let file = folder.join("card");
    let untouched = noise(9, 64 * MIB);
    fs::write(&file, &untouched)?;
    let card = Loop::new(&file)?;
    let write = || {
        let mut sori = Command::new(SORI);
        sori.arg("flash").arg(&image).arg("--yes");
        sori.arg("--to").arg(&card.0);
        sori
    };
    fail(
        write().arg("--ssh-key").arg(TRIXIE.at("id.pub")),
        2,
        "omit --ssh-key",
    )?;
    ensure!(
        fs::read(&file)? == untouched,
        "a refused command wrote to the card"
    );
    let said = succeed(&mut write())?;
    let said = String::from_utf8_lossy(&said.stdout);
    ensure!(
        said.contains("written unchanged") && said.contains("and verified it by reading back"),
        "{said}"
    );
    drop(card);
    let (written, image) = (fs::read(&file)?, fs::read(&image)?);
    ensure!(
        written[..image.len()] == image && written[image.len()..] == untouched[image.len()..],
        "the card is not the image"
    );
    println!("   the appliance: written unchanged");
    Ok(())
}

impl Mechanism {
    fn on_devices(self) -> anyhow::Result<()> {
        let expected = fs::read(self.at("sori.img"))?;
        let untouched = noise(9, 64 * MIB);
        let file = self.at("card");
        let blank = || fs::write(&file, &untouched);

        blank()?;
        {
            let card = Loop::new(&file)?;
            let write = || {
                let mut sori = self.sori("raspios.img");
                sori.arg("--to").arg(&card.0);
                sori
            };
            fail(&mut write(), 2, "Confirm with --yes")?;
            ensure!(
                fs::read(&file)? == untouched,
                "written without confirmation"
            );
            let said = succeed(write().arg("--yes"))?;
            ensure!(
                String::from_utf8_lossy(&said.stdout).contains("and verified it by reading back"),
                "nothing was read back"
            );
            println!("   written and verified");

            let boot = Loop::window(&card.0, BOOT_START, BOOT_LEN)?;
            let place = self.at("mounted");
            // Not by the kernel: not every one has FAT.
            let mounted = Mount::new("fusefat", &["-o", "ro"], &boot.0, &place)?;
            self.compare_files(&place)?;
            drop(mounted);
            println!("   mounted: every file is in place");
        }
        let written = fs::read(&file)?;
        ensure!(
            written[..expected.len()] == expected,
            "the card is not the prepared image"
        );
        ensure!(
            written[expected.len()..] == untouched[expected.len()..],
            "bytes after the image changed"
        );

        // A card with the system as it is sold.
        let mut sold = untouched.clone();
        let image = fs::read(self.at("raspios.img"))?;
        sold[..image.len()].copy_from_slice(&image);
        fs::write(&file, &sold)?;
        {
            let card = Loop::new(&file)?;
            let mut sori = self.sori("raspios.img");
            // The image's place is the second word.
            sori = replaced(sori, 1, &card.0);
            succeed(sori.arg("--yes"))?;
        }
        let written = fs::read(&file)?;
        ensure!(
            written[..expected.len()] == expected,
            "a prepared card is not the prepared image"
        );
        ensure!(
            written[expected.len()..] == untouched[expected.len()..],
            "bytes after the image changed"
        );
        println!("   a card with an existing system: prepared, the same bits");

        let short = self.at("short");
        fs::write(&short, &untouched[..40 * MIB])?;
        {
            let card = Loop::new(&short)?;
            fail(
                self.sori("raspios.img")
                    .arg("--yes")
                    .arg("--to")
                    .arg(&card.0),
                2,
                "is too small",
            )?;
        }
        ensure!(
            fs::read(&short)? == untouched[..40 * MIB],
            "a card that is too small was written to"
        );
        println!("   too small: rejected, untouched");

        self.mounted_device()?;
        self.failing_device()?;
        self.without_permission(&file)
    }

    fn mounted_device(self) -> anyhow::Result<()> {
        let file = self.at("used");
        File::create(&file)?.set_len(64 * MIB as u64)?;
        succeed(with_sbin(Command::new("mkfs.ext4").arg("-q")).arg(&file))?;
        let before = fs::read(&file)?;
        let card = Loop::new(&file)?;
        let mounted = Mount::new("mount", &["-o", "ro"], &card.0, &self.at("in use"))?;
        let mut sori = self.sori("raspios.img");
        fail(
            sori.arg("--yes").arg("--to").arg(&card.0),
            2,
            "is mounted at",
        )?;
        drop(mounted);
        drop(card);
        ensure!(
            fs::read(&file)? == before,
            "a mounted device was written to"
        );
        println!("   mounted: rejected, untouched");
        Ok(())
    }

    /// A file on a file system with less space than the file says: a card that lies about its
    /// size, whose writes fail late.
    fn failing_device(self) -> anyhow::Result<()> {
        let place = self.at("little");
        let _mounted = Mount::new(
            "mount",
            &["-t", "tmpfs", "-o", "size=20m"],
            Path::new("tmpfs"),
            &place,
        )?;
        let file = place.join("card");
        File::create(&file)?.set_len(64 * MIB as u64)?;
        let card = Loop::new(&file)?;
        fail(
            self.sori("raspios.img")
                .arg("--yes")
                .arg("--to")
                .arg(&card.0),
            1,
            "the card does not boot now",
        )?;
        let mut start = vec![0; 512];
        std::io::Read::read_exact(&mut File::open(&card.0)?, &mut start)?;
        ensure!(
            start.iter().all(|&byte| byte == 0),
            "it has a partition table"
        );
        println!(
            "   a device that fails while it is written: reported, no partition table left on it"
        );
        Ok(())
    }

    fn without_permission(self, file: &Path) -> anyhow::Result<()> {
        let card = Loop::new(file)?;
        // The way to the workspace may be closed to nobody.
        let there = std::env::temp_dir().join(format!("sori-flash-{}", std::process::id()));
        tools::emptied(&there)?;
        for (from, name) in [
            (Path::new(SORI), "sori"),
            (&self.at("raspios.img"), "raspios.img"),
            (
                &self.at("sori-pi_0.1.0-1_arm64.deb"),
                "sori-pi_0.1.0-1_arm64.deb",
            ),
        ] {
            fs::copy(from, there.join(name))?;
        }
        let mut nobody = Command::new("setpriv");
        nobody
            .args([
                "--reuid=65534",
                "--clear-groups",
                "./sori",
                "flash",
                "raspios.img",
                "--yes",
                "--deb",
                "sori-pi_0.1.0-1_arm64.deb",
                "--to",
            ])
            .arg(&card.0)
            .current_dir(&there);
        let failed = fail(&mut nobody, 1, "no permission to write");
        fs::remove_dir_all(&there)?;
        failed?;
        println!("   without permission: the message names the command");
        Ok(())
    }
}

/// cloud-init's own schema for the one file, and netplan itself for the other. The packages are
/// unpacked, not installed: cloud-init would set this machine up at its next start.
fn understood() -> anyhow::Result<()> {
    println!("\n── the files of the first boot, as cloud-init and netplan understand them");
    let folder = Path::new(WORK).join("debian");
    tools::emptied(&folder)?;
    let root = fs::canonicalize(&folder)?;
    let mut download = Command::new("apt-get");
    download
        .args(["-qq", "download", "cloud-init", "netplan.io", "libnetplan0"])
        .current_dir(&folder);
    succeed(&mut download)?;
    for file in fs::read_dir(&folder)? {
        succeed(
            Command::new("dpkg")
                .arg("-x")
                .arg(file?.path())
                .arg(root.join("root")),
        )?;
    }
    let root = root.join("root");

    tools::require_python()?;
    let python = Path::new(WORK).join("python");
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
    let python = python.join("bin/python");
    let packages = ["jsonschema==4.26.0", "PyYAML==6.0.3"];
    succeed(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(packages),
    )?;
    let schema = root
        .join("usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json");
    let validate = "import json, sys, yaml, jsonschema\n\
        jsonschema.validate(yaml.safe_load(open(sys.argv[2])), json.load(open(sys.argv[1])))";
    let user_data = TRIXIE.at("after/user-data");
    succeed(
        Command::new(&python)
            .arg("-c")
            .arg(validate)
            .arg(&schema)
            .arg(&user_data),
    )?;
    // A schema that takes everything would have taken that.
    let wrong = TRIXIE.at("wrong");
    fs::write(
        &wrong,
        fs::read_to_string(&user_data)?.replace("runcmd:\n", "runcmd: 1\nx:\n"),
    )?;
    fail(
        Command::new(&python)
            .arg("-c")
            .arg(validate)
            .arg(&schema)
            .arg(&wrong),
        1,
        "ValidationError",
    )?;
    println!("   user-data: valid");

    let plan = root.join("plan/etc/netplan");
    fs::create_dir_all(&plan)?;
    fs::copy(
        TRIXIE.at("after/network-config"),
        plan.join("50-cloud-init.yaml"),
    )?;
    // As Raspberry Pi OS has it.
    fs::write(
        plan.join("00-network-manager-all.yaml"),
        "network:\n  version: 2\n  renderer: NetworkManager\n",
    )?;
    let libraries = fs::read_dir(root.join("usr/lib"))?
        .flatten()
        .map(|entry| entry.path());
    let mut libraries = libraries.filter(|path| path.join("libnetplan.so.0.0").exists());
    let libraries = libraries.next().context("no libnetplan")?;
    let mut netplan = Command::new(root.join("usr/libexec/netplan/generate"));
    netplan
        .arg("--root-dir")
        .arg(root.join("plan"))
        .env("LD_LIBRARY_PATH", libraries);
    succeed(&mut netplan)?;
    let connections = files(&root.join("plan/run/NetworkManager/system-connections"))?;
    let wifi = connections
        .values()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .find(|text| text.contains("type=wifi"));
    let wifi = wifi.context("netplan created no connection")?;
    let psk = succeed(
        Command::new(&python)
            .arg("-c")
            .arg(PBKDF2)
            .args([PASSWORD, SSID]),
    )?;
    for line in [
        format!("ssid={SSID}"),
        format!("psk={}", String::from_utf8(psk.stdout)?.trim()),
    ] {
        ensure!(
            wifi.lines().any(|it| it == line),
            "{line} is missing:\n{wifi}"
        );
    }
    println!("   network-config: the network and its key, as NetworkManager gets them");
    Ok(())
}

const PBKDF2: &str = "import hashlib, sys\n\
    print(hashlib.pbkdf2_hmac('sha1', sys.argv[1].encode(), sys.argv[2].encode(), 4096, 32).hex())";

/// A loop device over a file, for as long as this lives.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path) -> anyhow::Result<Self> {
        let mut losetup = Command::new("losetup");
        let output = succeed(with_sbin(&mut losetup).args(["--find", "--show"]).arg(file))?;
        Ok(Self(String::from_utf8(output.stdout)?.trim().into()))
    }

    /// A part of a card as a device: partitions need udev, and a kernel that reads the table.
    fn window(card: &Path, start: usize, len: usize) -> anyhow::Result<Self> {
        let mut losetup = Command::new("losetup");
        with_sbin(&mut losetup).args(["--find", "--show", "--read-only"]);
        losetup.args([format!("--offset={start}"), format!("--sizelimit={len}")]);
        let output = succeed(losetup.arg(card))?;
        Ok(Self(String::from_utf8(output.stdout)?.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nothing better can be done here, and `losetup` says what is wrong.
        let _ = with_sbin(Command::new("losetup").arg("-d").arg(&self.0)).status();
    }
}

/// A mounted file system, for as long as this lives.
struct Mount(PathBuf);

impl Mount {
    fn new(program: &str, options: &[&str], what: &Path, place: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(place)?;
        succeed(Command::new(program).args(options).arg(what).arg(place))?;
        Ok(Self(place.into()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The same command with another word.
fn replaced(command: Command, index: usize, word: &Path) -> Command {
    let mut other = Command::new(command.get_program());
    for (at, argument) in command.get_args().enumerate() {
        other.arg(if at == index {
            word.as_os_str()
        } else {
            argument
        });
    }
    for (key, value) in command.get_envs() {
        other.env(key, value.unwrap_or_default());
    }
    other.stdin(Stdio::null());
    other
}

/// Some tools are where only root looks.
fn with_sbin(command: &mut Command) -> &mut Command {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"))
}

fn succeed(command: &mut Command) -> anyhow::Result<Output> {
    tools::captured(command)
}

/// Runs what has to fail, with this code and these words.
fn fail(command: &mut Command, code: i32, says: &str) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(code) || !error.contains(says) {
        bail!(
            "{command:?} should have failed with {code} and {says:?}: {} and {error}",
            output.status
        );
    }
    Ok(())
}

/// Every file below a folder, by its path from there, in small letters: FAT's names have no
/// case, and fusefat shows short ones in capitals.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).context("it is below")?;
                let name = PathBuf::from(name.to_string_lossy().to_lowercase());
                files.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
