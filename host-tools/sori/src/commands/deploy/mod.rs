//! `sori deploy`: installs sori-pi, or only a package, on a Raspberry Pi over the system's ssh.
//!
//! ```text
//! here                          the target
//! probe ───────────────────────► what it is (probe.sh changes nothing)
//! files by their SHA-256 ──────► ~/.cache/sori-deploy, unless already there
//! start ───────────────────────► root's own copy; worker.sh continues without the connection:
//!                                 check, back up, install, restart, healthy? else roll back
//! read the state ◄────────────── /var/lib/sori-deploy/state, over as many connections as needed
//! ```
//!
//! A connection lost before the start has changed nothing; one lost later does not affect the
//! outcome, which the next `sori deploy` reads.

mod ssh;
mod target;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sori_host::file;

use self::ssh::{Connection, Cut, Target};
use self::target::{Last, Probed, quoted};
use crate::exit::Failure;
use crate::{output, package};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sori deploy pi@raspberrypi.local                     sori-pi, as built by cargo xtask dist
  sori deploy pi@raspberrypi.local --dry-run           only print what would be done
  sori deploy kitchen --model-only model.sori          a package, without stopping the service

The target checks everything before it changes anything, and rolls back if the new version does not
become healthy. A broken connection leaves one complete version: rerun the command to see which.")]
pub(crate) struct Deploy {
    /// The target, as ssh accepts it
    #[arg(value_name = "USER@HOST")]
    host: String,
    /// The Debian package [default: the newest for the target in target/dist or beside sori]
    #[arg(long, value_name = "FILE.deb")]
    deb: Option<PathBuf>,
    /// Only this package, for the sori-pi installed there
    #[arg(long, value_name = "FILE.sori", conflicts_with = "deb")]
    model_only: Option<PathBuf>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// ssh configuration to use instead of ~/.ssh/config: port, key and so on
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Seconds to wait for a target that reports no progress
    #[arg(long, value_name = "SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

/// Time between two polls of the target's state.
const LOOK: Duration = Duration::from_millis(250);

/// How long a target may take to begin after the start command.
const GRACE: Duration = Duration::from_secs(10);

const WORKER: &str = include_str!("worker.sh");

/// Lists which of the files, by SHA-256, are there.
const THERE: &str = r#"cd "${XDG_CACHE_HOME:-$HOME/.cache}/sori-deploy" 2>/dev/null || exit 0
for sum; do
    if [ "$(sha256sum <"$sum" 2>/dev/null | cut -c1-64)" = "$sum" ]; then echo "sori:$sum=there"; fi
done"#;

/// Receives a file on stdin, which appears under its SHA-256 once complete.
const RECEIVE: &str = r#"umask 077
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sori-deploy
mkdir -p "$folder" && cd "$folder" || exit 1
rm -f ./*.partial
cat >"$1.partial" || exit 1
if [ "$(sha256sum <"$1.partial" | cut -c1-64)" = "$1" ]; then
    mv "$1.partial" "$1" && echo "sori:received=yes"
else
    rm -f "$1.partial"
fi"#;

/// Starts the work. Arguments: root's prefix, worker's and file's SHA-256, kind, id.
const START: &str = r#"folder=${XDG_CACHE_HOME:-$HOME/.cache}/sori-deploy
exec $1 /bin/sh "$folder/$2" start "$folder/$3" "$3" "$4" "$5""#;

/// Checks the lock first: if it is free, the state is its last holder's final one.
const STATE: &str = r#"state=${SORI_DEPLOY_ROOT:-}/var/lib/sori-deploy
flock -n "$state/lock" true || echo "sori:running=yes"
sed 's/^/sori:last_/' "$state/state"
exit 0"#;

const CLEAN: &str = r#"rm -rf "${XDG_CACHE_HOME:-$HOME/.cache}/sori-deploy""#;

/// The file to deploy.
struct Payload {
    path: PathBuf,
    kind: Kind,
    bytes: Vec<u8>,
    sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Deb,
    Model,
}

impl Kind {
    /// Its name in worker.sh.
    fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Model => "model",
        }
    }
}

#[derive(Debug, Serialize)]
struct Deployed<'a> {
    schema_version: u32,
    host: &'a str,
    target: &'a Probed,
    kind: Kind,
    file: &'a Path,
    sha256: &'a str,
    bytes: usize,
    dry_run: bool,
    /// Whether the file had to be copied to the target.
    copied: bool,
    /// `ok`, `unchanged`, or with --dry-run `possible`.
    outcome: &'a str,
    note: Option<String>,
}

impl Deploy {
    pub(crate) fn run(self) -> Result<()> {
        // Errors on this side need no connection.
        let early = self.early()?;
        let mut connection = Connection::open(&self.target())?;
        let mut probed = Probed::ask(&connection)?;
        self.say(&format!("{}: {probed}", self.host))?;
        let payload = match early {
            Some(payload) => payload,
            None => Payload::read(find(&probed.architecture)?, Kind::Deb)?,
        };
        payload.check_name(&probed.architecture)?;
        if let Some(last) = self.earlier(&mut connection, &probed, &payload)? {
            probed = Probed::ask(&connection)?;
            self.say(&format!(
                "the deploy that was running there ended: {}",
                ended(&last)
            ))?;
        }
        if payload.kind == Kind::Deb && probed.has(&payload.sha256) {
            return self.done(&probed, &payload, false, "unchanged", None);
        }
        probed.check_root()?;
        if payload.kind == Kind::Deb {
            probed.check_writable()?;
        }
        probed.check_space(payload.kind, payload.bytes.len())?;
        if self.dry_run {
            let copied = !self.there(&connection, &[&payload.sha256])?[0];
            return self.done(&probed, &payload, copied, "possible", None);
        }
        let copied = self.copy(&connection, &payload)?;
        let id = format!("{:016x}", fastrand::u64(..));
        self.start(&mut connection, &probed, &payload, &id)?;
        let last = self.follow(&mut connection, &id)?;
        match last.outcome.as_str() {
            "ok" => {
                // A failure only wastes space.
                let _ = connection.run(&quoted(CLEAN), &[], |_| {});
                self.done(&probed, &payload, copied, "ok", Some(last.why))
            }
            "refused" => Err(Failure::Incompatible(format!(
                "{} rejected {}, and nothing was changed: {}",
                self.host,
                payload.path.display(),
                last.why
            ))
            .into()),
            _ => bail!("{}: {}", self.host, ended(&last)),
        }
    }

    fn target(&self) -> Target {
        Target {
            host: self.host.clone(),
            config: self.ssh_config.clone(),
        }
    }

    /// The file given on the command line, if any.
    fn early(&self) -> Result<Option<Payload>> {
        if self.host.starts_with('-') {
            return Err(Failure::Usage(format!("{} is not a host", self.host)).into());
        }
        if let Some(path) = &self.model_only {
            let bytes = package::read(path)?;
            package::mel(&package::parse(&bytes, path)?, path)?;
            return Payload::read(path.clone(), Kind::Model).map(Some);
        }
        let deb = self.deb.clone();
        deb.map(|path| Payload::read(path, Kind::Deb)).transpose()
    }

    fn say(&self, text: &str) -> Result<()> {
        match self.json {
            true => Ok(()),
            false => output::line(text),
        }
    }

    fn done(
        &self,
        target: &Probed,
        payload: &Payload,
        copied: bool,
        outcome: &str,
        note: Option<String>,
    ) -> Result<()> {
        let file = payload.path.as_path();
        let note = note.filter(|note| !note.is_empty());
        if self.json {
            return output::line(&serde_json::to_string(&Deployed {
                schema_version: SCHEMA_VERSION,
                host: &self.host,
                target,
                kind: payload.kind,
                file,
                sha256: &payload.sha256,
                bytes: payload.bytes.len(),
                dry_run: self.dry_run,
                copied,
                outcome,
                note,
            })?);
        }
        let shown = file.display();
        let size = format!("{:.1} MB", payload.bytes.len() as f64 / 1e6);
        match (outcome, payload.kind) {
            ("unchanged", _) => output::line(&format!("{shown} is already installed there")),
            ("possible", kind) => output::line(&format!(
                "would {} {shown} ({size}), verify its golden vectors there, {}, and roll back if it does not become healthy",
                if copied {
                    "copy"
                } else {
                    "use the earlier copy of"
                },
                match kind {
                    Kind::Deb =>
                        "back up the installed version, install the new one, restart the service",
                    Kind::Model => "put it where the service looks for packages",
                }
            )),
            (_, Kind::Deb) => output::line(&format!(
                "{shown} ({size}) is installed: its golden vectors match there{}",
                match note {
                    Some(note) => format!("; {note}"),
                    None => ", and the service is healthy".into(),
                }
            )),
            (_, Kind::Model) => output::line(&format!(
                "{}: {}",
                shown,
                note.unwrap_or_else(|| {
                    "its golden vectors match there, and the service listens with it".into()
                })
            )),
        }
    }

    /// Waits for a running deploy, and reports how an earlier one ended.
    fn earlier(
        &self,
        connection: &mut Connection,
        probed: &Probed,
        payload: &Payload,
    ) -> Result<Option<Last>> {
        let Some(last) = &probed.last else {
            return Ok(None);
        };
        if last.running {
            self.say(&format!(
                "a deploy is running there ({}): waiting for it",
                last.phase
            ))?;
            return match self.dry_run {
                true => Ok(None),
                false => self.follow(connection, &last.id).map(Some),
            };
        }
        if !last.is_done() {
            self.say(&format!(
                "an earlier deploy was interrupted there ({}): this one will complete it",
                last.phase
            ))?;
        } else if last.outcome != "ok"
            && (&last.sha256, last.kind.as_str()) == (&payload.sha256, payload.kind.name())
        {
            self.say(&format!("the last deploy of this file: {}", ended(last)))?;
        }
        Ok(None)
    }

    fn there(&self, connection: &Connection, sums: &[&str]) -> Result<Vec<bool>> {
        let command = format!("{} sori {}", quoted(THERE), sums.join(" "));
        let answer = connection.run(&command, &[], |_| {})?;
        Ok(sums.iter().map(|sum| answer.get(sum).is_some()).collect())
    }

    /// Copies the files that are missing there; returns whether the payload was one of them.
    fn copy(&self, connection: &Connection, payload: &Payload) -> Result<bool> {
        let worker = hex(WORKER.as_bytes());
        let files = [
            (worker.as_str(), WORKER.as_bytes()),
            (payload.sha256.as_str(), payload.bytes.as_slice()),
        ];
        let nothing_yet = "nothing was changed there";
        let there = self
            .there(connection, &files.map(|(sum, _)| sum))
            .context(nothing_yet)?;
        for ((sum, bytes), _) in files.into_iter().zip(&there).filter(|(_, there)| !**there) {
            let bar = bytes_bar(bytes.len());
            let command = format!("{} sori {sum}", quoted(RECEIVE));
            let answer = connection.run(&command, bytes, |sent| bar.inc(sent as u64));
            bar.finish_and_clear();
            let answer = answer.context(nothing_yet)?;
            if answer.get("received").is_none() {
                bail!(
                    "{} did not receive {} ({}), and {nothing_yet}: rerun the command",
                    self.host,
                    payload.path.display(),
                    match answer.said() {
                        said if said.is_empty() => "it arrived damaged".into(),
                        said => said,
                    }
                );
            }
        }
        Ok(!there[1])
    }

    fn start(
        &self,
        connection: &mut Connection,
        probed: &Probed,
        payload: &Payload,
        id: &str,
    ) -> Result<()> {
        let command = format!(
            "{} sori '{}' {} {} {} {id}",
            quoted(START),
            probed.sudo(),
            hex(WORKER.as_bytes()),
            payload.sha256,
            payload.kind.name()
        );
        let answer = match connection.run(&command, &[], |_| {}) {
            Ok(answer) => answer,
            // It may have begun: the state will tell.
            Err(error) if error.is::<Cut>() => return Ok(()),
            Err(error) => return Err(error),
        };
        if answer.get("busy").is_some() {
            bail!(
                "another deploy has just started on {}: rerun the command, which waits for it",
                self.host
            );
        }
        if answer.get("started").is_none() {
            bail!(
                "{} could not start, and nothing was changed: {}",
                self.host,
                match answer.said() {
                    said if said.is_empty() => "the file changed while root copied it".into(),
                    said => said,
                }
            );
        }
        Ok(())
    }

    /// Polls the state until it is done, over as many connections as that takes.
    fn follow(&self, connection: &mut Connection, id: &str) -> Result<Last> {
        let patience = Duration::from_secs(self.patience);
        let spinner = spinner();
        let mut phase = String::new();
        let mut news = Instant::now();
        loop {
            match connection.run(&quoted(STATE), &[], |_| {}) {
                Ok(answer) => match Last::of(&answer).filter(|last| last.id == id) {
                    Some(last) if last.is_done() => {
                        spinner.finish_and_clear();
                        return Ok(last);
                    }
                    Some(last) => {
                        if phase != last.phase {
                            phase.clone_from(&last.phase);
                            spinner.set_message(phase.clone());
                            news = Instant::now();
                        }
                        if !last.running && news.elapsed() > GRACE {
                            bail!(
                                "the deploy on {} stopped while {phase}, as in a power failure: rerun the command to complete it",
                                self.host
                            );
                        }
                    }
                    // If the connection broke at the start, it may still begin.
                    None if news.elapsed() < GRACE => {}
                    None => bail!(
                        "{}: the deploy did not start, or another one replaced it: rerun the command",
                        self.host
                    ),
                },
                Err(error) if error.is::<Cut>() && news.elapsed() < patience => {
                    // On failure the network may be down for a while.
                    if let Ok(again) = Connection::open(&self.target()) {
                        *connection = again;
                    }
                }
                Err(error) => {
                    return Err(error.context(format!(
                        "{} continues on its own and ends with one complete version",
                        self.host
                    )));
                }
            }
            if news.elapsed() > patience {
                bail!(
                    "{} has reported no progress for {} seconds ({phase}): it continues on its own; rerun the command to see how it ended, or read /var/lib/sori-deploy/log there",
                    self.host,
                    self.patience
                );
            }
            thread::sleep(LOOK);
        }
    }
}

/// Describes how it ended.
fn ended(last: &Last) -> String {
    let Last { outcome, why, .. } = last;
    let log = "details in /var/lib/sori-deploy/log there";
    match outcome.as_str() {
        "ok" => "it succeeded".into(),
        "refused" => format!("it was rejected and nothing was changed: {why}"),
        "rolled-back" => format!("{why}; the previous version was restored ({log})"),
        _ => {
            format!("{why}; sori-pi is not running there now: deploy a version that works ({log})")
        }
    }
}

impl Payload {
    fn read(path: PathBuf, kind: Kind) -> Result<Self> {
        let bytes = match kind {
            Kind::Model => package::read(&path)?.to_vec(),
            Kind::Deb => file::read(&path, file::MAX_DATA)
                .with_context(|| format!("cannot read {}: check the path", path.display()))?,
        };
        // A Debian package is an ar archive.
        if kind == Kind::Deb && !bytes.starts_with(b"!<arch>\ndebian-binary") {
            return Err(Failure::Usage(format!(
                "{} is not a Debian package: cargo xtask dist builds one",
                path.display()
            ))
            .into());
        }
        Ok(Self {
            sha256: hex(&bytes),
            path,
            kind,
            bytes,
        })
    }

    /// Rejects a file whose name shows another architecture before it is copied. Debian's tools
    /// there decide.
    fn check_name(&self, architecture: &str) -> Result<()> {
        let theirs = match self.kind {
            Kind::Deb => architecture_in(&self.path),
            Kind::Model => None,
        };
        match theirs {
            Some(theirs) if theirs != architecture && theirs != "all" => {
                Err(Failure::Incompatible(format!(
                    "{} is for {theirs} but the target is {architecture}: give --deb the package for {architecture}, which cargo xtask dist builds",
                    self.path.display()
                ))
                .into())
            }
            _ => Ok(()),
        }
    }
}

/// The architecture in NAME_VERSION_ARCHITECTURE.deb.
fn architecture_in(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_suffix(".deb")?;
    let mut parts = name.split('_');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(architecture), None) => Some(architecture),
        _ => None,
    }
}

/// The newest package for this architecture, where `cargo xtask dist` puts it or beside this program.
fn find(architecture: &str) -> Result<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    let folders = [Some(PathBuf::from("target/dist")), beside];
    let files = folders
        .iter()
        .flatten()
        .filter_map(|f| fs::read_dir(f).ok());
    let ours = files.flatten().flatten().filter(|file| {
        let path = file.path();
        file.file_name().to_string_lossy().starts_with("sori-pi_")
            && architecture_in(&path) == Some(architecture)
    });
    let newest = ours.max_by_key(|file| {
        let written = file.metadata().and_then(|data| data.modified());
        written.unwrap_or(SystemTime::UNIX_EPOCH)
    });
    newest.map(|file| file.path()).ok_or_else(|| {
        Failure::Usage(format!(
            "no sori-pi_…_{architecture}.deb in target/dist or beside this program: build it with cargo xtask dist, or name one with --deb"
        ))
        .into()
    })
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A spinner, which draws nothing unless stderr is a terminal.
fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}")
        .expect("the template is a constant and valid");
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

fn bytes_bar(len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} copied, {eta} left")
        .expect("the template is a constant and valid");
    ProgressBar::new(len as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_s_name_says_for_whom_it_is() {
        for (path, architecture) in [
            ("target/dist/sori-pi_0.1.0-1_arm64.deb", Some("arm64")),
            ("sori-pi_0.1.0~rc1-1_armhf.deb", Some("armhf")),
            ("my.deb", None),
            ("sori-pi_0.1.0-1_arm64.zip", None),
            ("a_b_c_d.deb", None),
        ] {
            assert_eq!(architecture_in(Path::new(path)), architecture, "{path}");
        }
    }

    #[test]
    fn a_script_is_one_word_of_a_shell() {
        assert_eq!(quoted("echo 'a b'"), r"sh -c 'echo '\''a b'\'''");
    }
}
