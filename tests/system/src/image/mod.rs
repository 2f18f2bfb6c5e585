//! `cargo xtask image`: a card that starts listening, and whose power may go at any time.
//!
//! Three partitions: the boot partition, which any computer can write; the system, which is
//! never written; and the data. `firmware/appliance` has what is put into them.

mod deployed;
mod disk;
mod hardware;
mod machine;
mod power_cuts;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::debian_root::{self, APPLIANCE, DebianRoot};
use crate::dist::{self, ARM64};
use crate::steps::Steps;
use crate::tools;

const PARTS: &str = "firmware/appliance";
const OUT: &str = "target/image";
const IMAGE: &str = "target/image/sori-appliance-arm64.img";

const MEBIBYTE: u64 = 1 << 20;

/// A partition, in the order of the card.
struct Partition {
    name: &'static str,
    /// As in the partition table of a PC.
    kind: &'static str,
    start: u64,
    bytes: u64,
}

const BOOT: Partition = Partition {
    name: "boot",
    kind: "c",
    start: 4 * MEBIBYTE,
    bytes: 256 * MEBIBYTE,
};
const SYSTEM: Partition = Partition {
    name: "system",
    kind: "83",
    start: BOOT.start + BOOT.bytes,
    bytes: 1024 * MEBIBYTE,
};
const DATA: Partition = Partition {
    name: "data",
    kind: "83",
    start: SYSTEM.start + SYSTEM.bytes,
    bytes: 512 * MEBIBYTE,
};

impl Partition {
    fn file(&self) -> PathBuf {
        Path::new(OUT).join(format!("{}.part", self.name))
    }
}

/// Makes the image, and with an argument tries it in QEMU.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let trials: &[Trial] = match arguments {
        [] => &[],
        [cuts] if cuts == "--power-cuts" => &[power_cuts],
        [deploy] if deploy == "--deploy" => &[deployed],
        _ => bail!(
            "image takes no arguments, --power-cuts or --deploy, not: {}",
            arguments.join(" ")
        ),
    };
    let mut steps = Steps::default();
    try_it(&mut steps, trials)?;
    steps.summary();
    println!("\n{IMAGE}: write it to a card, and continue as in {PARTS}/README.md.");
    Ok(())
}

/// As a part of `endurance`.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    try_it(steps, &[power_cuts, deployed])
}

/// Takes Sori's package, too.
type Trial = fn(&mut Steps, &Path) -> anyhow::Result<()>;

fn try_it(steps: &mut Steps, trials: &[Trial]) -> anyhow::Result<()> {
    let package = build(steps)?;
    trials.iter().try_for_each(|trial| trial(steps, &package))
}

fn power_cuts(_: &mut Steps, _: &Path) -> anyhow::Result<()> {
    power_cuts::check(Path::new(IMAGE))
}

fn deployed(steps: &mut Steps, package: &Path) -> anyhow::Result<()> {
    deployed::check(steps, Path::new(IMAGE), package)
}

/// The image, and the path of Sori's package in it.
fn build(steps: &mut Steps) -> anyhow::Result<PathBuf> {
    debian_root::require_root()?;
    for (program, package) in [
        ("dtc", "device-tree-compiler"),
        ("mcopy", "mtools"),
        ("mkfs.vfat", "dosfstools"),
        ("mke2fs", "e2fsprogs"),
        ("sfdisk", "fdisk"),
    ] {
        tools::require_quiet(program, package)?;
    }
    let package = dist::package(steps, &ARM64)?;
    println!("\n── the appliance image");
    fs::create_dir_all(OUT)?;
    let root = DebianRoot::of(&APPLIANCE, "appliance")?;
    install(&root, &package)?;
    let boot = boot_files(&root)?;
    prune(&root)?;
    fat(&boot)?;
    ext4(&SYSTEM, "sori-root", &root.path("/"), &["^has_journal"])?;
    ext4(&DATA, "sori-data", &data_files(&root)?, &[])?;
    assemble()?;
    Ok(package)
}

