//! `cargo xtask package-test`: the arm64 package in a Debian of its own, from the first
//! installation to the last trace.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::debian_root::{DebianRoot, SERVICE};
use crate::dist::{self, ARM64};
use crate::sound::{self, GENRE};
use crate::steps::Steps;
use crate::tools;

const CONFIG: &str = "/etc/sori-pi/sori-pi.toml";
const HISTORY: &str = "/var/lib/sori-pi/history.sqlite";
const BOOT: &str = "/boot/firmware/config.txt";
const OVERLAY: &str = "dtoverlay=googlevoicehat-soundcard";
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/sori-pi.service";

/// Where the user sori may read it.
const SHIM: &str = "/srv/shim.so";

/// Emulated and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Older than every version there will be.
const BEFORE: &str = "0.0.1-1";

/// As a user sets it: the microphone of this test, and every row at once.
const OURS: &str = "\
[microphone]
device = \"mic\"
[history]
write_every_s = 1
[page]
listen = \"127.0.0.1:18080\"
";

pub(crate) fn run() -> anyhow::Result<()> {
    let mut steps = Steps::default();
    check(&mut steps)?;
    steps.summary();
    Ok(())
}

/// As a part of `endurance`, too.
pub(crate) fn check(steps: &mut Steps) -> anyhow::Result<()> {
    let package = dist::package(steps, &ARM64)?;
    println!("\n── the package in a separate Debian (QEMU)");
    let started = Instant::now();
    Test::prepare(&package)?.run()?;
    println!("   {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

struct Test {
    root: DebianRoot,
    /// Names in the root of the package, and of one before it.
    package: String,
    older: String,
}

impl Test {
    fn prepare(package: &Path) -> anyhow::Result<Self> {
        let root = DebianRoot::of(&SERVICE, "package-test")?;
        connect_microphone(&root)?;
        let copy = |from: &Path, name: &str| -> anyhow::Result<String> {
            let to = format!("/root/{name}");
            fs::copy(from, root.path(&to)).with_context(|| to.clone())?;
            Ok(to)
        };
        let older = copy(&older(package)?, "older.deb")?;
        let package = copy(package, "package.deb")?;
        fs::create_dir_all(root.path("/boot/firmware"))?;
        fs::write(root.path(BOOT), "dtparam=audio=on\n")?;
        Ok(Self {
            root,
            package,
            older,
        })
    }

    fn run(&self) -> anyhow::Result<()> {
        let before = self.everything()?;
        self.installation()?;
        let changed = self.change_configuration()?;
        let first = self.listens()?;
        self.upgrade(&changed)?;
        let second = self.listens()?;
        ensure!(
            second.starts_with(&first) && second.len() > first.len(),
            "the history before the upgrade is not a prefix of the one after it:\n{first}\n{second}"
        );
        self.removal(&changed, &second)?;
        self.purge(&before)
    }

    /// Everything of a fresh installation is in its place, and what it lacks is said.
    fn installation(&self) -> anyhow::Result<()> {
        let said = self.dpkg(&["--install", &self.older])?;
        ensure!(
            said.contains(BOOT) && said.contains(OVERLAY),
            "the installation does not report that {BOOT} lacks {OVERLAY}:\n{said}"
        );
        ensure!(self.root.path(CONFIG).is_file(), "{CONFIG} is missing");
        ensure!(
            self.root.path(ENABLED).is_symlink(),
            "the service does not start at boot: {ENABLED} is missing"
        );
        let id = self.inside("id", &["sori"])?;
        ensure!(id.contains("(sori)"), "{id}");
        let groups = self.inside("getent", &["group", "audio", "gpio", "i2c", "spi"])?;
        ensure!(groups.lines().count() == 4, "groups are missing:\n{groups}");
        let state = self.inside("stat", &["--format=%U:%G %a", "/var/lib/sori-pi"])?;
        ensure!(state == "sori:sori 750\n", "/var/lib/sori-pi is {state}");
        let version = self.inside("sori-pi", &["--version"])?;
        println!("   installed: {}", version.trim());
        Ok(())
    }

    /// The configuration's bytes.
    fn change_configuration(&self) -> anyhow::Result<Vec<u8>> {
        fs::write(self.root.path(CONFIG), OURS)?;
        self.inside("sori-pi", &["run", "--check-config", "--config", CONFIG])?;
        Ok(OURS.into())
    }

    /// The service as its unit starts it, until it has heard what is played; the history then.
    fn listens(&self) -> anyhow::Result<String> {
        let unit = self.root.path("/usr/lib/systemd/system/sori-pi.service");
        let unit = fs::read_to_string(unit)?;
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        let line = line.context("the unit starts nothing")?;
        // systemd's part: the user, the groups, the folder, the signal. A line on stdin stops it.
        let script = format!(
            "setpriv --reuid=sori --regid=sori --groups=audio,gpio,i2c,spi -- \
             env STATE_DIRECTORY=/var/lib/sori-pi LD_PRELOAD={SHIM} {line} --json & \
             read -r stop; kill -TERM $!; wait $!"
        );
        let mut sori = self.root.command("sh");
        sori.args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut sori = sori.spawn().context("cannot start unshare")?;
        let stdout = sori.stdout.take().context("piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        let started = Instant::now();
        let mut heard = None;
        while let Ok(line) = lines.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
            let line: Value = serde_json::from_str(&line).context("every line is JSON")?;
            if line["type"] == "heard" && line["verdict"] == GENRE {
                heard = Some(started.elapsed());
                break;
            }
        }
        // The end of its input is a line, too.
        drop(sori.stdin.take());
        let output = sori.wait_with_output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}\n{log}", output.status);
        let heard = heard.with_context(|| format!("{GENRE} was played but not heard\n{log}"))?;
        println!("   it heard {GENRE} after {:.0} s", heard.as_secs_f64());
        let owner = self.inside("stat", &["--format=%U", HISTORY])?;
        ensure!(owner == "sori\n", "the history belongs to {owner}");
        self.history()
    }

    /// As lines of JSON.
    fn history(&self) -> anyhow::Result<String> {
        let rows = self.inside("sori-pi", &["export", "--json"])?;
        ensure!(rows.contains(GENRE), "the history has no {GENRE}:\n{rows}");
        Ok(rows)
    }

    /// Configuration and history are kept, though the shipped configuration has changed, too.
    fn upgrade(&self, changed: &[u8]) -> anyhow::Result<()> {
        fs::write(
            self.root.path(BOOT),
            format!("dtparam=audio=on\n[all]\n{OVERLAY}\n"),
        )?;
        let said = self.dpkg(&["--force-confold", "--install", &self.package])?;
        ensure!(
            !said.contains("dtoverlay"),
            "{BOOT} has the line, but the upgrade reports it missing:\n{said}"
        );
        self.is_kept(changed)?;
        let shipped = format!("{CONFIG}.dpkg-dist");
        ensure!(
            self.root.path(&shipped).is_file(),
            "the new shipped configuration is not beside the changed one: {shipped}"
        );
        println!("   upgraded: configuration and history are kept");
        Ok(())
    }

    fn removal(&self, changed: &[u8], rows: &str) -> anyhow::Result<()> {
        self.dpkg(&["--remove", "sori-pi"])?;
        ensure!(
            !self.root.path("/usr/bin/sori-pi").exists(),
            "removed, but /usr/bin/sori-pi is still there"
        );
        self.is_kept(changed)?;
        self.dpkg(&["--force-confold", "--install", &self.package])?;
        self.is_kept(changed)?;
        ensure!(
            self.history()? == rows,
            "the history changed with the removal"
        );
        self.dpkg(&["--remove", "sori-pi"])?;
        println!("   removed, installed and removed again: configuration and history are kept");
        Ok(())
    }

    fn is_kept(&self, changed: &[u8]) -> anyhow::Result<()> {
        ensure!(
            fs::read(self.root.path(CONFIG))? == changed,
            "{CONFIG} is no longer the user's"
        );
        ensure!(self.root.path(HISTORY).is_file(), "{HISTORY} is gone");
        Ok(())
    }

    /// Nothing is left of it: no file, no user.
    fn purge(&self, before: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
        self.dpkg(&["--purge", "sori-pi"])?;
        let after = self.everything()?;
        let left: Vec<&PathBuf> = after.difference(before).collect();
        ensure!(left.is_empty(), "left after the purge: {left:?}");
        let gone: Vec<&PathBuf> = before.difference(&after).collect();
        ensure!(
            gone.is_empty(),
            "the purge removed files that were there before: {gone:?}"
        );
        for file in ["passwd", "shadow", "group", "gshadow"] {
            let text = fs::read_to_string(self.root.path(&format!("/etc/{file}")))?;
            ensure!(
                !text.contains("sori"),
                "sori is still in /etc/{file}:\n{text}"
            );
        }
        println!("   purged: no file and no user left");
        Ok(())
    }

    /// Every path but those of the packing system's own accounts.
    fn everything(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let mut paths = BTreeSet::new();
        let root = self.root.path("/");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let path = entry.path();
                let name = Path::new("/").join(path.strip_prefix(&root)?);
                if ACCOUNTS.iter().any(|account| name.starts_with(account)) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                }
                paths.insert(name);
            }
        }
        Ok(paths)
    }

    fn dpkg(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.inside("dpkg", arguments)
    }

    /// Runs a program there; what it says on both outputs.
    fn inside(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = tools::captured(self.root.command(program).args(arguments))?;
        let mut said = String::from_utf8(output.stdout)?;
        said += &String::from_utf8_lossy(&output.stderr);
        Ok(said)
    }
}

