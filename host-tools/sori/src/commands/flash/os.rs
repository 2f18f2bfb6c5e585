//! Identifies the operating system of a boot partition.

use std::fmt;
use std::io::{Read, Seek};

use anyhow::{Result, bail};

use super::boot::Boot;

/// The first release based on Bookworm, whose glibc is the oldest that sori-pi supports.
const BOOKWORM: &str = "2023-10-10";
/// The label of the appliance's boot partition. Its `fstab` relies on it, so that a partition
/// without it cannot be the appliance's.
const APPLIANCE: &str = "SORI-BOOT";
/// The start of pi-gen's `issue.txt`; the release date follows.
const ISSUE: &str = "Raspberry Pi reference ";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct System {
    /// `2025-10-01`, say.
    pub(super) release: String,
    pub(super) architecture: Architecture,
    pub(super) first_boot: FirstBoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    Arm64,
    Armhf,
}

impl Architecture {
    /// Debian's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::Armhf => "armhf",
        }
    }
}

/// The mechanism that sets up the system at its first boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstBoot {
    /// Since Trixie: `user-data`, `network-config` and `meta-data` (NoCloud).
    CloudInit,
    /// Bookworm: a script that the kernel's command line has systemd run.
    FirstRun,
}

/// Whether it is Sori's own appliance (`firmware/appliance`), which already has everything that
/// `sori flash` would add.
pub(super) fn is_appliance<D: Read + Seek>(boot: &Boot<'_, D>) -> Result<bool> {
    Ok(boot.label()?.as_deref() == Some(APPLIANCE))
}

impl System {
    pub(super) fn detect<D: Read + Seek>(boot: &Boot<'_, D>) -> Result<Self> {
        let issue = boot.read("issue.txt")?.unwrap_or_default();
        let issue = String::from_utf8_lossy(&issue);
        let Some(release) = issue.strip_prefix(ISSUE).and_then(|rest| rest.get(..10)) else {
            bail!(
                "it is neither Raspberry Pi OS (no issue.txt of it on the boot partition) nor Sori's own appliance, and no other system is supported"
            );
        };
        // ISO 8601 dates sort as text.
        if release < BOOKWORM {
            bail!(
                "it is Raspberry Pi OS of {release}: sori-pi needs {BOOKWORM} (Bookworm) or later"
            );
        }
        // Only 32-bit systems ship kernels for 32-bit boards.
        let architecture = match (boot.has("kernel7.img"), boot.has("kernel8.img")) {
            (true, _) => Architecture::Armhf,
            (false, true) => Architecture::Arm64,
            (false, false) => bail!(
                "the boot partition has no kernel (kernel7.img or kernel8.img): write the image again"
            ),
        };
        let first_boot = if boot.has("meta-data") && boot.has("user-data") {
            FirstBoot::CloudInit
        } else {
            FirstBoot::FirstRun
        };
        Ok(Self {
            release: release.to_owned(),
            architecture,
            first_boot,
        })
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.architecture {
            Architecture::Arm64 => 64,
            Architecture::Armhf => 32,
        };
        let by = match self.first_boot {
            FirstBoot::CloudInit => "cloud-init",
            FirstBoot::FirstRun => "firstrun.sh",
        };
        write!(
            f,
            "Raspberry Pi OS of {}, {bits}-bit, set up by {by}",
            self.release
        )
    }
}
