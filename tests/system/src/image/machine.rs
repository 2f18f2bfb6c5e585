//! An emulated computer with the card in it, a microphone, and a network cable.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use serde_json::Value;

use super::disk::Served;
use super::hardware::{Hardware, MICROPHONE, PORT, TOKEN};
use crate::sound::{self, BYTES_A_SECOND};

/// Emulated, and beside other work.
const PATIENCE: Duration = Duration::from_secs(300);

/// Powered.
pub(super) struct Machine {
    qemu: Child,
    disk: Option<Served>,
    port: u16,
    /// Of its sshd.
    pub(super) ssh_port: u16,
    console: PathBuf,
    started: Instant,
}

impl Machine {
    pub(super) fn start(hardware: &Hardware) -> anyhow::Result<Self> {
        let file = |name: &str| hardware.folder.join(name);
        let (disk_socket, sound_socket) = (file("disk.socket"), file("sound.socket"));
        for socket in [&disk_socket, &sound_socket] {
            let _ = fs::remove_file(socket);
        }
        let disk = Served::start(&hardware.disk, &disk_socket)?;
        let console = file("console.txt");
        let (port, ssh_port) = (free_port()?, free_port()?);
        let qemu = Command::new("qemu-system-aarch64")
            .args(["-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512"])
            .args(["-display", "none", "-monitor", "none", "-no-reboot"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(&hardware.kernel)
            .arg("-initrd")
            .arg(&hardware.initrd)
            .args(["-append", &hardware.command_line])
            .arg("-drive")
            .arg(format!(
                "if=none,id=card,format=raw,file.driver=nbd,file.server.type=unix,file.server.path={}",
                disk_socket.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=card"])
            .arg("-netdev")
            .arg(format!(
                "user,id=cable,hostfwd=tcp:127.0.0.1:{port}-:{PORT},\
                 hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
            ))
            // It starts from no network, and Debian packs the means to do so apart.
            .args(["-device", "virtio-net-pci,netdev=cable,romfile="])
            .args(["-device", "virtio-serial-pci", "-chardev"])
            .arg(format!(
                "socket,id=sound,server=on,wait=off,path={}",
                sound_socket.display()
            ))
            .arg("-device")
            .arg(format!("virtserialport,chardev=sound,name={MICROPHONE}"))
            .stdin(Stdio::null())
            .stderr(File::create(file("qemu.txt"))?)
            .spawn()
            .context("cannot start qemu-system-aarch64")?;
        let machine = Self {
            qemu,
            disk: Some(disk),
            port,
            ssh_port,
            console,
            started: Instant::now(),
        };
        play(hardware.sound.clone(), sound_socket);
        Ok(machine)
    }

    /// An answer of its page, if there is one yet.
    pub(super) fn get(&self, path: &str) -> Option<String> {
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--max-time", "5", "--header"])
            .arg(format!("Authorization: Bearer {TOKEN}"))
            .arg(format!("http://127.0.0.1:{}{path}", self.port))
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
    }

    /// Waits until it listens to its microphone; how long that took since it was powered.
    pub(super) fn until_it_listens(&mut self) -> anyhow::Result<Duration> {
        loop {
            if let Some(text) = self.get("/api/status") {
                let status: Value = serde_json::from_str(&text)?;
                let decided = status["decisions"].as_u64().is_some_and(|count| count > 0);
                if status["capture"]["state"] == "listening" && decided {
                    return Ok(self.started.elapsed());
                }
            }
            ensure!(
                self.started.elapsed() < PATIENCE,
                "it does not listen after {} s; its last output is in {}",
                PATIENCE.as_secs(),
                self.console.display()
            );
            if let Some(status) = self.qemu.try_wait()? {
                bail!(
                    "QEMU exited with {status}; see qemu.txt beside {}",
                    self.console.display()
                );
            }
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// The rows that its history has on the card now.
    pub(super) fn rows(&self) -> anyhow::Result<Option<Vec<Value>>> {
        let Some(text) = self.get("/api/history?limit=20000") else {
            return Ok(None);
        };
        let mut answer: Value = serde_json::from_str(&text)?;
        match answer["spans"].take() {
            Value::Array(rows) => Ok(Some(rows)),
            other => bail!("the history is {other}"),
        }
    }

    /// Pulls the plug. Returns how many writes had not been flushed.
    pub(super) fn cut(mut self, chance: &mut Rng) -> anyhow::Result<usize> {
        self.stop()?;
        let disk = self.disk.take().context("a disk is served until the cut")?;
        disk.cut(chance)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }

    pub(super) fn console(&self) -> &Path {
        &self.console
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Free now; QEMU takes it in a moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Plays into the microphone until the machine is gone.
fn play(sound: Vec<u8>, socket: PathBuf) {
    thread::spawn(move || {
        let connected = (0..100).find_map(|_| {
            thread::sleep(Duration::from_millis(100));
            UnixStream::connect(&socket).ok()
        });
        if let Some(stream) = connected {
            sound::play(&sound, BYTES_A_SECOND / 10, stream);
        }
    });
}
