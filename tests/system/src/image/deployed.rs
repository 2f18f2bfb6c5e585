//! `sori deploy` to a whole system: the appliance, with its system made writable. Its sshd,
//! systemd, dpkg and sori-pi are the real ones, and its cable is pulled at random moments.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use serde_json::Value;

use super::PRUNED;
use super::hardware::Hardware;
use super::machine::Machine;
use xtask::sori::{self, SORI};

use crate::dist;
use crate::steps::Steps;
use crate::tools;

#[path = "../../../../host-tools/sori/tests/deploy/proxy.rs"]
mod proxy;
use proxy::Proxy;

/// Times that the cable is pulled.
const PULLS: usize = 4;

/// Emulated.
const PATIENCE: Duration = Duration::from_secs(300);

/// Works when it is asked, and not as a service.
const SICK: &str = "#!/bin/sh
case \"$*\" in
*--check-config*) exec \"$0.real\" \"$@\" ;;
run*) echo 'it is sick' >&2; exit 1 ;;
*) exec \"$0.real\" \"$@\" ;;
esac
";

pub(super) fn check(steps: &mut Steps, image: &Path, package: &Path) -> anyhow::Result<()> {
    tools::require_quiet("ssh-keygen", "openssh-client")?;
    sori::build(steps)?;
    println!("\n── sori deploy to a system in QEMU");
    let started = Instant::now();
    Trial::start(image, package)?.run()?;
    println!("   {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

struct Trial {
    machine: Machine,
    folder: PathBuf,
    proxy: Proxy,
    package: PathBuf,
    chance: Rng,
}

impl Trial {
    fn start(image: &Path, package: &Path) -> anyhow::Result<Self> {
        let hardware = Hardware::with(image, "deployed")?;
        let key = hardware.folder.join("key");
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        tools::captured(&mut make)?;
        hardware.put(&key.with_extension("pub"), "authorized_keys")?;
        let mut machine = Machine::start(&hardware)?;
        let took = machine.until_it_listens()?;
        println!("   it listens {:.0} s after power-on", took.as_secs_f64());
        let trial = Self {
            proxy: Proxy::start(machine.ssh_port),
            machine,
            folder: hardware.folder,
            package: fs::canonicalize(package)?,
            chance: Rng::with_seed(3),
        };
        for (name, port) in [
            ("direct", trial.machine.ssh_port),
            ("proxied", trial.proxy.port),
        ] {
            let text = format!(
                "Host appliance\nHostName 127.0.0.1\nPort {port}\nUser root\nIdentityFile {}\n\
                 IdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\n\
                 HostKeyAlias appliance\nStrictHostKeyChecking accept-new\n",
                key.display(),
                trial.folder.join("known_hosts").display(),
            );
            fs::write(trial.folder.join(name), text)?;
        }
        println!(
            "   boot time: {}",
            trial.ask("systemd-analyze")?.replace('\n', " ")
        );
        let output = trial.deploy("direct", &trial.package).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            said.contains("--model-only works there"),
            "a read-only system must be reported: {said}"
        );
        let mut model = trial.sori("direct");
        model.args(["--model-only", "models/genre/genre.sori"]);
        let taken = json(&model.output()?)?;
        ensure!(taken["outcome"] == "ok", "a package alone: {taken}");
        // As `firmware/appliance/README.md` says.
        trial.ask("mount -o remount,rw / && mount -o remount,rw /boot/firmware")?;
        Ok(trial)
    }

    fn run(mut self) -> anyhow::Result<()> {
        let versions = ["8.1-1", "8.2-1"];
        let mut packages = Vec::new();
        for version in versions {
            packages.push(dist::repacked(&self.package, version, |_| Ok(()))?);
        }
        // The way back is what is installed, packed again; later it is what was deployed.
        let shipped = self.ask("dpkg-query -W -f '${Version}' sori-pi")?;
        self.rolls_back(&shipped)?;
        let took = Instant::now();
        let first = self.deploy("proxied", &packages[0]).output()?;
        let first = json(&first)?;
        ensure!(
            first["outcome"] == "ok" && first["copied"] == true,
            "the first deploy: {first}"
        );
        let (took, bytes) = (took.elapsed(), self.proxy.passed());
        self.is_whole(&versions[..1])?;
        println!("   deployed in {:.0} s", took.as_secs_f64());
        let again = json(&self.deploy("direct", &packages[0]).output()?)?;
        ensure!(again["outcome"] == "unchanged", "the same again: {again}");

        self.rolls_back(versions[0])?;
        let mut ended = 0;
        for pull in 0..PULLS {
            let next = &packages[(pull + 1) % 2];
            ended += usize::from(self.pulled(pull, next, &versions, took, bytes)?);
            let repeated = json(&self.deploy("direct", next).output()?)?;
            ensure!(
                repeated["outcome"] == "ok" || repeated["outcome"] == "unchanged",
                "rerun after a pull: {repeated}"
            );
            self.is_whole(&[versions[(pull + 1) % 2]])?;
        }
        ensure!(ended > 0, "no pull interrupted anything");
        println!(
            "   {PULLS} pulls of the cable: {ended} interrupted a deploy, and each left one complete version"
        );
        Ok(())
    }

    /// A program that does not start is refused, one that does not stay is rolled back.
    fn rolls_back(&self, before: &str) -> anyhow::Result<()> {
        let broken = dist::repacked(&self.package, "9.0-1", |tree| {
            Ok(fs::write(
                tree.join("usr/bin/sori-pi"),
                "#!/bin/sh\nexit 1\n",
            )?)
        })?;
        let sick = dist::repacked(&self.package, "9.1-1", |tree| {
            let program = tree.join("usr/bin/sori-pi");
            fs::rename(&program, tree.join("usr/bin/sori-pi.real"))?;
            fs::write(&program, SICK)?;
            Ok(fs::set_permissions(
                &program,
                fs::Permissions::from_mode(0o755),
            )?)
        })?;
        for (package, why) in [
            (
                broken,
                "nothing was changed: the new program does not work here",
            ),
            (sick, "it is sick; the previous version was restored"),
        ] {
            let output = self.deploy("direct", &package).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                !output.status.success() && said.contains(why),
                "{} should have failed: {said}",
                package.display()
            );
            println!("   {}", said.trim());
            self.is_whole(&[before])?;
        }
        Ok(())
    }

    /// Whether the deploy ended by it.
    fn pulled(
        &mut self,
        pull: usize,
        package: &Path,
        versions: &[&str],
        took: Duration,
        bytes: u64,
    ) -> anyhow::Result<bool> {
        // By turns somewhere in the copy, for good, and at some time, for a moment.
        let for_good = pull.is_multiple_of(2);
        if for_good {
            self.proxy.cut_after(self.chance.u64(..bytes));
        }
        let mut deploy = self.deploy("proxied", package);
        deploy.args(["--patience", "10"]);
        let child: Child = deploy
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if !for_good {
            thread::sleep(took.mul_f64(self.chance.f64()));
            self.proxy.cut_now();
        }
        let output = child.wait_with_output()?;
        self.proxy.cut_after(u64::MAX);
        self.settles()?;
        self.is_whole(versions)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                said.contains("rerun the command") && !said.contains("panicked"),
                "a pulled cable must be reported: {said}"
            );
        }
        Ok(!output.status.success())
    }

    /// Nobody works there any more.
    fn settles(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            thread::sleep(Duration::from_secs(2));
            let lock =
                "test ! -e /var/lib/sori-deploy/lock || flock -n /var/lib/sori-deploy/lock true";
            if self.ask(lock).is_ok() {
                return Ok(());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "the deploy there does not end"
            );
        }
    }

    /// One of these is installed, its files are its own, and its service listens where the user's
    /// settings say.
    fn is_whole(&self, versions: &[&str]) -> anyhow::Result<()> {
        let installed = self.ask("dpkg-query -W -f '${db:Status-Status} ${Version}' sori-pi")?;
        let is_one = versions
            .iter()
            .any(|version| installed == format!("installed {version}"));
        ensure!(is_one, "installed there is: {installed}");
        let differs = self.ask("dpkg --audit; dpkg --verify sori-pi")?;
        let differs: Vec<&str> = differs
            .lines()
            // The settings are the user's.
            .filter(|line| !line.ends_with("/etc/sori-pi/sori-pi.toml"))
            .filter(|line| !PRUNED.iter().any(|folder| line.contains(folder)))
            .collect();
        ensure!(differs.is_empty(), "{installed}, but for: {differs:?}");
        let started = Instant::now();
        loop {
            if let Some(text) = self.machine.get("/api/status") {
                let status: Value = serde_json::from_str(&text)?;
                if status["capture"]["state"] == "listening" {
                    return Ok(());
                }
            }
            if started.elapsed() > PATIENCE {
                bail!("{installed}, but it does not listen");
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn ask(&self, command: &str) -> anyhow::Result<String> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.folder.join("direct")).args([
            "-o",
            "LogLevel=ERROR",
            "appliance",
            command,
        ]);
        let output = tools::captured(&mut ssh)?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn deploy(&self, way: &str, package: &Path) -> Command {
        let mut sori = self.sori(way);
        sori.arg("--deb").arg(package);
        sori
    }

    fn sori(&self, way: &str) -> Command {
        let mut sori = Command::new(SORI);
        sori.args(["deploy", "appliance", "--json", "--ssh-config"])
            .arg(self.folder.join(way))
            .stdin(Stdio::null());
        sori
    }
}

fn json(output: &Output) -> anyhow::Result<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())
}
