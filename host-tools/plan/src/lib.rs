//! The fastest memory plan that fits a given arena, for a network that runs row by row: which rows of
//! its expanded tensor each block keeps, and how many channels it processes together.
//!
//! State adds up over blocks; scratch is shared, so only the largest counts. For
//! each size that this largest scratch can have, every block takes its widest group that fits. What
//! remains is a multiple-choice knapsack over the rows that are kept, solved exactly on the Pareto
//! frontier of bytes and instructions.
//!
//! ```
//! use sori_package::Package;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bytes = sori_nn::testing::benchmark_network("a").expect("one of the three");
//! let plan = sori_plan::plan(&Package::parse(&bytes)?, 48 * 1024)?;
//! assert!(plan.arena_bytes <= 48 * 1024);
//! let planned = sori_plan::planned(&bytes, Some(&plan.entries))?;
//! assert_eq!(Package::parse(&planned)?.prologue().arena_bytes(1), plan.arena_bytes);
//! # Ok(()) }
//! ```
//!
//! # What it will not do
//! Run the network, read files, or plan for stripes of more than one row and backends that pack
//! their weights: those run on machines with enough memory.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use std::fmt;

use serde::Serialize;
use sori_nn::memory::{self, Footprint, Work};
use sori_nn::{BlockShape, Network, stripe_sizes};
use sori_package::write::{PackageBytes, Sizes, with_plan};
use sori_package::{BlockPlan, Package, TensorShape};

/// Channels of a group are a multiple of this: what kernels take together.
const GROUP_MULTIPLE: u16 = 4;

/// A way to run a network a row at a time, on a backend that reads its weights in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// One entry for each block, then one for the head.
    pub entries: Vec<BlockPlan>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Estimated instructions that a Cortex-M4 spends on a nominal clip.
    pub instructions: u64,
    /// The same at full speed, with all rows kept and no groups.
    pub full_speed: u64,
}

impl MemoryPlan {
    /// The slowdown, as a share of the time at full speed.
    pub fn cost(&self) -> f64 {
        self.instructions as f64 / self.full_speed as f64 - 1.0
    }
}

/// No plan fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooSmall {
    /// Bytes available.
    pub arena_bytes: usize,
    /// The plan that needs the fewest bytes.
    pub smallest: MemoryPlan,
    /// The largest share of the channels, in eighths, with which a plan would fit.
    pub channels_in_eighths: Option<u16>,
    /// The widest input row, with the same channels, for which a plan would fit.
    pub width: Option<u16>,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needed = self.smallest.arena_bytes;
        write!(
            f,
            "no plan fits {} bytes: the smallest arena for this network is {needed}, {} more",
            self.arena_bytes,
            needed - self.arena_bytes
        )?;
        match (self.channels_in_eighths, self.width) {
            (Some(eighths), width) => {
                write!(
                    f,
                    "; train it with {} times the channels",
                    f64::from(eighths) / 8.0
                )?;
                if let Some(width) = width {
                    write!(f, " or with input rows of {width}")?;
                }
                f.write_str(", or allow more")
            }
            (None, Some(width)) => {
                write!(f, "; train it with input rows of {width}, or allow more")
            }
            (None, None) => f.write_str("; allow more"),
        }
    }
}

impl std::error::Error for TooSmall {}

/// The fastest plan whose arena has at most so many bytes.
///
/// # Errors
/// [`TooSmall`], saying what would fit.
pub fn plan(package: &Package<'_>, arena_bytes: usize) -> Result<MemoryPlan, Box<TooSmall>> {
    let problem = Problem::new(package);
    if let Some(plan) = problem.fastest(arena_bytes) {
        debug_assert_eq!(arena_of(package, &plan.entries), plan.arena_bytes);
        return Ok(plan);
    }
    let fits = |problem: &Problem| problem.smallest().arena_bytes <= arena_bytes;
    let width = package.input().width;
    let narrower = (1..=16).rev().map(|n| width * n / 16);
    Err(Box::new(TooSmall {
        arena_bytes,
        channels_in_eighths: (1..8).rev().find(|&n| fits(&problem.scaled(n, 8))),
        width: narrower
            .filter(|&width| width >= 8)
            .find(|&narrow| fits(&problem.narrowed(narrow, width))),
        smallest: problem.smallest(),
    }))
}

