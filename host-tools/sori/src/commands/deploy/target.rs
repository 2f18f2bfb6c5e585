//! What a target reports about itself, and whether it is suitable.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::Kind;
use super::ssh::{Answer, Connection};
use crate::exit::Failure;

const PROBE: &str = include_str!("probe.sh");

/// The space needed at each place, by probe.sh's names, in multiples of the .deb's size. Unpacked,
/// it has three times its size.
const DEB_NEEDS: [(&str, u64); 3] = [
    ("upload", 1),
    // Beside the installed version, until installation is complete.
    ("system", 3),
    // Root's copy, the same unpacked for the trial run, and the previous version, repacked.
    ("state", 1 + 3 + (3 + 1)),
];
/// The same for a package alone: root's copy, the backup, and its final place.
const MODEL_NEEDS: [(&str, u64); 2] = [("upload", 1), ("state", 3)];

/// How `sori deploy` gets root privileges.
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
    /// Debian's name for it.
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
    free: Vec<Free>,
    /// SHA-256 of the .deb that is installed.
    #[serde(skip)]
    deployed: Option<String>,
    #[serde(skip)]
    pub(super) last: Option<Last>,
}

/// The free space at one of the places.
#[derive(Debug, Clone)]
struct Free {
    place: &'static str,
    kib: u64,
    /// Places on the same file system share its free space.
    mounted_on: String,
}

impl Free {
    fn of(answer: &Answer, place: &'static str) -> Option<Self> {
        let free = answer.get(&format!("free_{place}"))?;
        let (kib, mounted_on) = free.split_once(' ')?;
        Some(Self {
            place,
            kib: kib.parse().ok()?,
            mounted_on: mounted_on.to_owned(),
        })
    }
}

/// The first file system with too little space for a file of `bytes`, and the KiB needed on it.
fn lacking<'a>(free: &'a [Free], needs: &[(&str, u64)], bytes: usize) -> Option<(&'a Free, u64)> {
    free.iter()
        .map(|here| {
            let is_here = |place: &str| {
                free.iter()
                    .any(|other| other.place == place && other.mounted_on == here.mounted_on)
            };
            let times: u64 = needs
                .iter()
                .filter(|(place, _)| is_here(place))
                .map(|(_, times)| times)
                .sum();
            (here, (bytes as u64 * times).div_ceil(1024))
        })
        .find(|(here, needed_kib)| here.kib < *needed_kib)
}

/// How far an earlier deploy got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) sha256: String,
    pub(super) phase: String,
    pub(super) outcome: String,
    pub(super) why: String,
    /// Whether it is still running.
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
                "sori deploy does not support this system ({}): it needs Raspberry Pi OS or another Debian",
                answer.said()
            ))
            .into());
        }
        let installed = answer.get("installed");
        Ok(Self {
            board: answer.get("board"),
            os: answer.get("os"),
            architecture: answer.get("architecture").ok_or_else(|| {
                Failure::Incompatible(format!(
                    "{} on {} has no dpkg: sori deploy installs a Debian package, so it needs Raspberry Pi OS or another Debian",
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
            free: DEB_NEEDS
                .iter()
                .filter_map(|(place, _)| Free::of(&answer, place))
                .collect(),
            deployed: answer.get("deployed"),
            last: Last::of(&answer),
        })
    }

    /// Whether root privileges are available.
    pub(super) fn check_root(&self) -> Result<()> {
        let user = &self.user;
        match self.root {
            Root::Itself | Root::Sudo => Ok(()),
            Root::SudoAsks => Err(Failure::Usage(format!(
                "sudo asks {user} for a password there, which nobody can type: on the Pi, run `echo '{user} ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_{user}-nopasswd`, or deploy to root@…"
            ))
            .into()),
            Root::NoSudo => Err(Failure::Usage(format!(
                "{user} is not root there and has no sudo: deploy to root@…, or install sudo"
            ))
            .into()),
        }
    }

    /// Whether there is space to install a file of `bytes`.
    pub(super) fn check_space(&self, kind: Kind, bytes: usize) -> Result<()> {
        let needs: &[(&str, u64)] = match kind {
            Kind::Deb => &DEB_NEEDS,
            Kind::Model => &MODEL_NEEDS,
        };
        let Some((free, needed_kib)) = lacking(&self.free, needs, bytes) else {
            return Ok(());
        };
        anyhow::bail!(
            "not enough space on {}: {:.1} MB are free and {:.1} MB are needed; on the Pi, `sudo apt clean` and `sudo journalctl --vacuum-size=10M` free some",
            free.mounted_on,
            free.kib as f64 * 1024.0 / 1e6,
            needed_kib as f64 * 1024.0 / 1e6,
        )
    }

    /// Whether its system is writable.
    pub(super) fn check_writable(&self) -> Result<()> {
        match self.read_only {
            false => Ok(()),
            true => Err(Failure::Incompatible(
                "its system is read-only, like the appliance's, and can only be replaced as a whole: write a new image; --model-only works there".into(),
            )
            .into()),
        }
    }

    /// Whether exactly this .deb is already installed.
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
        let board = self.board.as_deref().unwrap_or("not a Raspberry Pi");
        write!(f, "{board}, {}", self.architecture)?;
        if let Some(os) = &self.os {
            write!(f, ", {os}")?;
        }
        if let Some(glibc) = &self.glibc {
            write!(f, ", glibc {glibc}")?;
        }
        match &self.installed {
            Some(version) => write!(f, "; sori-pi {version}"),
            None => write!(f, "; sori-pi is not installed"),
        }
    }
}

/// A script for `sh`, as one word for any login shell.
pub(super) fn quoted(script: &str) -> String {
    format!("sh -c '{}'", script.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn free(place: &'static str, mib: u64, mounted_on: &str) -> Free {
        Free {
            place,
            kib: mib * 1024,
            mounted_on: mounted_on.into(),
        }
    }

    /// The place that lacks space, and the MiB that it would need.
    fn lacks(free: &[Free], needs: &[(&str, u64)]) -> Option<(&'static str, u64)> {
        lacking(free, needs, MIB).map(|(free, kib)| (free.place, kib / 1024))
    }

    #[test]
    fn places_on_one_file_system_need_the_sum_of_what_each_needs() {
        let on_one = |mib| ["upload", "system", "state"].map(|place| free(place, mib, "/"));
        assert_eq!(lacks(&on_one(12), &DEB_NEEDS), None);
        assert_eq!(lacks(&on_one(11), &DEB_NEEDS), Some(("upload", 12)));
        assert_eq!(lacks(&on_one(4), &MODEL_NEEDS), None);
        assert_eq!(lacks(&on_one(3), &MODEL_NEEDS), Some(("upload", 4)));
    }

    #[test]
    fn a_place_of_its_own_needs_its_part_alone() {
        let places = |upload, system, state| {
            [
                free("upload", upload, "/root/.cache"),
                free("system", system, "/"),
                free("state", state, "/var/lib"),
            ]
        };
        assert_eq!(lacks(&places(1, 3, 8), &DEB_NEEDS), None);
        assert_eq!(lacks(&places(0, 3, 8), &DEB_NEEDS), Some(("upload", 1)));
        assert_eq!(lacks(&places(1, 2, 8), &DEB_NEEDS), Some(("system", 3)));
        assert_eq!(lacks(&places(1, 3, 7), &DEB_NEEDS), Some(("state", 8)));
        // An appliance's system is full, and stays as it is.
        assert_eq!(lacks(&places(1, 0, 3), &MODEL_NEEDS), None);
    }
}
