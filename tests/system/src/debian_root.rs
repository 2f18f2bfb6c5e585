//! A Debian of the Raspberry Pi's processor in a folder, whose programs run under QEMU as if
//! they were this machine's.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::tools;

/// What Raspberry Pi OS was made of when it began to need glibc 2.36.
const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";

/// What a system has beside the smallest one, and where that is from.
pub(crate) struct System {
    name: &'static str,
    components: &'static str,
    packages: &'static str,
}

/// What a service and a microphone need.
pub(crate) const SERVICE: System = System {
    name: "arm64",
    components: "main",
    packages: "systemd,udev,libasound2,passwd",
};

/// What a card starts with: the kernel, the Pi's own firmware, a network.
pub(crate) const APPLIANCE: System = System {
    name: "arm64-appliance",
    components: "main,non-free-firmware",
    packages: "systemd,systemd-sysv,systemd-timesyncd,systemd-resolved,dbus,udev,kmod,libasound2,\
               e2fsprogs,initramfs-tools,zstd,linux-image-arm64,raspi-firmware,\
               firmware-brcm80211,wpasupplicant,openssh-server",
};

/// Kept between runs: it takes minutes.
const KEPT: &str = "target/debian";

/// A copy of the system, for one test; gone with this.
pub(crate) struct DebianRoot {
    folder: PathBuf,
    /// As long as it is there, the kernel knows whom to start.
    _emulator: Emulator,
}

/// Said before anything else is done.
pub(crate) fn require_root() -> anyhow::Result<()> {
    ensure!(
        tools::is_root(),
        "a Debian in a folder needs root for chroot and binfmt_misc: sudo -E env \"PATH=$PATH\" cargo xtask …"
    );
    Ok(())
}

impl DebianRoot {
    /// A fresh copy of a system, called `name`.
    pub(crate) fn of(system: &System, name: &str) -> anyhow::Result<Self> {
        require_root()?;
        let emulator = Emulator::register()?;
        let original = original(system)?;
        let folder = fs::canonicalize(KEPT)?.join(name);
        remove(&folder)?;
        let mut copy = Command::new("cp");
        tools::captured(
            copy.args(["-a", "--reflink=auto"])
                .arg(&original)
                .arg(&folder),
        )?;
        Ok(Self {
            folder,
            _emulator: emulator,
        })
    }

    /// A path in it, as seen from outside; absolute paths count from its root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    /// A program in it: with processes and mounts of its own, which end with it.
    pub(crate) fn command(&self, program: &str) -> Command {
        inside(&self.folder, program)
    }
}

impl Drop for DebianRoot {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            eprintln!("{error:#}");
        }
    }
}

fn inside(root: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(format!("--root={}", root.display()))
        .args(["--wd=/", "--"])
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// The system that the copies are of; made once.
fn original(system: &System) -> anyhow::Result<PathBuf> {
    let done = Path::new(KEPT).join(system.name);
    if done.exists() {
        return Ok(done);
    }
    tools::require("debootstrap", "debootstrap")?;
    println!(
        "   creating a Debian {SUITE} for arm64 in {} (minutes, once)",
        done.display()
    );
    fs::create_dir_all(KEPT)?;
    let begun = fs::canonicalize(KEPT)?.join(format!("{}.begun", system.name));
    remove(&begun)?;
    let mut first = Command::new("debootstrap");
    first
        .args(["--arch=arm64", "--foreign", "--variant=minbase"])
        .arg(format!("--components={}", system.components))
        .arg(format!("--include={}", system.packages))
        .arg(SUITE)
        .arg(&begun)
        .arg(MIRROR);
    tools::captured(&mut first)?;
    // In a container debootstrap links it to the host's, which would not be this system's.
    let processes = begun.join("proc");
    if processes.is_symlink() {
        fs::remove_file(&processes)?;
        fs::create_dir(&processes)?;
    }
    // The Pi's firmware insists on a mounted boot partition while it is installed.
    fs::create_dir_all(begun.join("boot/firmware"))?;
    let mut second = inside(&begun, "sh");
    second.args([
        "-c",
        "mount -t tmpfs boot /boot/firmware && exec /debootstrap/debootstrap --second-stage",
    ]);
    // The kernel's package would make an initial file system with every module there is: half
    // an hour, emulated, and not the one that the appliance starts with.
    second.env("INITRD", "No");
    tools::captured(&mut second)?;
    // Hundreds of megabytes that no test reads, and each would copy.
    remove(&begun.join("var/cache/apt/archives"))?;
    fs::rename(&begun, &done)?;
    Ok(done)
}

/// The kernel's entry that starts QEMU for each aarch64 program.
struct Emulator {
    entry: PathBuf,
}

const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// An ELF file for aarch64, and which of its first bits count.
const MAGIC: &str =
    r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
const MASK: &str =
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

impl Emulator {
    fn register() -> anyhow::Result<Self> {
        let qemu = fs::canonicalize(static_qemu()?)?;
        if !Path::new(BINFMT).join("register").exists() {
            let mut mount = Command::new("mount");
            tools::captured(mount.args(["-t", "binfmt_misc", "binfmt_misc", BINFMT]))
                .context("the kernel has no binfmt_misc, or this container may not mount it")?;
        }
        // Beside what the system may have, and before it: the newest entry is asked first.
        let name = format!("sori-{}", std::process::id());
        // F opens the emulator now, so that it is found from within any root.
        let line = format!(":{name}:M::{MAGIC}:{MASK}:{}:F", qemu.display());
        let register = Path::new(BINFMT).join("register");
        fs::OpenOptions::new()
            .write(true)
            .open(&register)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| register.display().to_string())?;
        Ok(Self {
            entry: Path::new(BINFMT).join(name),
        })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.entry, "-1") {
            eprintln!("cannot remove {}: {error}", self.entry.display());
        }
    }
}

/// One that needs no library, which it would look for in the other root. Debian's package of it
/// cannot stand beside `qemu-user`, so it is only unpacked.
fn static_qemu() -> anyhow::Result<PathBuf> {
    let installed = Path::new("/usr/bin/qemu-aarch64-static");
    let unpacked = Path::new("target/tools/qemu-user-static");
    let program = unpacked.join("usr/bin/qemu-aarch64-static");
    if installed.exists() {
        return Ok(installed.into());
    }
    if program.exists() {
        return Ok(program);
    }
    remove(unpacked)?;
    fs::create_dir_all(unpacked)?;
    let mut download = Command::new("apt-get");
    download.args(["-qq", "download", "qemu-user-static"]);
    tools::captured(download.current_dir(unpacked))?;
    let package = fs::read_dir(unpacked)?
        .next()
        .context("apt-get downloaded nothing")??;
    let mut unpack = Command::new("dpkg-deb");
    tools::captured(unpack.arg("-x").arg(package.path()).arg(unpacked))?;
    ensure!(
        program.exists(),
        "qemu-user-static contains no {}",
        program.display()
    );
    Ok(program)
}