/// The cost of a plan for this network.
pub fn assess(package: &Package<'_>, entries: &[BlockPlan]) -> MemoryPlan {
    Problem::new(package).plan(entries.to_vec())
}

/// Pareto-optimal plans from full speed to the smallest arena; at
/// most `count`, in equal steps of bytes.
pub fn trade_off(package: &Package<'_>, count: usize) -> Vec<MemoryPlan> {
    let problem = Problem::new(package);
    let (smallest, largest) = (problem.smallest().arena_bytes, problem.largest());
    let steps = (count.max(2) - 1) as u64;
    let mut plans: Vec<MemoryPlan> = (0..=steps)
        .filter_map(|n| {
            let between = (largest - smallest) as u64 * n / steps;
            problem.fastest(smallest + between as usize)
        })
        .collect();
    plans.dedup_by(|a, b| a.instructions == b.instructions);
    plans
}

/// The package with the given plan, or without one, and its prologue's sizes updated.
///
/// # Errors
/// Those of [`with_plan`].
pub fn planned(
    bytes: &[u8],
    entries: Option<&[BlockPlan]>,
) -> Result<PackageBytes, sori_package::Error> {
    let stated = |sizes| with_plan(bytes, entries, sizes);
    let draft = stated(Sizes::default())?;
    let package = Package::parse(&draft)?;
    let frontend_bytes = Package::parse(&PackageBytes::copy_from(bytes))?
        .prologue()
        .frontend_bytes();
    stated(Sizes {
        arena: stripe_sizes(&package),
        frontend_bytes: frontend_bytes as u32,
    })
}

/// One line of a printed plan: a block, or the head, and its part of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanLine {
    /// `block 3`, `head`.
    pub part: String,
    /// Expanded rows kept, of two; `None` for the head.
    pub kept_rows: Option<u16>,
    /// Channels processed together, and the total.
    pub group: [u16; 2],
    /// Bytes kept between rows.
    pub state_bytes: usize,
    /// Bytes needed while it runs.
    pub scratch_bytes: usize,
    /// How often each expanded row is computed, times 100.
    pub expansions_percent: Option<u64>,
}

/// A plan, part by part.
pub fn lines(package: &Package<'_>, entries: &[BlockPlan]) -> Vec<PlanLine> {
    let problem = Problem::new(package);
    let parts = problem.parts.iter().zip(entries).enumerate();
    let line = |(n, (part, &entry)): (usize, (&Part, &BlockPlan))| {
        let footprint = part.footprint(entry);
        let (kept_rows, expansions_percent) = match part.kind {
            Kind::Block(shape) => {
                let stride = u64::from(shape.spatial.stride_time);
                let rows = (3 - u64::from(entry.kept_rows)).max(stride);
                (
                    Some(entry.kept_rows),
                    shape.expands.then_some(100 * rows / stride),
                )
            }
            Kind::Head { .. } => (None, None),
        };
        PlanLine {
            part: match part.kind {
                Kind::Block(_) => format!("block {n}"),
                Kind::Head { .. } => "head".into(),
            },
            kept_rows,
            group: [entry.group, part.channels()],
            state_bytes: footprint.state_bytes,
            scratch_bytes: footprint.scratch_bytes,
            expansions_percent,
        }
    };
    parts.map(line).collect()
}

fn arena_of(package: &Package<'_>, entries: &[BlockPlan]) -> usize {
    let prepared = sori_nn::Prepared::from(package).with_plan(Some(entries));
    prepared.map_or(0, |prepared| Network::arena_bytes(&prepared, 1))
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Block(BlockShape),
    Head {
        input: TensorShape,
        channels: u16,
        classes: usize,
        splits: bool,
    },
}

/// A block or the head.
#[derive(Debug, Clone, Copy)]
struct Part {
    kind: Kind,
    /// Output rows for a nominal clip.
    rows: u64,
}