/// Sori, its settings, and an initial file system that finds the card.
fn install(root: &DebianRoot, package: &Path) -> anyhow::Result<()> {
    let to = root.path("/root/sori-pi.deb");
    fs::copy(package, &to).with_context(|| to.display().to_string())?;
    tools::captured(
        root.command("dpkg")
            .args(["--install", "/root/sori-pi.deb"]),
    )?;
    fs::remove_file(to)?;
    let mut copy = Command::new("cp");
    tools::captured(
        copy.args(["-r", "--no-preserve=ownership"])
            .arg(format!("{PARTS}/root/."))
            .arg(root.path("/")),
    )?;
    for (link, target) in LINKS {
        let link = root.path(link);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        fs::create_dir_all(link.parent().context("a link is in a folder")?)?;
        std::os::unix::fs::symlink(target, &link).with_context(|| link.display().to_string())?;
    }
    for folder in [
        "/data",
        "/boot/firmware",
        "/var/lib/sori-deploy",
        "/root/.cache",
    ] {
        fs::create_dir_all(root.path(folder))?;
    }
    let units = [
        "systemd-networkd.service",
        "systemd-resolved.service",
        "systemd-timesyncd.service",
        "ssh.service",
        "sori-pi.service",
    ];
    tools::captured(root.command("systemctl").arg("enable").args(units))?;
    tools::captured(root.command("systemctl").arg("mask").args(NOT_HERE))?;
    let kernel = only(&root.path("/boot"), "vmlinuz-")?;
    let kernel = kernel.file_name().context("a file has a name")?;
    let kernel = kernel.to_string_lossy();
    let version = kernel.trim_start_matches("vmlinuz-");
    let initrd = format!("/boot/initrd.img-{version}");
    tools::captured(root.command("mkinitramfs").args(["-o", &initrd, version]))?;
    Ok(())
}

/// What is elsewhere: on the boot partition, or known when it has started only.
const LINKS: [(&str, &str); 3] = [
    ("/etc/sori-pi/sori-pi.toml", "/boot/firmware/sori-pi.toml"),
    (
        "/etc/wpa_supplicant/wpa_supplicant-wlan0.conf",
        "/boot/firmware/wpa_supplicant.conf",
    ),
    ("/etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
];

/// Services of a system that changes.
const NOT_HERE: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "systemd-remount-fs.service",
    "wpa_supplicant.service",
];

/// A folder with what the Pi's firmware, and a person with a card reader, look for.
fn boot_files(root: &DebianRoot) -> anyhow::Result<PathBuf> {
    let boot = Path::new(OUT).join("boot");
    tools::emptied(&boot)?;
    let put = |from: &Path, name: &str| -> anyhow::Result<()> {
        fs::copy(from, boot.join(name)).with_context(|| from.display().to_string())?;
        Ok(())
    };
    for file in ["config.txt", "cmdline.txt"] {
        put(&Path::new(PARTS).join("boot").join(file), file)?;
    }
    put(Path::new("firmware/pi/sori-pi.toml"), "sori-pi.toml")?;
    put(&only(&root.path("/boot"), "vmlinuz-")?, "vmlinuz")?;
    put(&only(&root.path("/boot"), "initrd.img-")?, "initrd.img")?;
    for entry in fs::read_dir(root.path("/usr/lib/raspi-firmware"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            put(&entry.path(), &entry.file_name().to_string_lossy())?;
        }
    }
    let trees = only(&root.path("/usr/lib"), "linux-image-")?.join("broadcom");
    for entry in fs::read_dir(&trees).with_context(|| trees.display().to_string())? {
        let tree = entry?.path();
        let name = tree.file_name().context("a file has a name")?;
        with_microphone(&tree, &boot.join(name))?;
    }
    Ok(boot)
}

/// A board's device tree, and the microphone on its I2S pins.
fn with_microphone(tree: &Path, to: &Path) -> anyhow::Result<()> {
    let mut decompile = Command::new("dtc");
    let source = tools::captured(decompile.args(["-q", "-I", "dtb", "-O", "dts"]).arg(tree))?;
    let microphone = fs::read(Path::new(PARTS).join("i2s-microphone.dtsi"))?;
    let mut compile = Command::new("dtc");
    compile.args(["-q", "-I", "dts", "-O", "dtb", "-o"]).arg(to);
    let mut compiler = compile.stdin(Stdio::piped()).spawn()?;
    let mut input = compiler.stdin.take().context("its input is a pipe")?;
    input.write_all(&source.stdout)?;
    input.write_all(&microphone)?;
    drop(input);
    ensure!(
        compiler.wait()?.success(),
        "{} rejects the microphone",
        tree.display()
    );
    Ok(())
}

/// The only entry whose name begins so.
fn only(folder: &Path, beginning: &str) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(beginning) {
            found.push(entry.path());
        }
    }
    ensure!(
        found.len() == 1,
        "expected one {beginning}… in {}, found {}",
        folder.display(),
        found.len()
    );
    Ok(found.remove(0))
}

