//! `sori plan`: the cost of running a package in less memory, and the package with such a plan.

use std::io;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::memory_plan::{Summary, fit, size, with};
use crate::output::Shown as _;
use crate::{output, package};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sori plan model.sori                                  what each arena size costs
  sori plan model.sori --arena 48K --out small.sori     the fastest package that fits
  sori plan small.sori --full-speed --out model.sori    remove the plan again")]
pub(crate) struct Plan {
    /// The package [default: the built-in genre model]
    #[arg(value_name = "FILE.sori")]
    model: Option<PathBuf>,
    /// Bytes available for the arena: 49152, 48K, 48KiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    arena: Option<usize>,
    /// Remove the plan: the most memory, the fewest instructions
    #[arg(long, conflicts_with = "arena", requires = "out")]
    full_speed: bool,
    /// The package to write; it computes the same bits
    #[arg(long, value_name = "FILE.sori")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA_VERSION: u32 = 1;

/// Number of sizes in the trade-off.
const STEPS: usize = 12;

#[derive(Debug, Serialize)]
struct Planned {
    schema_version: u32,
    package_bytes: usize,
    #[serde(flatten)]
    plan: Summary,
}

#[derive(Debug, Serialize)]
struct TradeOff {
    schema_version: u32,
    plans: Vec<Offer>,
}

#[derive(Debug, Serialize)]
struct Offer {
    arena_bytes: usize,
    instructions: u64,
    cost_percent: f64,
}

impl Plan {
    pub(crate) fn run(self) -> Result<()> {
        let bytes = package::read_or_built_in(self.model.as_deref())?;
        let package = package::parse(&bytes, package::name(self.model.as_deref()))?;
        let write = |bytes: &[u8]| match &self.out {
            Some(out) => {
                output::write_atomically(out, bytes)?;
                match self.json {
                    true => Ok(()),
                    false => output::line(&format!("wrote {}", out.shown())),
                }
            }
            None => Ok(()),
        };
        if self.full_speed {
            return write(&with(&bytes, None)?);
        }
        let Some(arena) = self.arena else {
            if self.out.is_some() {
                return Err(crate::exit::Failure::Usage(
                    "--out needs a plan to write: give --arena SIZE or --full-speed".into(),
                )
                .into());
            }
            return self.offer(&package);
        };
        let (planned, plan) = fit(&bytes, arena)?;
        let summary = Summary::new(&package, &plan);
        if self.json {
            output::line(&serde_json::to_string(&Planned {
                schema_version: SCHEMA_VERSION,
                package_bytes: planned.len(),
                plan: summary,
            })?)?;
        } else {
            summary.print(&mut io::stdout())?;
        }
        write(&planned)
    }

    /// Shows what each arena size costs.
    fn offer(&self, package: &sori_package::Package<'_>) -> Result<()> {
        let offers = sori_plan::trade_off(package, STEPS).into_iter();
        let plans: Vec<Offer> = offers
            .map(|plan| Offer {
                arena_bytes: plan.arena_bytes,
                instructions: plan.instructions,
                cost_percent: 100.0 * plan.cost(),
            })
            .collect();
        if self.json {
            return output::line(&serde_json::to_string(&TradeOff {
                schema_version: SCHEMA_VERSION,
                plans,
            })?);
        }
        let mut table = output::table(&["arena, bytes", "instructions", "vs full speed"]);
        for plan in &plans {
            table.add_row([
                plan.arena_bytes.to_string(),
                format!("{:.2} million", plan.instructions as f64 / 1e6),
                format!("{:+.1} %", plan.cost_percent),
            ]);
        }
        output::align_right(&mut table, &[0, 1, 2]);
        output::line(&format!(
            "{table}\n\nrow by row on a microcontroller, {} rows; approximate Cortex-M4 instructions, from counted work",
            package.nominal_rows()
        ))
    }
}
