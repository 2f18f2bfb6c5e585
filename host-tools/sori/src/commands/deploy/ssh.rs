//! The system's own ssh: one connection that asks for a passphrase at most once, and errors that
//! say what to do.

use std::fmt;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::exit::Failure;

/// ssh's exit code when it failed itself, rather than the command it ran.
const OF_SSH: i32 = 255;

/// Seconds to connect; half as many to notice that a connection is lost.
const CONNECT_SECONDS: u32 = 15;

/// A host, and the ssh configuration to reach it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// As ssh accepts it: a name in its configuration, or user@host.
    pub(super) host: String,
    /// A configuration instead of the user's.
    pub(super) config: Option<PathBuf>,
}

/// The connection failed or broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut(pub(super) String);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cut {}

/// A connection. Commands share it if this system's ssh can (Windows' cannot).
#[derive(Debug)]
pub(super) struct Connection {
    target: Target,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    master: Child,
    folder: tempfile::TempDir,
}

impl Shared {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

impl Connection {
    /// # Errors
    /// No ssh here, an unknown or unreachable host, or no permission to log in.
    pub(super) fn open(target: &Target) -> Result<Self> {
        let mut connection = Self {
            target: target.clone(),
            shared: None,
        };
        if cfg!(unix) {
            connection.shared = Some(connection.share()?);
        }
        Ok(connection)
    }

