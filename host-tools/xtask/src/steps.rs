//! Steps: commands with a title, in order, with their times.

use std::fmt::Write as _;
use std::io::{Read as _, pipe};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// One command, run from the workspace's root by default.
pub struct Step<'a> {
    title: &'a str,
    command: &'a str,
    directory: Option<&'a str>,
    environment: &'a [(&'a str, &'a str)],
}

impl<'a> Step<'a> {
    /// The command's words are separated by spaces.
    pub fn new(title: &'a str, command: &'a str) -> Self {
        Self {
            title,
            command,
            directory: None,
            environment: &[],
        }
    }

    /// Runs it from a directory of the workspace.
    pub fn within(self, directory: &'a str) -> Self {
        Self {
            directory: Some(directory),
            ..self
        }
    }

    /// Sets these environment variables.
    pub fn with(self, environment: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            environment,
            ..self
        }
    }

    /// The shell command that reruns it.
    fn typed(&self) -> String {
        let mut typed = String::new();
        if let Some(directory) = self.directory {
            typed += &format!("cd {directory} && ");
        }
        for (key, value) in self.environment {
            typed += &format!("{key}='{value}' ");
        }
        typed + self.command
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut words = self.command.split_whitespace();
        let mut command = Command::new(words.next().context("an empty command")?);
        command.args(words).envs(self.environment.iter().copied());
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        Ok(command)
    }
}

/// The exit code of coreutils' timeout.
const TIMED_OUT: i32 = 124;

/// A completed step.
pub struct Done {
    /// The step's.
    pub title: String,
    /// Wall time.
    pub time: Duration,
}

/// How much output of steps is shown.
enum Shown {
    /// All output while they run.
    Live,
    /// Only the output of those that fail.
    Failures,
    /// All output once they have ended, because others share the screen. Kept here until
    /// [`Steps::say`] has added to it.
    Whole(String),
}

/// Runs steps one by one and records their times.
pub struct Steps {
    done: Vec<Done>,
    shown: Shown,
    /// Set if no further step should start.
    is_over: Arc<AtomicBool>,
}

impl Default for Steps {
    fn default() -> Self {
        Self::shown(Shown::Live, Arc::default())
    }
}

impl Steps {
    fn shown(shown: Shown, is_over: Arc<AtomicBool>) -> Self {
        Self {
            done: Vec::new(),
            shown,
            is_over,
        }
    }

    /// Steps of which only failures are shown.
    pub fn quiet() -> Self {
        Self::shown(Shown::Failures, Arc::default())
    }

    /// Steps that run beside others: each is printed as a whole when it has ended. None starts
    /// once `is_over` is set.
    pub fn beside_others(is_over: Arc<AtomicBool>) -> Self {
        Self::shown(Shown::Whole(String::new()), is_over)
    }

    /// Runs a step.
    pub fn run(&mut self, step: &Step<'_>) -> anyhow::Result<()> {
        self.succeed(step, false).map(|_| ())
    }

    /// Runs a step and returns its output.
    pub fn output(&mut self, step: &Step<'_>) -> anyhow::Result<String> {
        self.succeed(step, true)
    }

    /// Runs a step that is expected to fail, and returns its output.
    pub fn failure(&mut self, step: &Step<'_>) -> anyhow::Result<String> {
        let (status, output) = self.finish(step, true)?;
        if status.success() || status.code() == Some(TIMED_OUT) {
            bail!(
                "{} should have failed; rerun it alone with: {}",
                step.title,
                step.typed()
            );
        }
        Ok(output)
    }

    /// Adds a line to the last step's output.
    pub fn say(&mut self, line: &str) {
        match &mut self.shown {
            Shown::Live => println!("   {line}"),
            Shown::Failures => {}
            Shown::Whole(text) => *text += &format!("   {line}\n"),
        }
    }

    /// Prints the pending output.
    pub fn flush(&mut self) {
        if let Shown::Whole(text) = &mut self.shown {
            print!("{}", std::mem::take(text));
        }
    }

    /// The completed steps, in order.
    pub fn done(self) -> Vec<Done> {
        self.done
    }

    fn succeed(&mut self, step: &Step<'_>, captured: bool) -> anyhow::Result<String> {
        let (status, output) = self.finish(step, captured)?;
        if !status.success() {
            let title = step.title;
            let how = match status.code() {
                Some(TIMED_OUT) => "took too long",
                _ => "failed",
            };
            bail!("{title} {how}; rerun it alone with: {}", step.typed());
        }
        Ok(output)
    }

    /// The output is empty if it went to the terminal.
    fn finish(&mut self, step: &Step<'_>, captured: bool) -> anyhow::Result<(ExitStatus, String)> {
        self.flush();
        if self.is_over.load(Ordering::Relaxed) {
            bail!(
                "{} was not started, because another step failed",
                step.title
            );
        }
        match self.shown {
            Shown::Live => println!("\n── {}\n   {}", step.title, step.typed()),
            Shown::Failures => {}
            Shown::Whole(_) => println!("   {} …", step.title),
        }
        let start = Instant::now();
        let mut command = step.command()?;
        let is_live = matches!(self.shown, Shown::Live) && !captured;
        let (status, output) = match is_live {
            true => (command.status(), String::new()),
            false => both_outputs(&mut command)?,
        };
        let status = status.with_context(|| format!("cannot start {}", step.typed()))?;
        let time = start.elapsed();
        match &mut self.shown {
            Shown::Live => print!("{output}"),
            Shown::Failures if status.success() => {}
            Shown::Failures => print!("{output}"),
            Shown::Whole(text) => write!(
                text,
                "\n── {} ({:.1} s)\n   {}\n{output}",
                step.title,
                time.as_secs_f64(),
                step.typed()
            )?,
        }
        if !status.success() {
            self.flush();
        }
        self.done.push(Done {
            title: step.title.to_owned(),
            time,
        });
        Ok((status, output))
    }

    /// Prints each step's time, and the total.
    pub fn summary(&self) {
        println!("\n── all green");
        for Done { title, time } in &self.done {
            println!("   {:7.1} s  {title}", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|done| done.time).sum();
        println!("   {:7.1} s  total", total.as_secs_f64());
    }
}

/// Stdout and stderr in their order, through one pipe.
fn both_outputs(command: &mut Command) -> anyhow::Result<(std::io::Result<ExitStatus>, String)> {
    let (mut reader, writer) = pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn();
    // The command's own handles would keep the pipe open.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut output = Vec::new();
    let status = match child {
        Ok(mut child) => {
            reader.read_to_end(&mut output)?;
            child.wait()
        }
        Err(error) => Err(error),
    };
    Ok((status, String::from_utf8_lossy(&output).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_come_in_their_order() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let (status, output) = both_outputs(&mut command).expect("a pipe");
        assert_eq!(output, "one\ntwo\nthree\n");
        assert_eq!(status.expect("sh starts").code(), Some(3));
    }

    #[test]
    fn what_failed_says_how_it_is_repeated() {
        let mut steps = Steps::quiet();
        let step = Step::new("it", "false now")
            .within("src")
            .with(&[("A", "b")]);
        let error = steps.run(&step).expect_err("false fails").to_string();
        assert_eq!(
            error,
            "it failed; rerun it alone with: cd src && A='b' false now"
        );
        assert_eq!(steps.done().len(), 1);
    }

    #[test]
    fn nothing_begins_once_it_is_over() {
        let is_over = Arc::new(AtomicBool::new(true));
        let mut steps = Steps::beside_others(is_over);
        steps.run(&Step::new("it", "true")).expect_err("it is over");
        assert!(steps.done().is_empty());
    }
}