impl Part {
    fn footprint(&self, entry: BlockPlan) -> Footprint {
        match &self.kind {
            Kind::Block(shape) => memory::block_footprint(shape, entry),
            &Kind::Head {
                input,
                channels,
                classes,
                splits,
            } => {
                let footprint = memory::head_footprint(input, channels, classes, entry.group);
                match splits {
                    true => footprint,
                    // The pool reads the block's rows.
                    false => Footprint {
                        scratch_bytes: input.row_len(),
                        ..footprint
                    },
                }
            }
        }
    }

    fn channels(&self) -> u16 {
        match self.kind {
            Kind::Block(shape) => shape.expanded.channels,
            Kind::Head { channels, .. } => channels,
        }
    }

    /// Without groups.
    fn whole(&self) -> BlockPlan {
        match self.kind {
            Kind::Block(shape) => shape.whole(),
            Kind::Head { channels, .. } => BlockPlan {
                kept_rows: 0,
                group: channels,
            },
        }
    }

    /// Numbers of kept rows worth considering.
    fn kept(&self) -> std::ops::RangeInclusive<u16> {
        match self.kind {
            Kind::Block(shape) if shape.expands => 0..=2,
            Kind::Block(_) => 2..=2,
            Kind::Head { .. } => 0..=0,
        }
    }

    /// Group sizes worth considering, widest first: for each number of groups the most even one.
    fn groups(&self) -> Vec<u16> {
        let channels = self.channels();
        let splits = match self.kind {
            Kind::Block(shape) => shape.expands,
            Kind::Head { splits, .. } => splits,
        };
        if !splits {
            return vec![channels];
        }
        let even = |n: u16| channels.div_ceil(n).next_multiple_of(GROUP_MULTIPLE);
        let mut groups: Vec<u16> = (2..=channels).map(even).collect();
        groups.insert(0, channels);
        groups.retain(|&group| group <= channels);
        groups.dedup();
        groups
    }

    /// For each number of kept rows, the fastest choice within the given scratch.
    fn choices(&self, scratch: usize) -> Vec<Choice> {
        let fits = |kept_rows| {
            self.groups().into_iter().find_map(|group| {
                let entry = BlockPlan { kept_rows, group };
                let footprint = self.footprint(entry);
                (footprint.scratch_bytes <= scratch).then(|| Choice {
                    entry,
                    bytes: footprint.state_bytes,
                    instructions: footprint.work.times(self.rows).instructions(),
                })
            })
        };
        self.kept().filter_map(fits).collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    entry: BlockPlan,
    bytes: usize,
    instructions: u64,
}

/// A network's memory use.
#[derive(Debug, Clone)]
struct Problem {
    parts: Vec<Part>,
    /// Bytes that no plan changes: kept, and the stem's scratch.
    fixed: [usize; 2],
    /// Instructions that no plan changes: the stem's.
    stem: u64,
}

impl Problem {
    fn new(package: &Package<'_>) -> Self {
        let stem = package.stem();
        let mut rows = package.nominal_rows() as u64;
        if let Some(spatial) = stem.spatial {
            rows = spatial.output_rows(rows);
        }
        let stem = memory::stem_work(&stem).times(rows).instructions();
        let mut parts: Vec<Part> = package
            .blocks()
            .map(|block| {
                rows = block.spatial().output_rows(rows);
                Part {
                    kind: Kind::Block(BlockShape::from(&block)),
                    rows,
                }
            })
            .collect();
        let classifier = package.classifier();
        parts.push(Part {
            kind: Kind::Head {
                input: package.head().map_or(classifier.input, |head| head.input),
                channels: classifier.input.channels,
                classes: classifier.classes,
                splits: package.head().is_some(),
            },
            rows,
        });
        Self {
            parts,
            fixed: memory::fixed_bytes(package),
            stem,
        }
    }