/// What a listening Pi does not read.
const PRUNED: [&str; 8] = [
    "/boot",
    "/usr/lib/raspi-firmware",
    "/usr/share/doc",
    "/usr/share/locale",
    "/usr/share/man",
    "/var/cache/apt",
    "/var/lib/apt/lists",
    "/var/log",
];

/// The system without all that, and without keys above all: each Pi makes its own.
fn prune(root: &DebianRoot) -> anyhow::Result<()> {
    for folder in PRUNED {
        tools::emptied(&root.path(folder))?;
    }
    fs::create_dir_all(root.path("/boot/firmware"))?;
    for entry in fs::read_dir(root.path("/etc/ssh"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path())?;
        }
    }
    // Empty: a new one at each start, in memory. Missing would be a first start each time.
    fs::write(root.path("/etc/machine-id"), "")?;
    Ok(())
}

/// The data partition's first content.
fn data_files(root: &DebianRoot) -> anyhow::Result<PathBuf> {
    let data = root.path("/root/data");
    for folder in ["systemd", "sori-deploy"] {
        fs::create_dir_all(data.join(folder))?;
    }
    let mut copy = Command::new("cp");
    tools::captured(
        copy.arg("-a")
            .arg(root.path("/var/lib/sori-pi"))
            .arg(data.join("sori-pi")),
    )?;
    let mut copy = Command::new("cp");
    tools::captured(
        copy.arg("-aT")
            .arg(root.path("/var/lib/systemd"))
            .arg(data.join("systemd")),
    )?;
    Ok(data)
}

fn blank(partition: &Partition) -> anyhow::Result<PathBuf> {
    let path = partition.file();
    File::create(&path)?.set_len(partition.bytes)?;
    Ok(path)
}

fn fat(files: &Path) -> anyhow::Result<()> {
    let path = blank(&BOOT)?;
    let mut make = Command::new("mkfs.vfat");
    tools::captured(make.args(["-F", "32", "-n", "SORI-BOOT"]).arg(&path))?;
    let mut copy = Command::new("mcopy");
    copy.args(["-s", "-i"]).arg(&path);
    for entry in fs::read_dir(files)? {
        copy.arg(entry?.path());
    }
    tools::captured(copy.arg("::/"))?;
    Ok(())
}

fn ext4(partition: &Partition, label: &str, files: &Path, features: &[&str]) -> anyhow::Result<()> {
    let path = blank(partition)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-m", "1", "-L", label]);
    for feature in features {
        make.args(["-O", feature]);
    }
    tools::captured(make.arg("-d").arg(files).arg(&path))?;
    Ok(())
}

/// Partition table and partitions into one file, with holes where nothing is.
fn assemble() -> anyhow::Result<()> {
    let mut image = File::create(IMAGE).context(IMAGE)?;
    image.set_len(DATA.start + DATA.bytes)?;
    let mut table = Command::new("sfdisk");
    let mut sfdisk = table
        .args(["--quiet", IMAGE])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut script = String::from("label: dos\nunit: sectors\n");
    for partition in [&BOOT, &SYSTEM, &DATA] {
        script += &format!(
            "start={}, size={}, type={}\n",
            partition.start / 512,
            partition.bytes / 512,
            partition.kind
        );
    }
    let mut input = sfdisk.stdin.take().context("its input is a pipe")?;
    input.write_all(script.as_bytes())?;
    drop(input);
    ensure!(sfdisk.wait()?.success(), "no partition table");
    for partition in [&BOOT, &SYSTEM, &DATA] {
        let path = partition.file();
        image.seek(SeekFrom::Start(partition.start))?;
        copy_with_holes(&mut File::open(&path)?, &mut image)?;
        fs::remove_file(path)?;
    }
    OpenOptions::new().write(true).open(IMAGE)?.sync_all()?;
    Ok(())
}

/// Blocks of nothing but zeros are skipped: there are zeros already.
fn copy_with_holes(from: &mut File, to: &mut File) -> io::Result<()> {
    use std::io::Read as _;

    let mut block = vec![0; MEBIBYTE as usize];
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match from.read(&mut block[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        if block[..filled].iter().all(|&byte| byte == 0) {
            to.seek(SeekFrom::Current(filled as i64))?;
        } else {
            to.write_all(&block[..filled])?;
        }
    }
}
