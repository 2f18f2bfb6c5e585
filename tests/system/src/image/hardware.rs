//! What an emulated computer is made of that outlives its power: a card with the image on it,
//! changed where QEMU has other devices than a Pi.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{BOOT, OUT, SYSTEM};
use crate::{sound, tools};

/// Its page's port, and what it asks for.
pub(super) const PORT: u16 = 8080;
pub(super) const TOKEN: &str = "0123456789abcdef";

/// The guest finds the sound here, S32_LE, two channels, 48 kHz.
pub(super) const MICROPHONE: &str = "sori.microphone";

/// What stays the same from one start to the next.
pub(super) struct Hardware {
    pub(super) folder: PathBuf,
    pub(super) disk: PathBuf,
    /// Kernel, initial file system and command line as the boot partition has them.
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) command_line: String,
    /// What is played, over and over.
    pub(super) sound: Vec<u8>,
}

impl Hardware {
    /// A copy of the image with a microphone that QEMU can give it, and a page that it can reach.
    pub(super) fn with(image: &Path, name: &str) -> anyhow::Result<Self> {
        for (program, package) in [("qemu-system-aarch64", "qemu-system-arm"), ("curl", "curl")] {
            tools::require(program, package)?;
        }
        let folder = Path::new(OUT).join(name);
        tools::emptied(&folder)?;
        let folder = fs::canonicalize(folder)?;
        let disk = folder.join("card.img");
        let mut copy = Command::new("cp");
        tools::captured(copy.arg("--sparse=always").arg(image).arg(&disk))?;
        let command_line = fs::read_to_string("firmware/appliance/boot/cmdline.txt")?;
        let hardware = Self {
            kernel: folder.join("vmlinuz"),
            initrd: folder.join("initrd.img"),
            sound: sound::clip()?,
            command_line: format!("{} console=ttyAMA0", command_line.trim_end()),
            folder,
            disk,
        };
        hardware.take_kernel()?;
        hardware.connect_microphone()?;
        hardware.configure()?;
        Ok(hardware)
    }

    /// A file onto the partition that any computer can write.
    pub(super) fn put(&self, file: &Path, name: &str) -> anyhow::Result<()> {
        let mut copy = Command::new("mcopy");
        copy.args(["-o", "-i", &self.boot_partition()])
            .arg(file)
            .arg(format!("::{name}"));
        tools::captured(&mut copy)?;
        Ok(())
    }

    /// As mtools name the boot partition.
    fn boot_partition(&self) -> String {
        format!("{}@@{}", self.disk.display(), BOOT.start)
    }

    fn take_kernel(&self) -> anyhow::Result<()> {
        for (name, to) in [("vmlinuz", &self.kernel), ("initrd.img", &self.initrd)] {
            let mut copy = Command::new("mcopy");
            copy.args(["-o", "-i", &self.boot_partition()])
                .arg(format!("::{name}"))
                .arg(to);
            tools::captured(&mut copy)?;
        }
        // Debian's is compressed for firmware that can; QEMU cannot.
        let kernel = fs::read(&self.kernel)?;
        if kernel.starts_with(&[0x1f, 0x8b]) {
            let mut unpack = Command::new("gzip");
            let unpacked = tools::captured(unpack.arg("-dc").arg(&self.kernel))?;
            fs::write(&self.kernel, unpacked.stdout)?;
        }
        Ok(())
    }

    /// A service that hands the sound of QEMU's port on, and ALSA's name for where it does.
    fn connect_microphone(&self) -> anyhow::Result<()> {
        let service = format!(
            "[Service]\n\
             ExecStartPre=/bin/sh -c 'test -p /run/microphone || mkfifo -m 666 /run/microphone'\n\
             ExecStart=/bin/sh -c 'exec cat /dev/virtio-ports/{MICROPHONE} >/run/microphone'\n\
             Restart=always\nRestartSec=1\n[Unit]\nStartLimitIntervalSec=0\n"
        );
        let device = "pcm.mic { type file slave.pcm \"null\" file \"/dev/null\" \
                      infile \"/run/microphone\" format \"raw\" }\n";
        let files = [
            ("/etc/asound.conf", device),
            ("/etc/systemd/system/microphone.service", service.as_str()),
        ];
        let system = format!("{}?offset={}", self.disk.display(), SYSTEM.start);
        let mut script = String::new();
        for (path, content) in files {
            let name = path.rsplit('/').next().context("a path has a name")?;
            let from = self.folder.join(name);
            fs::write(&from, content)?;
            script += &format!("write {} {path}\n", from.display());
        }
        script += "symlink /etc/systemd/system/multi-user.target.wants/microphone.service \
                   ../microphone.service\n";
        let commands = self.folder.join("debugfs.txt");
        fs::write(&commands, script)?;
        let mut debugfs = Command::new("debugfs");
        debugfs.args(["-w", "-f"]).arg(commands).arg(system);
        tools::captured(&mut debugfs)?;
        Ok(())
    }

    fn configure(&self) -> anyhow::Result<()> {
        let configuration = format!(
            "[microphone]\ndevice = \"mic\"\n[history]\nwrite_every_s = 1\n\
             [page]\nlisten = \"0.0.0.0:{PORT}\"\ntoken = \"{TOKEN}\"\n"
        );
        let path = self.folder.join("sori-pi.toml");
        fs::write(&path, configuration)?;
        self.put(&path, "sori-pi.toml")
    }
}