    fn share(&self) -> Result<Shared> {
        let folder =
            tempfile::tempdir().context("cannot create a temporary folder for ssh's socket")?;
        let mut command = self.ssh();
        command
            .args(["-M", "-N", "-o", "ControlPersist=no", "-S"])
            .arg(folder.path().join("s"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .arg(&self.target.host);
        let master = command.spawn().map_err(not_there)?;
        let mut shared = Shared { master, folder };
        // This may take as long as typing a passphrase.
        while !shared.socket().exists() {
            if let Some(status) = shared.master.try_wait()? {
                let mut said = String::new();
                if let Some(mut stderr) = shared.master.stderr.take() {
                    // Programs started by ssh's configuration may hold it open, so limit it.
                    let _ = stderr.by_ref().take(1 << 16).read_to_string(&mut said);
                }
                let said = said.trim();
                return Err(self.failure(if said.is_empty() {
                    format!("ssh ended with {status}")
                } else {
                    said.into()
                }));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(shared)
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        if let Some(config) = &self.target.config {
            command.arg("-F").arg(config);
        }
        command.args(["-T", "-x", "-o", "LogLevel=ERROR"]);
        // Settings of the user's configuration that would interfere.
        command.args(["-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"]);
        command.args(["-o", &format!("ConnectTimeout={CONNECT_SECONDS}")]);
        command.args(["-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=2"]);
        if !io::stdin().is_terminal() {
            // Nobody could answer.
            command.args(["-o", "BatchMode=yes"]);
        }
        command
    }

    /// Runs a command in the target's shell with these bytes as its input; returns its output if
    /// it succeeded, and otherwise an error with what it printed.
    ///
    /// # Errors
    /// [`Cut`] if the connection broke.
    pub(super) fn run(
        &self,
        command: &str,
        input: &[u8],
        mut sent: impl FnMut(usize),
    ) -> Result<Answer> {
        let mut ssh = self.ssh();
        if let Some(shared) = &self.shared {
            // Never connect without the master: only `open` makes connections.
            ssh.args(["-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-S"]);
            ssh.arg(shared.socket());
        }
        let mut child = ssh
            .arg(&self.target.host)
            .arg("--")
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_there)?;
        let mut stdin = child.stdin.take().expect("piped");
        let output = thread::scope(|scope| {
            // Written on a thread, so that a command that answers early or never reads
            // cannot deadlock.
            let waiting = scope.spawn(move || child.wait_with_output());
            for part in input.chunks(1 << 15) {
                if stdin.write_all(part).is_err() {
                    break;
                }
                sent(part.len());
            }
            drop(stdin);
            waiting.join().expect("it only waits")
        })
        .context("cannot wait for ssh")?;
        if output.status.code().is_none_or(|code| code == OF_SSH) {
            return Err(self.failure(text(&output.stderr)));
        }
        Ok(Answer(output))
    }

    fn failure(&self, said: String) -> anyhow::Error {
        explain(&self.target.host, &said)
    }
}

/// The output of a command on the target.
#[derive(Debug)]
pub(super) struct Answer(Output);

impl Answer {
    pub(super) fn said(&self) -> String {
        text(&self.0.stderr)
    }

    /// The value of a line `sori:NAME=VALUE`, amid whatever else a login prints.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let stdout = String::from_utf8_lossy(&self.0.stdout);
        let value = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("sori:")?.split_once('='))
            .find_map(|(key, value)| (key == name).then(|| value.trim().to_owned()));
        value.filter(|value| !value.is_empty())
    }
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn not_there(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::Usage(
            "ssh is not installed: install OpenSSH's client (Debian: sudo apt install openssh-client)".into(),
        )
        .into(),
        _ => anyhow::Error::new(error).context("cannot start ssh"),
    }
}

/// ssh's message, and what to do about it.
fn explain(host: &str, said: &str) -> anyhow::Error {
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.unwrap_or("ssh printed nothing").trim();
    let no_device = |todo: String| Failure::NoDevice(format!("{host}: {last}; {todo}")).into();
    let has = |part: &str| said.contains(part);
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("Host key verification failed") {
        return no_device(format!(
            "its host key is unknown or has changed: connect once with `ssh {host}` and accept it; if the target was reinstalled, run `ssh-keygen -R {}` first",
            host.rsplit('@').next().unwrap_or(host)
        ));
    }
    if has("Permission denied") || has("Too many authentication failures") {
        return no_device(format!(
            "it does not let you log in: copy your key with `ssh-copy-id {host}`, and test it with `ssh {host}`"
        ));
    }
    if has("Could not resolve hostname") {
        return no_device(
            "the name is unknown: check its spelling and that the Pi is on and in this network, or use its IP address".into(),
        );
    }
    if has("Connection refused") {
        return no_device(
            "its SSH server is not running: on the Pi, run `sudo systemctl enable --now ssh`"
                .into(),
        );
    }
    if has("Connection timed out") || has("No route to host") || has("Network is unreachable") {
        return no_device("it is unreachable: check that it is on and in this network".into());
    }
    if has("Bad configuration option") || has("Can't open user config file") {
        return Failure::Usage(format!("{last}: correct ssh's configuration")).into();
    }
    Cut(format!(
        "the connection to {host} broke ({last}): rerun the command"
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_becomes_what_to_do() {
        for (said, code, todo) in [
            (
                "pi@kitchen: Permission denied (publickey,password).",
                4,
                "ssh-copy-id pi@kitchen",
            ),
            (
                "ssh: Could not resolve hostname kitchen: Name or service not known",
                4,
                "the name is unknown",
            ),
            (
                "ssh: connect to host kitchen port 22: Connection refused",
                4,
                "systemctl enable --now ssh",
            ),
            (
                "ssh: connect to host kitchen port 22: No route to host",
                4,
                "it is unreachable",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                4,
                "ssh-keygen -R kitchen",
            ),
        ] {
            let error = explain("pi@kitchen", said);
            let failure = error.downcast_ref::<Failure>().expect("known");
            assert!(matches!(failure, Failure::NoDevice(_)), "{code}: {failure}");
            let shown = failure.to_string();
            assert!(shown.contains(todo), "{shown}");
            assert_eq!(shown.lines().count(), 1, "{shown}");
        }
        for said in [
            "Connection to kitchen closed by remote host.",
            "client_loop: send disconnect: Broken pipe",
            "",
        ] {
            assert!(explain("pi@kitchen", said).is::<Cut>(), "{said}");
        }
    }
}
