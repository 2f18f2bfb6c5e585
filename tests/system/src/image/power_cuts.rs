//! The appliance's power is cut again and again, and nothing that was kept may be gone.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use fastrand::Rng;
use serde_json::Value;

use super::hardware::Hardware;
use super::machine::Machine;
use super::{BOOT, DATA, Partition, SYSTEM};
use crate::sound::GENRE;

const CUTS: u64 = 20;

/// What a file system says that cannot be mended without being asked.
const QUESTIONS: [&str; 3] = [
    "UNEXPECTED INCONSISTENCY",
    "RUN fsck MANUALLY",
    "emergency mode",
];

pub(super) fn check(image: &Path) -> anyhow::Result<()> {
    println!("\n── {CUTS} power cuts");
    let started = Instant::now();
    let trial = Trial {
        hardware: Hardware::with(image, "power-cuts")?,
        chance: Rng::with_seed(1),
        kept: Vec::new(),
        start: Duration::ZERO,
    };
    trial.run()?;
    println!("   {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

struct Trial {
    hardware: Hardware,
    chance: Rng,
    /// Rows that its history has shown.
    kept: Vec<Value>,
    /// From power-on until it listened, the last time.
    start: Duration,
}

impl Trial {
    fn run(mut self) -> anyhow::Result<()> {
        let before = [self.content(&BOOT)?, self.content(&SYSTEM)?];
        for number in 1..=CUTS {
            // One in four while it starts, the others while it listens and writes.
            let said = if number > 1 && self.chance.u64(..4) == 0 {
                self.cut_at_start()?
            } else {
                self.cut_while_listening()?
            };
            self.asks_nothing(number)?;
            println!("   cut {number} {said}");
        }
        self.cut_while_listening()?;
        ensure!(
            self.kept.iter().any(|row| row["verdict"] == GENRE),
            "{GENRE} was played, but it heard: {:?}",
            self.kept.last()
        );
        ensure!(
            before == [self.content(&BOOT)?, self.content(&SYSTEM)?],
            "boot partition or system were written"
        );
        println!(
            "   {} rows were shown before a cut, and all of them were there after it",
            self.kept.len()
        );
        Ok(())
    }

    fn cut_at_start(&mut self) -> anyhow::Result<String> {
        let machine = Machine::start(&self.hardware)?;
        let after = self.start.mul_f64(self.chance.f64());
        thread::sleep(after);
        let lost = machine.cut(&mut self.chance)?;
        Ok(format!(
            "{:.1} s after power-on: {lost} writes were under way",
            after.as_secs_f64()
        ))
    }

    /// Nothing that was shown before may be missing; what is shown now is remembered.
    fn cut_while_listening(&mut self) -> anyhow::Result<String> {
        let mut machine = Machine::start(&self.hardware)?;
        self.start = machine.until_it_listens()?;
        let until = Instant::now() + Duration::from_millis(4_000 + self.chance.u64(..16_000));
        let mut first = true;
        while first || Instant::now() < until {
            if let Some(rows) = machine.rows()? {
                let lost = self.kept.iter().find(|row| !rows.contains(row));
                ensure!(lost.is_none(), "a row that was shown is lost: {lost:?}");
                self.kept.extend(rows.into_iter().skip(self.kept.len()));
                first = false;
            }
            thread::sleep(Duration::from_millis(200));
        }
        let console = fs::read(machine.console())?;
        let console = String::from_utf8_lossy(&console).into_owned();
        for question in QUESTIONS {
            ensure!(!console.contains(question), "the boot asks: {question}");
        }
        let lost = machine.cut(&mut self.chance)?;
        Ok(format!(
            "while it listened, {:.0} s after power-on: {lost} writes were under way, {} rows so far",
            self.start.as_secs_f64(),
            self.kept.len()
        ))
    }

    /// The data partition mends itself, and without questions.
    fn asks_nothing(&self, number: u64) -> anyhow::Result<()> {
        let copy = self.hardware.folder.join("data.copy");
        let mut card = File::open(&self.hardware.disk)?;
        card.seek(SeekFrom::Start(DATA.start))?;
        let mut to = File::create(&copy)?;
        to.set_len(DATA.bytes)?;
        super::copy_with_holes(&mut card, &mut to)?;
        let output = Command::new("e2fsck").arg("-p").arg(&copy).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // 1: mended.
        ensure!(
            matches!(output.status.code(), Some(0 | 1)),
            "after cut {number} fsck needs answers to repair the data partition:\n{said}"
        );
        fs::remove_file(copy)?;
        Ok(())
    }

    /// A partition's bytes, in short.
    fn content(&self, partition: &Partition) -> anyhow::Result<u64> {
        let mut card = File::open(&self.hardware.disk)?;
        card.seek(SeekFrom::Start(partition.start))?;
        let mut rest = card.take(partition.bytes);
        let mut block = vec![0; 1 << 20];
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        loop {
            let read = rest.read(&mut block)?;
            if read == 0 {
                return Ok(hash);
            }
            // FNV-1a, eight bytes at a time.
            for word in block[..read].chunks(8) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
}
