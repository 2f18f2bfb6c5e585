//! `sori deploy`: a Raspberry Pi gets sori-pi, or only a package, over the system's ssh.
//!
//! ```text
//! here                          the target
//! probe ───────────────────────► what it is (probe.sh changes nothing)
//! files by their SHA-256 ──────► ~/.cache/sori-deploy, if they are not there
//! start ───────────────────────► root's own copy; worker.sh goes on without the connection:
//!                                 check, keep the way back, install, restart, healthy? else back
//! read the state ◄────────────── /var/lib/sori-deploy/state, as often as the connection breaks
//! ```
//!
//! A connection that is cut before the start has changed nothing; one that is cut later changes
//! nothing of what happens. The next `sori deploy` reads how it ended.

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

use self::ssh::{Connection, Cut, Target};
use self::target::{Last, Probed, quoted};
use crate::exit::Failure;
use crate::{output, package};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sori deploy pi@raspberrypi.local                     sori-pi, from what cargo xtask dist made
  sori deploy pi@raspberrypi.local --dry-run           only say what would be done
  sori deploy kitchen --model-only model.sori          a package, while the service listens

The target checks everything before it changes anything, and goes back to what it had if the new
does not become healthy. A connection that breaks leaves the old or the new, whole: repeat the
command, which says how it ended.")]
pub(crate) struct Deploy {
    /// The target, as ssh knows it
    #[arg(value_name = "USER@HOST")]
    host: String,
    /// The Debian package [default: the newest for the target in target/dist or beside sori]
    #[arg(long, value_name = "FILE.deb")]
    deb: Option<PathBuf>,
    /// Only a package for the sori-pi that runs there
    #[arg(long, value_name = "FILE.sori", conflicts_with = "deb")]
    model_only: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// ssh's configuration in place of ~/.ssh/config: port, key and so on
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// How long to wait for a target that tells nothing, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

/// Between two looks at the target's state.
const LOOK: Duration = Duration::from_millis(250);

/// So long a target may take from being started to starting.
const GRACE: Duration = Duration::from_secs(10);

const WORKER: &str = include_str!("worker.sh");

/// Which of the files, by SHA-256, are there.
const THERE: &str = r#"cd "${XDG_CACHE_HOME:-$HOME/.cache}/sori-deploy" 2>/dev/null || exit 0
for sum; do
    if [ "$(sha256sum <"$sum" 2>/dev/null | cut -c1-64)" = "$sum" ]; then echo "sori:$sum=there"; fi
done"#;

/// Takes a file from stdin, which appears under its SHA-256 when it is whole.
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

/// The lock first: who finds it free then reads what its holder wrote last.
const STATE: &str = r#"state=${SORI_DEPLOY_ROOT:-}/var/lib/sori-deploy
flock -n "$state/lock" true || echo "sori:running=yes"
sed 's/^/sori:last_/' "$state/state"
exit 0"#;

const CLEAN: &str = r#"rm -rf "${XDG_CACHE_HOME:-$HOME/.cache}/sori-deploy""#;

/// What goes there.
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
    /// As worker.sh calls it.
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
    /// The file was not on the target yet.
    copied: bool,
    /// `ok`, `unchanged`, or with --dry-run `possible`.
    outcome: &'a str,
    note: Option<String>,
}

