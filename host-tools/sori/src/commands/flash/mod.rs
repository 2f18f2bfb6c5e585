//! `sori flash`: a system onto a board.
//!
//! `pico2` is the microcontroller. The rest prepares Raspberry Pi OS, as a file or on a card, so
//! that its first start ends in Sori listening: `image` is where the bytes come from and `boot`
//! the files of its boot partition, edited in memory through `cow`; `os` tells what it is,
//! `settings` what a person chose, and `first_boot` which files follow from both, with `config`
//! and `cloud_config` for those that exist. `device` knows the disks of this computer, and
//! `burn` writes to one and proves it.

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

/// Put Sori onto a card for a Raspberry Pi, or the firmware onto a microcontroller.
#[derive(Debug, Args)]
#[command(after_help = "\
A Raspberry Pi: an image of Raspberry Pi OS (.img, .img.xz) to a prepared image, or to a card; or
a card that it was written to already, with Raspberry Pi Imager say. What they were prepared with
stays, unless another is given. Sori's own appliance (cargo xtask image) is written as it is.

  sori flash raspios.img.xz --out sori.img
  sori flash raspios.img.xz --to /dev/sdb --ssh-key ~/.ssh/id_ed25519.pub --wifi home --country DE
  sori flash /dev/sdb
  sori flash target/image/sori-appliance-arm64.img --to /dev/sdb

A Raspberry Pi Pico 2: without a place it looks for the board's drive (hold BOOTSEL while you plug
the board in); probe is a debug probe, through probe-rs. A file that ends in .uf2 is written, to be
copied to such a drive.

  sori flash --board pico2 [DRIVE|probe|FILE.uf2]")]
pub(crate) struct Flash {
    /// The microcontroller; without it, a Raspberry Pi
    #[arg(long)]
    board: Option<Board>,
    /// An image of Raspberry Pi OS, or a card with it; with --board, the board's drive, `probe` or FILE.uf2
    #[arg(value_name = "IMAGE|DEVICE")]
    place: Option<PathBuf>,
    /// The firmware as cargo builds it
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

/// For people, in the units that cards are sold in.
fn size(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|&(unit, _)| bytes as f64 >= unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} bytes"),
    }
}
