//! Groups of steps in two lanes, so that what one waits for leaves no core idle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use anyhow::bail;

use crate::steps::{Done, Steps};

/// Lanes: one a core of the machines that CI has. Compilers in one fill what tests, emulators and
/// downloads in the other leave.
const LANES: usize = 2;

/// Steps that depend on each other only. What two groups both build, the first builds and the
/// second finds: Cargo lets them wait for each other.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// For the list of groups.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Steps) -> anyhow::Result<()>,
}

impl Group {
    fn alone(&self) -> String {
        format!("cargo xtask ci --only {}", self.name)
    }
}

/// Runs one group after the other, seen as they run.
pub(crate) fn alone(groups: &[&Group]) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    groups
        .iter()
        .try_for_each(|group| (group.run)(&mut steps))?;
    steps.summary();
    Ok(())
}

/// Runs all of them, each in the lane that is free first, and prints a table.
pub(crate) fn run(groups: &[Group]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let queue = Mutex::new(groups.iter());
    let is_over = Arc::new(AtomicBool::new(false));
    let lane = || {
        let mut steps = Steps::beside_others(Arc::clone(&is_over));
        loop {
            let next = queue.lock().expect("no lane panics").next();
            let Some(group) = next.filter(|_| !is_over.load(Ordering::Relaxed)) else {
                return steps.done();
            };
            let result = (group.run)(&mut steps);
            steps.flush();
            // Of what fails, the first is said: the other lane stops because of it.
            if let Err(error) = result
                && !is_over.swap(true, Ordering::Relaxed)
            {
                eprintln!(
                    "\nerror: {error:#}\n   with what belongs to it: {}",
                    group.alone()
                );
            }
        }
    };
    let lanes: Vec<Vec<Done>> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let done = |lane: thread::ScopedJoinHandle<'_, _>| lane.join().expect("no lane panics");
        lanes.into_iter().map(done).collect()
    });
    let is_green = !is_over.load(Ordering::Relaxed);
    println!("\n── {}", if is_green { "all green" } else { "it failed" });
    for (lane, steps) in lanes.iter().enumerate() {
        for Done { title, time } in steps {
            println!(
                "   {:7.1} s  lane {}  {title}",
                time.as_secs_f64(),
                lane + 1
            );
        }
    }
    println!("   {:7.1} s  in all", begun.elapsed().as_secs_f64());
    match is_green {
        true => Ok(()),
        false => bail!("a step failed; what it printed is above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::Step;

    fn group(run: fn(&mut Steps) -> anyhow::Result<()>) -> Group {
        Group {
            name: "group",
            about: "",
            run,
        }
    }

    #[test]
    fn every_group_runs() {
        let works = || group(|steps| steps.run(&Step::new("it works", "true")));
        run(&[works(), works(), works()]).expect("all green");
    }

    /// The last would, or one step of the second: at most one lane is in it.
    #[test]
    fn a_failure_ends_both_lanes() {
        let fails = || group(|steps| steps.run(&Step::new("it fails", "false")));
        let never = group(|_| panic!("begun after both lanes have failed"));
        run(&[fails(), fails(), fails(), never]).expect_err("it failed");
    }
}