impl Deploy {
    pub(crate) fn run(self) -> Result<()> {
        // What is wrong here needs no connection to be told.
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
                "the deploy that still went on ended: {}",
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
                // It only costs room.
                let _ = connection.run(&quoted(CLEAN), &[], |_| {});
                self.done(&probed, &payload, copied, "ok", Some(last.why))
            }
            "refused" => Err(Failure::Incompatible(format!(
                "{} does not take {}, and nothing was changed: {}",
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

    /// The file that was named, if one was.
    fn early(&self) -> Result<Option<Payload>> {
        if self.host.starts_with('-') {
            return Err(Failure::Usage(format!("{} is no host", self.host)).into());
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
            ("unchanged", _) => output::line(&format!("{shown} is installed there already")),
            ("possible", kind) => output::line(&format!(
                "would {} {shown} ({size}), check it there with its golden vectors, {}, and go back if it does not become healthy",
                if copied {
                    "copy"
                } else {
                    "use what is there of"
                },
                match kind {
                    Kind::Deb => "keep the installed version, install the new, restart the service",
                    Kind::Model => "put it where the service looks for a package",
                }
            )),
            (_, Kind::Deb) => output::line(&format!(
                "{shown} ({size}) is installed: its golden vectors hold there{}",
                match note {
                    Some(note) => format!("; {note}"),
                    None => ", and the service is healthy".into(),
                }
            )),
            (_, Kind::Model) => output::line(&format!(
                "{}: {}",
                shown,
                note.unwrap_or_else(|| {
                    "its golden vectors hold there, and the service listens with it".into()
                })
            )),
        }
    }

    /// Waits for a deploy that goes on, and says what became of one that does not.
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
                "a deploy goes on there ({}): waiting for it",
                last.phase
            ))?;
            return match self.dry_run {
                true => Ok(None),
                false => self.follow(connection, &last.id).map(Some),
            };
        }
        if !last.is_done() {
            self.say(&format!(
                "an earlier deploy was interrupted there ({}): this one completes it",
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

    /// Brings the files that are not there. Whether the payload was one of them.
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
                    "{} did not take {} ({}), and {nothing_yet}: repeat the command",
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
            // It may have begun: the state says so.
            Err(error) if error.is::<Cut>() => return Ok(()),
            Err(error) => return Err(error),
        };
        if answer.get("busy").is_some() {
            bail!(
                "another deploy began on {} just now: repeat the command, which waits for it",
                self.host
            );
        }
        if answer.get("started").is_none() {
            bail!(
                "{} could not begin, and nothing was changed: {}",
                self.host,
                match answer.said() {
                    said if said.is_empty() => "the file changed on its way to root".into(),
                    said => said,
                }
            );
        }
        Ok(())
    }

    /// Reads the state until it is done, through as many connections as that takes.
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
                                "the work on {} ended while {phase}, as by a cut of power: repeat the command, which completes it",
                                self.host
                            );
                        }
                    }
                    // Where the connection broke at the start, it may still begin.
                    None if news.elapsed() < GRACE => {}
                    None => bail!(
                        "{}: the work was not begun, or another deploy came between: repeat the command",
                        self.host
                    ),
                },
                Err(error) if error.is::<Cut>() && news.elapsed() < patience => {
                    // Or the network is gone for a while.
                    if let Ok(again) = Connection::open(&self.target()) {
                        *connection = again;
                    }
                }
                Err(error) => {
                    return Err(error.context(format!(
                        "{} goes on by itself and ends with the old or the new, whole",
                        self.host
                    )));
                }
            }
            if news.elapsed() > patience {
                bail!(
                    "{} has told nothing new for {} seconds ({phase}): it goes on by itself; repeat the command to hear how it ended, /var/lib/sori-deploy/log there says more",
                    self.host,
                    self.patience
                );
            }
            thread::sleep(LOOK);
        }
    }
}

/// How it ended, in words.
fn ended(last: &Last) -> String {
    let Last { outcome, why, .. } = last;
    let log = "/var/lib/sori-deploy/log there says more";
    match outcome.as_str() {
        "ok" => "it succeeded".into(),
        "refused" => format!("it was refused and nothing was changed: {why}"),
        "rolled-back" => format!("{why}; what was there before is back ({log})"),
        _ => format!("{why}; sori-pi does not run there now: deploy a version that works ({log})"),
    }
}

impl Payload {
    fn read(path: PathBuf, kind: Kind) -> Result<Self> {
        let bytes = fs::read(&path)
            .with_context(|| format!("cannot read {}: check the path", path.display()))?;
        // A Debian package is an archive of ar's.
        if kind == Kind::Deb && !bytes.starts_with(b"!<arch>\ndebian-binary") {
            return Err(Failure::Usage(format!(
                "{} is no Debian package: cargo xtask dist makes one",
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

    /// Before a file is copied that its name says is for others. Debian's tools there have the
    /// last word.
    fn check_name(&self, architecture: &str) -> Result<()> {
        let theirs = match self.kind {
            Kind::Deb => architecture_in(&self.path),
            Kind::Model => None,
        };
        match theirs {
            Some(theirs) if theirs != architecture && theirs != "all" => {
                Err(Failure::Incompatible(format!(
                    "{} is for {theirs} and the target is {architecture}: give --deb the one for {architecture}, which cargo xtask dist makes",
                    self.path.display()
                ))
                .into())
            }
            _ => Ok(()),
        }
    }
}

/// What NAME_VERSION_ARCHITECTURE.deb says.
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
            "there is no sori-pi_…_{architecture}.deb in target/dist or beside this program: cargo xtask dist makes it, or name one with --deb"
        ))
        .into()
    })
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A sign of life, which draws nothing unless stderr is a terminal.
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