/// Where dpkg and the tools for users write down what they did, whatever it was.
const ACCOUNTS: [&str; 8] = [
    "/proc",
    "/var/lib/dpkg",
    "/var/log",
    "/var/cache/debconf",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/group-",
    "/etc/gshadow-",
];

/// The same program as an older package with another configuration: what an upgrade finds.
fn older(package: &Path) -> anyhow::Result<PathBuf> {
    dist::repacked(package, BEFORE, |tree| {
        let config = tree.join(CONFIG.trim_start_matches('/'));
        let mut config = OpenOptions::new().append(true).open(config)?;
        Ok(config.write_all(b"\n# As it was shipped before.\n")?)
    })
}

/// Bytes that are written at once, which a pipe never tears. The shim reads no more at once,
/// because the plugin takes a piece of what it asked for to be all of it.
const PIECE: usize = 4096;

/// The root's microphone: alsa-lib's `file` plugin reads a FIFO, into which jazz is played.
fn connect_microphone(root: &DebianRoot) -> anyhow::Result<()> {
    let sound = sound::clip()?;
    let mut compiler = Command::new("aarch64-linux-gnu-gcc");
    compiler
        .args([
            "-O1",
            "-shared",
            "-fPIC",
            "firmware/pi/tests/shim/alsa.c",
            "-ldl",
            "-o",
        ])
        .arg(root.path(SHIM));
    tools::captured(&mut compiler)?;
    fs::write(
        root.path("/etc/asound.conf"),
        "pcm.mic { type file slave.pcm { type null } file \"/dev/null\" infile \"/srv/mic.raw\" format \"raw\" }\n",
    )?;
    let fifo = root.path("/srv/mic.raw");
    tools::captured(Command::new("mkfifo").args(["--mode=666"]).arg(&fifo))?;
    // Open for reading as well, or it would end each time that the device is closed.
    let fifo = OpenOptions::new().read(true).write(true).open(&fifo)?;
    // After the last of them it waits for a reader that never comes, and nobody for it.
    thread::spawn(move || sound::play(&sound, PIECE, fifo));
    Ok(())
}
