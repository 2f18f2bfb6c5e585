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

/// Runs steps one after the other and remembers their times.
#[derive(Default)]
pub(crate) struct Steps(Vec<(String, Duration)>);

impl Steps {
    pub(crate) fn run(&mut self, step: &Step<'_>) -> anyhow::Result<()> {
        self.finish(step, false).map(|_| ())
    }

    /// Runs a step and returns what it printed.
    pub(crate) fn output(&mut self, step: &Step<'_>) -> anyhow::Result<String> {
        let output = self.finish(step, true)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn finish(&mut self, step: &Step<'_>, captured: bool) -> anyhow::Result<Output> {
        println!("\n── {}\n   {}", step.title, step.typed());
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
        print!("{}", String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            let title = step.title;
            // What coreutils' timeout says.
            let how = match output.status.code() {
                Some(124) => "took too long",
                _ => "failed",
            };
            bail!("{title} {how}; to repeat it alone: {}", step.typed());
        }
        self.0.push((step.title.to_owned(), start.elapsed()));
        Ok(output)
    }

    pub(crate) fn summary(&self) {
        println!("\n── all green");
        for (title, time) in &self.0 {
            println!("   {:7.1} s  {title}", time.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|(_, time)| time).sum();
        println!("   {:7.1} s  in all", total.as_secs_f64());
    }
}
