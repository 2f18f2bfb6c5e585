//! Processes many files on all cores, with results in their order.

use std::collections::BTreeMap;
use std::sync::mpsc;

use anyhow::{Result, bail};
use clap::Args;
use rayon::prelude::*;

use crate::audio::Source;
use crate::{exit, output};

/// The option shared by commands that process many files.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Threads {
    /// Files to process at a time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl Threads {
    /// Call it before the first [`run`]. Without the option, Rayon's own `RAYON_NUM_THREADS`
    /// applies.
    pub(crate) fn limit(self) -> Result<()> {
        if let Some(threads) = self.threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
            pool.build_global()?;
        }
        Ok(())
    }
}

/// Processes every file, with its number; `on_done` gets the results on the calling thread,
/// in the order of the files, each as soon as all before it are done.
///
/// A file that fails is reported on stderr and does not stop the others.
///
/// # Errors
/// Reports at the end how many files failed; stops at once if `on_done` fails, which
/// means that nobody reads the results any more.
pub(crate) fn run<T: Send>(
    sources: &[Source],
    work: impl Fn(usize, &Source) -> Result<T> + Sync,
    mut on_done: impl FnMut(usize, &Source, Result<T>) -> Result<()>,
) -> Result<()> {
    let bar = output::progress(sources.len());
    let mut failed = 0;
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        scope.spawn(|| {
            let sender = sender;
            // Once `on_done` has failed the receiver is gone, which ends the work.
            let _ = sources
                .par_iter()
                .enumerate()
                .try_for_each_with(sender, |sender, (n, source)| {
                    sender.send((n, work(n, source)))
                });
        });
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (n, result) in receiver {
            bar.inc(1);
            early.insert(n, result);
            while let Some(result) = early.remove(&next) {
                if let Err(error) = &result {
                    failed += 1;
                    bar.suspend(|| exit::warn(format_args!("{error:#}")));
                }
                bar.suspend(|| on_done(next, &sources[next], result))?;
                next += 1;
            }
        }
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    if failed > 0 {
        bail!("{failed} of {} files failed", sources.len());
    }
    Ok(())
}

/// Prints the warnings about a file that was used nevertheless.
pub(crate) fn warn(source: &Source, warnings: &[String]) {
    for warning in warnings {
        exit::warn(format_args!("{}: {warning}", source.path.display()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn sources(n: usize) -> Vec<Source> {
        let named = |n: usize| Source {
            path: format!("{n}.wav").into(),
            relative: format!("{n}.wav").into(),
        };
        (0..n).map(named).collect()
    }

    /// The first file takes longest, so that later ones wait for it.
    #[test]
    fn results_come_in_order_and_a_failure_does_not_stop_the_others() {
        let mut seen = Vec::new();
        let error = run(
            &sources(9),
            |n, source| {
                assert_eq!(source.path, Path::new(&format!("{n}.wav")));
                std::thread::sleep(Duration::from_millis(9 - n as u64));
                match n {
                    4 => bail!("4 is damaged"),
                    n => Ok(n),
                }
            },
            |n, _, result| {
                seen.push((n, result.ok()));
                Ok(())
            },
        )
        .unwrap_err();
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|n| (n, (n != 4).then_some(n)));
        assert_eq!(seen, expected);
        assert_eq!(error.to_string(), "1 of 9 files failed");
    }

    #[test]
    fn nobody_listening_ends_the_work() {
        let worked = AtomicUsize::new(0);
        let work = |_: usize, _: &Source| {
            worked.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        };
        let error = run(&sources(2_000), work, |_, _, _| bail!("closed")).unwrap_err();
        assert_eq!(error.to_string(), "closed");
        let worked = worked.into_inner();
        assert!(worked < 1_000, "{worked} of 2000 files were worked on");
    }
}
