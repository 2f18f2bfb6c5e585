//! `sori flash`: writes a system to a board.
//!
//! `pico2` is the microcontroller. The rest prepares Raspberry Pi OS, as a file or on a card, so
//! that its first boot installs Sori: `image` reads the source and `boot` the files of its boot
//! partition, edited in memory through `cow`; `os` identifies the system, `settings` holds the
//! user's choices, and `first_boot` derives the files from both, with `config` and `cloud_config`
//! for existing ones. `device` examines the disks of this computer, and `burn` writes to one and
//! verifies it.

mod boot;
#[cfg(target_os = "linux")]
mod burn;
mod cloud_config;
mod config;
mod cow;
#[cfg(target_os = "linux")]
mod device;
mod first_boot;
mod image;
mod os;
mod pi;
mod pico2;
mod settings;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

/// Prepare a Raspberry Pi card, or flash a microcontroller.
#[derive(Debug, Args)]
#[command(after_help = "\
Raspberry Pi: takes an image of Raspberry Pi OS (.img, .img.xz) and writes the prepared image to a
file or card; or prepares a card that already holds it, for example from Raspberry Pi Imager. Earlier
settings are kept unless given again. Sori's own appliance (cargo xtask image) is written unchanged.

  sori flash raspios.img.xz --out sori.img
  sori flash raspios.img.xz --to /dev/sdb --ssh-key ~/.ssh/id_ed25519.pub --wifi home --country DE
  sori flash /dev/sdb
  sori flash target/image/sori-appliance-arm64.img --to /dev/sdb

Raspberry Pi Pico 2: finds the board's drive (hold BOOTSEL while you plug the board in) unless one is
given. `probe` flashes through a debug probe, with probe-rs; FILE.uf2 writes a file to copy to such a
drive later.

  sori flash --board pico2 [DRIVE|probe|FILE.uf2]")]
pub(crate) struct Flash {
    /// Flash this microcontroller instead of preparing a Raspberry Pi
    #[arg(long)]
    board: Option<Board>,
    /// An image of Raspberry Pi OS, or a card with it; with --board: a drive, `probe` or FILE.uf2
    #[arg(value_name = "IMAGE|DEVICE")]
    place: Option<PathBuf>,
    /// The firmware, as built by cargo
    #[arg(
        long,
        value_name = "ELF",
        requires = "board",
        default_value = "firmware/target/thumbv8m.main-none-eabihf/release/sori-pico2"
    )]
    firmware: PathBuf,
    #[command(flatten)]
    pi: pi::Pi,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Board {
    /// Raspberry Pi Pico 2
    Pico2,
}

impl Flash {
    pub(crate) fn run(self) -> Result<()> {
        match (self.board, self.place) {
            (Some(Board::Pico2), place) => pico2::run(&self.firmware, place),
            (None, Some(place)) => self.pi.run(&place),
            (None, None) => Err(settings::usage(
                "nothing to flash: name an image of Raspberry Pi OS or a card, or give --board"
                    .to_owned(),
            )),
        }
    }
}

/// A human-readable size, in the units that cards are sold in.
fn size(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|&(unit, _)| bytes as f64 >= unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} bytes"),
    }
}