    /// The network with every number of channels times `part / of`, at least 8 and a multiple of 8 as
    /// width multipliers make them.
    fn scaled(&self, part: u16, of: u16) -> Self {
        let channels = |c: u16| {
            let scaled = u32::from(c) * u32::from(part) / u32::from(of);
            ((scaled as u16 + 4) / 8 * 8).clamp(8, c.max(8))
        };
        self.with_shapes(self.fixed, &|shape| TensorShape {
            channels: channels(shape.channels),
            ..shape
        })
    }

    /// The network for narrower input rows.
    fn narrowed(&self, part: u16, of: u16) -> Self {
        let narrow = |n: usize| n * usize::from(part) / usize::from(of);
        // The stem's history and scratch are nearly all that is fixed, and as wide as the input.
        let fixed = [self.fixed[0], narrow(self.fixed[1])];
        self.with_shapes(fixed, &|shape| TensorShape {
            width: (narrow(shape.width.into()) as u16).max(1),
            ..shape
        })
    }

    fn with_shapes(&self, fixed: [usize; 2], change: &dyn Fn(TensorShape) -> TensorShape) -> Self {
        let part = |part: &Part| Part {
            kind: match part.kind {
                Kind::Block(shape) => Kind::Block(BlockShape {
                    input: change(shape.input),
                    expanded: change(shape.expanded),
                    filtered: change(shape.filtered),
                    output: change(shape.output),
                    ..shape
                }),
                Kind::Head {
                    input,
                    channels,
                    classes,
                    splits,
                } => Kind::Head {
                    input: change(input),
                    channels: change(TensorShape { channels, ..input }).channels,
                    classes,
                    splits,
                },
            },
            ..*part
        };
        Self {
            parts: self.parts.iter().map(part).collect(),
            fixed,
            stem: self.stem,
        }
    }

    fn full_speed(&self) -> u64 {
        let of = |part: &Part| {
            let work = match part.kind {
                Kind::Head {
                    input,
                    channels,
                    classes,
                    splits: true,
                } => memory::head_work(input, channels, classes),
                _ => part.footprint(part.whole()).work,
            };
            work.times(part.rows)
        };
        let works = self.parts.iter().map(of);
        self.stem + works.fold(Work::default(), Work::plus).instructions()
    }

    /// Bytes of full speed.
    fn largest(&self) -> usize {
        let footprints = self.parts.iter().map(|part| part.footprint(part.whole()));
        let [kept, scratch] = footprints.fold(self.fixed, |[kept, scratch], footprint| {
            [
                kept + footprint.state_bytes,
                scratch.max(footprint.scratch_bytes),
            ]
        });
        kept + scratch
    }

