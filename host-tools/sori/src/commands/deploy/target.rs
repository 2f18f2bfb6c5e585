//! What a target says of itself, and whether that will do.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::ssh::{Answer, Connection};
use crate::exit::Failure;

const PROBE: &str = include_str!("probe.sh");

/// What has to be free on the target beside the file: itself twice more (root's copy, and that of
/// the version before), and unpacked twice (to try it, and installed), at a third of the size each.
const FILE_SIZES: u64 = 9;

/// How the commands of `sori deploy` become root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Itself,
    Sudo,
    SudoAsks,
    NoSudo,
}

/// A target.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Probed {
    /// The model of its device tree.
    pub(super) board: Option<String>,
    pub(super) os: Option<String>,
    /// As Debian calls it.
    pub(super) architecture: String,
    pub(super) glibc: Option<String>,
    /// The version of sori-pi.
    pub(super) installed: Option<String>,
    #[serde(skip)]
    user: String,
    #[serde(skip)]
    root: Root,
    #[serde(skip)]
    read_only: bool,
    #[serde(skip)]
    free_kib: u64,
    /// SHA-256 of the .deb that is installed.
    #[serde(skip)]
    deployed: Option<String>,
    #[serde(skip)]
    pub(super) last: Option<Last>,
}

/// How far an earlier deploy came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) sha256: String,
    pub(super) phase: String,
    pub(super) outcome: String,
    pub(super) why: String,
    /// It goes on at this moment.
    pub(super) running: bool,
}

impl Last {
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let get = |name: &str| answer.get(&format!("last_{name}")).unwrap_or_default();
        Some(Self {
            id: answer.get("last_id")?,
            kind: get("kind"),
            sha256: get("sha256"),
            phase: get("phase"),
            outcome: get("outcome"),
            why: get("why"),
            running: answer.get("running").is_some(),
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == "done"
    }
}

impl Probed {
    pub(super) fn ask(connection: &Connection) -> Result<Self> {
        let answer = connection.run(&quoted(PROBE), &[], |_| {})?;
        if answer.get("complete").is_none() {
            return Err(Failure::Incompatible(format!(
                "this is no system that sori deploy knows ({}): it needs a Raspberry Pi OS or another Debian",
                answer.said()
            ))
            .into());
        }
        let installed = answer.get("installed");
        let free = |name: &str| answer.get(name).and_then(|kib| kib.parse::<u64>().ok());
        let places = ["free_upload_kib", "free_system_kib", "free_state_kib"];
        Ok(Self {
            board: answer.get("board"),
            os: answer.get("os"),
            architecture: answer.get("architecture").ok_or_else(|| {
                Failure::Incompatible(format!(
                    "{} on {} has no dpkg: sori deploy installs a Debian package, so it needs a Raspberry Pi OS or another Debian",
                    answer.get("os").as_deref().unwrap_or("an unknown system"),
                    answer.get("machine").as_deref().unwrap_or("an unknown processor"),
                ))
            })?,
            glibc: answer.get("glibc"),
            installed: installed
                .and_then(|state| state.strip_prefix("installed ").map(str::to_owned)),
            user: answer.get("user").unwrap_or_default(),
            root: match answer.get("root").as_deref() {
                Some("itself") => Root::Itself,
                Some("sudo") => Root::Sudo,
                Some("asks") => Root::SudoAsks,
                _ => Root::NoSudo,
            },
            read_only: answer.get("read_only").is_some(),
            free_kib: places.into_iter().filter_map(free).min().unwrap_or(u64::MAX),
            deployed: answer.get("deployed"),
            last: Last::of(&answer),
        })
    }

    /// Whether root's part can be done at all.
    pub(super) fn check_root(&self) -> Result<()> {
        let user = &self.user;
        match self.root {
            Root::Itself | Root::Sudo => Ok(()),
            Root::SudoAsks => Err(Failure::Usage(format!(
                "sudo asks {user} for a password there, and nobody could type it: on the Pi, `echo '{user} ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_{user}-nopasswd`, or deploy to root@…"
            ))
            .into()),
            Root::NoSudo => Err(Failure::Usage(format!(
                "{user} is not root there and has no sudo: deploy to root@…, or install sudo"
            ))
            .into()),
        }
    }

    /// Whether a file of that many bytes can be installed.
    pub(super) fn check_space(&self, bytes: usize) -> Result<()> {
        let needed_kib = (bytes as u64 * FILE_SIZES).div_ceil(1024);
        if self.free_kib >= needed_kib {
            return Ok(());
        }
        anyhow::bail!(
            "there is no room: {:.1} MB are free and {:.1} are needed; on the Pi, `sudo apt clean` and `sudo journalctl --vacuum-size=10M` give some",
            self.free_kib as f64 * 1024.0 / 1e6,
            needed_kib as f64 * 1024.0 / 1e6,
        )
    }

    /// Whether its system can be written to.
    pub(super) fn check_writable(&self) -> Result<()> {
        match self.read_only {
            false => Ok(()),
            true => Err(Failure::Incompatible(
                "its system is read-only, as an appliance's is, and is replaced as a whole: write a new image; --model-only works there".into(),
            )
            .into()),
        }
    }

    /// Whether exactly this .deb is installed already.
    pub(super) fn has(&self, sha256: &str) -> bool {
        self.installed.is_some() && self.deployed.as_deref() == Some(sha256)
    }

    pub(super) fn sudo(&self) -> &'static str {
        match self.root {
            Root::Itself => "",
            _ => "sudo -n ",
        }
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let board = self.board.as_deref().unwrap_or("no Raspberry Pi");
        write!(f, "{board}, {}", self.architecture)?;
        if let Some(os) = &self.os {
            write!(f, ", {os}")?;
        }
        if let Some(glibc) = &self.glibc {
            write!(f, ", glibc {glibc}")?;
        }
        match &self.installed {
            Some(version) => write!(f, "; sori-pi {version}"),
            None => write!(f, "; no sori-pi yet"),
        }
    }
}

/// A script as one word for whatever shell a login has, for `sh` to run.
pub(super) fn quoted(script: &str) -> String {
    format!("sh -c '{}'", script.replace('\'', r"'\''"))
}
