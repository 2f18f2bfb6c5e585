//! Steps: commands with a title, in order, with their times.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// One command, run from the workspace's root unless it says otherwise.
pub(crate) struct Step<'a> {
    title: &'a str,
    command: &'a str,
    directory: Option<&'a str>,
    environment: &'a [(&'a str, &'a str)],
}

impl<'a> Step<'a> {
    /// The command's words are separated by spaces.
    pub(crate) fn new(title: &'a str, command: &'a str) -> Self {
        Self {
            title,
            command,
            directory: None,
            environment: &[],
        }
    }

    pub(crate) fn within(self, directory: &'a str) -> Self {
        Self {
            directory: Some(directory),
            ..self
        }
    }

    pub(crate) fn with(self, environment: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            environment,
            ..self
        }
    }

    /// What a person types to repeat it.
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
}

/// What coreutils' timeout says.
const TIMED_OUT: i32 = 124;

/// Runs steps one after the other and remembers their times.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
    is_quiet: bool,
}

impl Steps {
    /// Steps of which only failures are of interest.
    pub(crate) fn quiet() -> Self {
        Self {
            is_quiet: true,
            ..Self::default()
        }
    }

    pub(crate) fn run(&mut self, step: &Step<'_>) -> anyhow::Result<()> {
        self.succeed(step, false).map(|_| ())
    }

    /// Runs a step and returns what it printed.
    pub(crate) fn output(&mut self, step: &Step<'_>) -> anyhow::Result<String> {
        let output = self.succeed(step, true)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a step that is meant to fail by itself, and returns what it printed.
    pub(crate) fn failure(&mut self, step: &Step<'_>) -> anyhow::Result<String> {
        let output = self.finish(step, true)?;
        if output.status.success() || output.status.code() == Some(TIMED_OUT) {
            bail!(
                "{} should have failed; to repeat it alone: {}",
                step.title,
                step.typed()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn succeed(&mut self, step: &Step<'_>, captured: bool) -> anyhow::Result<Output> {
        let output = self.finish(step, captured)?;
        if !output.status.success() {
            let title = step.title;
            let how = match output.status.code() {
                Some(TIMED_OUT) => "took too long",
                _ => "failed",
            };
            bail!("{title} {how}; to repeat it alone: {}", step.typed());
        }
        Ok(output)
    }

    fn finish(&mut self, step: &Step<'_>, captured: bool) -> anyhow::Result<Output> {
        if !self.is_quiet {
            println!("\n── {}\n   {}", step.title, step.typed());
        }
        let start = Instant::now();
        let mut words = step.command.split_whitespace();
        let program = words.next().context("an empty command")?;
        let mut command = Command::new(program);
        command
            .args(words)
            .envs(step.environment.iter().copied())
            .stderr(Stdio::inherit());
        if let Some(directory) = step.directory {
            command.current_dir(directory);
        }
        if !captured {
            command.stdout(Stdio::inherit());
        }
        let output = command
            .output()
            .with_context(|| format!("{program} did not start"))?;
        if !self.is_quiet || !output.status.success() {
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
        self.done.push((step.title.to_owned(), start.elapsed()));
        Ok(output)
    }

    pub(crate) fn summary(&self) {
        println!("\n── all green");
        for (title, time) in &self.done {
            println!("   {:7.1} s  {title}", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, time)| time).sum();
        println!("   {:7.1} s  in all", total.as_secs_f64());
    }
}