    /// All possible scratch sizes, ascending.
    fn scratches(&self) -> Vec<usize> {
        let mut sizes = vec![self.fixed[1]];
        for part in &self.parts {
            for kept_rows in part.kept() {
                let groups = part.groups().into_iter();
                sizes.extend(groups.map(|group| {
                    let footprint = part.footprint(BlockPlan { kept_rows, group });
                    footprint.scratch_bytes.max(self.fixed[1])
                }));
            }
        }
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    fn plan(&self, entries: Vec<BlockPlan>) -> MemoryPlan {
        let [mut kept, mut scratch] = self.fixed;
        let mut instructions = self.stem;
        for (part, &entry) in self.parts.iter().zip(&entries) {
            let footprint = part.footprint(entry);
            kept += footprint.state_bytes;
            scratch = scratch.max(footprint.scratch_bytes);
            instructions += footprint.work.times(part.rows).instructions();
        }
        MemoryPlan {
            entries,
            arena_bytes: kept + scratch,
            instructions,
            full_speed: self.full_speed(),
        }
    }

    /// The plan that needs the fewest bytes; if several do, the fastest.
    fn smallest(&self) -> MemoryPlan {
        let least = self.scratches().into_iter().filter_map(|scratch| {
            let kept = self.parts.iter().map(|part| {
                let choices = part.choices(scratch).into_iter();
                choices.map(|choice| choice.bytes).min()
            });
            let kept: usize = kept.sum::<Option<usize>>()?;
            Some(self.fixed[0] + kept + scratch)
        });
        // The narrowest groups fit the largest scratch, so there is one.
        let least = least.min().unwrap_or(usize::MAX);
        self.fastest(least)
            .unwrap_or_else(|| self.plan(self.parts.iter().map(Part::whole).collect()))
    }

    fn fastest(&self, arena_bytes: usize) -> Option<MemoryPlan> {
        let mut best: Option<(u64, Vec<BlockPlan>)> = None;
        for scratch in self.scratches() {
            let Some(room) = arena_bytes.checked_sub(self.fixed[0] + scratch) else {
                break;
            };
            let limit = best.as_ref().map_or(u64::MAX, |(found, _)| *found);
            if let Some(found) = self.knapsack(scratch, room, limit) {
                best = Some(found);
            }
        }
        best.map(|(_, entries)| self.plan(entries))
    }

    /// The fewest instructions, below `limit`, with at most `room` bytes kept between rows.
    fn knapsack(&self, scratch: usize, room: usize, limit: u64) -> Option<(u64, Vec<BlockPlan>)> {
        let choices: Vec<Vec<Choice>> = self
            .parts
            .iter()
            .map(|part| part.choices(scratch))
            .collect();
        // What the parts that are still to come need and cost at least.
        let mut ahead = vec![(0, 0); choices.len() + 1];
        for (n, choices) in choices.iter().enumerate().rev() {
            let bytes = choices.iter().map(|choice| choice.bytes).min()?;
            let instructions = choices.iter().map(|choice| choice.instructions).min()?;
            ahead[n] = (ahead[n + 1].0 + bytes, ahead[n + 1].1 + instructions);
        }
        // Steps of the frontier so far, each with the place of the one before it.
        let mut steps: Vec<Vec<Step>> = vec![vec![Step::default()]];
        for (choices, &(bytes, instructions)) in choices.iter().zip(&ahead[1..]) {
            let last = &steps[steps.len() - 1];
            let mut next: Vec<Step> = last
                .iter()
                .enumerate()
                .flat_map(|(before, step)| {
                    choices.iter().map(move |choice| Step {
                        bytes: step.bytes + choice.bytes,
                        instructions: step.instructions + choice.instructions,
                        entry: Some(choice.entry),
                        before,
                    })
                })
                .filter(|step| {
                    step.bytes + bytes <= room && step.instructions + instructions < limit
                })
                .collect();
            next.sort_unstable_by_key(|step| (step.bytes, step.instructions));
            let mut fewest = u64::MAX;
            next.retain(|step| {
                let better = step.instructions < fewest;
                fewest = fewest.min(step.instructions);
                better
            });
            steps.push(next);
        }
        // More bytes are fewer instructions on a frontier.
        let last = steps.last()?;
        let mut at = last.len().checked_sub(1)?;
        let instructions = last[at].instructions;
        let mut entries = Vec::new();
        for steps in steps.iter().rev() {
            entries.extend(steps[at].entry);
            at = steps[at].before;
        }
        entries.reverse();
        Some((instructions, entries))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Step {
    bytes: usize,
    instructions: u64,
    entry: Option<BlockPlan>,
    before: usize,
}

#[cfg(test)]
mod tests {
    use sori_nn::testing::{Noise, Table, benchmark_network};

    use super::*;

    /// All combinations of a small network's choices, one by one.
    #[test]
    fn no_combination_is_faster_within_the_same_bytes() {
        let mut noise = Noise::new(5);
        for _ in 0..40 {
            let table = Table::random(&mut noise);
            let bytes = table.bytes(&mut noise);
            let package = Package::parse(&bytes).unwrap();
            let problem = Problem::new(&package);
            if problem.parts.len() > 4 {
                continue;
            }
            let mut all: Vec<Vec<BlockPlan>> = vec![Vec::new()];
            for part in &problem.parts {
                let groups = part.groups();
                let entries = part.kept().flat_map(|kept_rows| {
                    let few = groups.iter().step_by(1 + groups.len() / 4);
                    few.map(move |&group| BlockPlan { kept_rows, group })
                });
                let entries: Vec<BlockPlan> = entries.collect();
                let longer = all.iter().flat_map(|plan| {
                    entries.iter().map(move |&entry| {
                        let mut plan = plan.clone();
                        plan.push(entry);
                        plan
                    })
                });
                all = longer.collect();
            }
            for entries in all.into_iter().step_by(7) {
                let other = problem.plan(entries);
                assert_eq!(arena_of(&package, &other.entries), other.arena_bytes);
                let ours = plan(&package, other.arena_bytes).expect("that one fits");
                assert!(ours.arena_bytes <= other.arena_bytes);
                assert!(
                    ours.instructions <= other.instructions,
                    "{ours:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn network_a_fits_48_kib_for_little_and_a_third_of_that_at_a_price() {
        let bytes = benchmark_network("a").unwrap();
        let package = Package::parse(&bytes).unwrap();
        let full = Network::arena_bytes(&package, 1);
        assert!(full <= 80 * 1024, "{full} bytes at full speed");
        let planned = plan(&package, 48 * 1024).unwrap();
        assert!(planned.arena_bytes <= 48 * 1024);
        assert!(planned.cost() < 0.15, "{}", planned.cost());
        let error = plan(&package, 1024).unwrap_err();
        assert!(error.smallest.arena_bytes < 16 * 1024);
        assert!(error.smallest.cost() > planned.cost());
        let plan = plan(&package, error.smallest.arena_bytes).unwrap();
        assert_eq!(plan, error.smallest);
        assert!(super::plan(&package, plan.arena_bytes - 1).is_err());
    }

    #[test]
    fn a_package_takes_a_plan_and_gives_it_up_again() {
        let bytes = benchmark_network("a").unwrap();
        let package = Package::parse(&bytes).unwrap();
        let chosen = plan(&package, 48 * 1024).unwrap();
        let with = planned(&bytes, Some(&chosen.entries)).unwrap();
        let package = Package::parse(&with).unwrap();
        assert_eq!(package.plan(), Some(&*chosen.entries));
        assert_eq!(package.prologue().arena_bytes(1), chosen.arena_bytes);
        let again = planned(&with, Some(&chosen.entries)).unwrap();
        assert_eq!(*again, *with, "the old plan's bytes are used again");
        let without = planned(&with, None).unwrap();
        let package = Package::parse(&without).unwrap();
        assert_eq!(package.plan(), None);
        assert_eq!(&without[..12], &bytes[..12], "the old version");
        let (stated, before) = (
            package.prologue(),
            Package::parse(&bytes).unwrap().prologue(),
        );
        assert_eq!(stated.arena_bytes(1), before.arena_bytes(1));
    }

    /// `plan-instructions` counts these on a Cortex-M4, for the plans that are chosen today.
    #[test]
    fn estimates_are_what_the_emulated_core_counts() {
        let bytes = benchmark_network("a").unwrap();
        let package = Package::parse(&bytes).unwrap();
        let in_48_kib = plan(&package, 48 * 1024).unwrap();
        let in_16_kib = plan(&package, 16 * 1024).unwrap();
        for (estimate, counted) in [
            (in_48_kib.full_speed, 27_132_080),
            (in_48_kib.instructions, 30_541_240),
            (in_16_kib.instructions, 40_874_720),
        ] {
            let ratio = estimate as f64 / f64::from(counted);
            assert!((0.9..1.1).contains(&ratio), "{estimate} of {counted}");
        }
    }

    #[test]
    fn the_trade_off_goes_from_small_and_slow_to_large_and_fast() {
        let bytes = benchmark_network("a").unwrap();
        let plans = trade_off(&Package::parse(&bytes).unwrap(), 12);
        assert!(plans.len() > 4);
        for pair in plans.windows(2) {
            assert!(pair[0].arena_bytes < pair[1].arena_bytes);
            assert!(pair[0].instructions > pair[1].instructions);
        }
        // By a plan the head unpacks nothing, which costs a little even where nothing is computed
        // twice.
        assert!(plans.last().unwrap().cost().abs() < 0.1);
    }
}
