//! Runs groups of steps in three lanes, so that waiting in one leaves no core idle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use anyhow::bail;

use crate::steps::{Done, Steps};

/// Number of lanes: one more than CI's machines have cores, for tests that wait for time to pass,
/// downloads, and emulators of one core.
const LANES: usize = 3;

/// Steps that only depend on each other. What two groups share is built once: Cargo's lock makes
/// one wait for the other.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Its line in the list of groups.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Steps) -> anyhow::Result<()>,
}

impl Group {
    fn alone(&self) -> String {
        format!("cargo xtask ci --only {}", self.name)
    }
}

/// Runs groups one by one, with live output.
pub(crate) fn alone(groups: &[&Group]) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    groups
        .iter()
        .try_for_each(|group| (group.run)(&mut steps))?;
    steps.summary();
    Ok(())
}

/// Runs all groups, each in the first free lane, and prints a table.
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
            // The first failure is reported; it also stops the other lanes.
            if let Err(error) = result
                && !is_over.swap(true, Ordering::Relaxed)
            {
                eprintln!(
                    "\nerror: {error:#}\n   rerun its whole group with: {}",
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
    println!("   {:7.1} s  total", begun.elapsed().as_secs_f64());
    match is_green {
        true => Ok(()),
        false => bail!("a step failed; its output is above"),
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

    /// The last group would panic: it must not start after all lanes have failed.
    #[test]
    fn a_failure_ends_all_lanes() {
        let fails = || group(|steps| steps.run(&Step::new("it fails", "false")));
        let never = group(|_| panic!("begun after all lanes have failed"));
        run(&[fails(), fails(), fails(), fails(), never]).expect_err("it failed");
    }
}
