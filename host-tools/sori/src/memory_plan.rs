//! Parses sizes, and prints memory plans.

use std::io;

use anyhow::{Result, bail};
use serde::Serialize;
use sori_nn::Prepared;
use sori_package::write::PackageBytes;
use sori_package::{BlockPlan, Package};
use sori_plan::{MemoryPlan, PlanLine};

use crate::exit::Failure;
use crate::output;

/// Bytes: `49152`, `48K`, `48KiB`, `1M`; K is 1024 bytes.
pub(crate) fn size(text: &str) -> Result<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        _ => 0,
    };
    let number = digits.trim_end().parse::<usize>().ok();
    match number.and_then(|number| number.checked_mul(unit)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => bail!("not a size: write bytes, such as 49152, or 48K, 48KiB, 1M"),
    }
}

/// A plan, for printing and JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    arena_bytes: usize,
    /// Approximate, on a Cortex-M4, for a clip of nominal length, from counted work.
    instructions: u64,
    /// Additional instructions, in percent of those at full speed.
    cost_percent: f64,
    parts: Vec<PlanLine>,
}

impl Summary {
    pub(crate) fn new(package: &Package<'_>, plan: &MemoryPlan) -> Self {
        Self {
            arena_bytes: plan.arena_bytes,
            instructions: plan.instructions,
            cost_percent: 100.0 * plan.cost(),
            parts: sori_plan::lines(package, &plan.entries),
        }
    }

    /// The plan that a package carries.
    pub(crate) fn of(package: &Package<'_>) -> Option<Self> {
        let plan = sori_plan::assess(package, package.plan()?);
        Some(Self::new(package, &plan))
    }

    pub(crate) fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut table = output::table(&[
            "memory plan",
            "rows kept",
            "expanded",
            "channels at a time",
            "state B",
            "scratch B",
        ]);
        for part in &self.parts {
            let [group, channels] = part.group;
            table.add_row([
                part.part.clone(),
                part.kept_rows
                    .map_or(String::new(), |rows| format!("{rows} of 2")),
                part.expansions_percent.map_or(String::new(), |percent| {
                    format!("{}×", percent as f64 / 100.0)
                }),
                match group == channels {
                    true => "all".into(),
                    false => format!("{group} of {channels}"),
                },
                part.state_bytes.to_string(),
                part.scratch_bytes.to_string(),
            ]);
        }
        output::align_right(&mut table, &[1, 2, 3, 4, 5]);
        writeln!(out, "{table}\n")?;
        writeln!(
            out,
            "arena {} bytes, row by row on a microcontroller; {:+.1} % instructions compared with full speed",
            self.arena_bytes, self.cost_percent
        )
    }
}

/// The package with the fastest plan that fits an arena, and the plan.
///
/// Golden vectors, if there are any, are verified with that plan.
pub(crate) fn fit(bytes: &PackageBytes, arena_bytes: usize) -> Result<(PackageBytes, MemoryPlan)> {
    let package = Package::parse(bytes)?;
    let plan = sori_plan::plan(&package, arena_bytes)
        .map_err(|too_small| Failure::Gate(too_small.to_string()))?;
    let planned = with(bytes, Some(&plan.entries))?;
    Ok((planned, plan))
}

/// The package with a plan, or without any, verified by its golden vectors.
pub(crate) fn with(bytes: &PackageBytes, plan: Option<&[BlockPlan]>) -> Result<PackageBytes> {
    let planned = sori_plan::planned(bytes, plan)?;
    let package = Package::parse(&planned)?;
    if package.golden().is_some() {
        sori_host::verify(Prepared::from(&package)).map_err(|mismatch| {
            anyhow::anyhow!(
                "the planned network computes different bits: this is a bug in Sori, please report it ({mismatch})"
            )
        })?;
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("49152", 49_152),
            ("48K", 49_152),
            ("48k", 49_152),
            ("48KiB", 49_152),
            ("48 KiB", 49_152),
            ("1M", 1 << 20),
            ("7b", 7),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            "K",
            "0",
            "-1",
            "4.5K",
            "48Q",
            "48KK",
            "99999999999999999999",
            "9999999999999999M",
        ] {
            let error = size(text).unwrap_err().to_string();
            assert!(error.contains("48KiB"), "{text}: {error}");
        }
    }
}
