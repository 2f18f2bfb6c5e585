//! The real `sori-pi`, running as a process of its own.

#![allow(dead_code, reason = "not every test that uses it needs everything")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// On a busy machine everything takes its time.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// The binary: this build's, or `SORI_PI` with what starts it, `qemu-aarch64 PATH`.
fn program() -> Command {
    let Ok(other) = std::env::var("SORI_PI") else {
        return Command::new(env!("CARGO_BIN_EXE_sori-pi"));
    };
    let mut words = other.split_whitespace();
    let mut command = Command::new(words.next().expect("SORI_PI is a command"));
    command.args(words);
    command
}

/// Whether it runs on an emulated processor, which is slow.
pub(crate) fn is_foreign() -> bool {
    std::env::var_os("SORI_PI").is_some()
}

pub(crate) struct Sori {
    child: Child,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    lines: mpsc::Receiver<Value>,
}

impl Sori {
    /// In a folder of its own: `sori-pi.toml` there has the page's port, the history's path,
    /// and `more`. `prepare` may add to the command.
    pub(crate) fn start(
        folder: &Path,
        port: u16,
        more: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        configure(folder, port, more);
        let mut command = program();
        command
            .args(["run", "--json", "--config"])
            .arg(folder.join("sori-pi.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log")).expect("a log"));
        prepare(&mut command);
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("every line is JSON");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            folder: folder.into(),
            port,
            lines,
        }
    }

    /// The next line for which that holds; how long it took.
    pub(crate) fn line(&self, claim: &str, holds: impl Fn(&Value) -> bool) -> (Value, Duration) {
        let started = Instant::now();
        loop {
            let left = LONG.saturating_sub(started.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if holds(&line) => return (line, started.elapsed()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("not in time: {claim}\n{}", self.log()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before: {claim}\n{}", self.log())
                }
            }
        }
    }

    /// The next decision.
    pub(crate) fn decision(&self) -> (Value, Duration) {
        self.line("a decision", |line| line["type"] == "heard")
    }

    /// Forgets the lines so far.
    pub(crate) fn forget(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// All lines until its end.
    pub(crate) fn rest(&self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(LONG) {
            rest.push(line);
        }
        rest
    }

    /// Another command with the same configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("sori-pi.toml"));
        command
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut peer = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        peer.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        peer.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        Some(body.into())
    }

    /// What the page knows; none while nobody answers.
    pub(crate) fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.get("/api/status")?).ok()
    }

    /// Waits until that holds of the status.
    pub(crate) fn until(&self, claim: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| holds(status)) {
                return status.clone();
            }
            assert!(
                started.elapsed() < LONG,
                "not in time: {claim}\n{status:#?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(started.elapsed() < LONG, "it does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it as systemd does; how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        asked.elapsed()
    }

    /// The next line; none at its end.
    pub(crate) fn next_line(&self) -> Option<Value> {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing\n{}", self.log()),
        }
    }

    /// To be written to, once.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("piped")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.folder.join("history.sqlite")
    }
}

impl Drop for Sori {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes `sori-pi.toml`.
pub(crate) fn configure(folder: &Path, port: u16, more: &str) {
    let text = format!(
        "[page]\nlisten = \"127.0.0.1:{port}\"\n[history]\npath = {:?}\nwrite_every_s = 1\n[service]\nnice = 0\n{more}\n",
        folder.join("history.sqlite")
    );
    fs::write(folder.join("sori-pi.toml"), text).expect("written");
}

/// A demo clip at 48 kHz in 32 bits, over and over: a sample by its number.
pub(crate) fn music(name: &str) -> impl Fn(u64) -> i32 + Send + use<> {
    use symphonia::core::audio::SampleBuffer;
    use symphonia::core::codecs::DecoderOptions;
    use symphonia::core::io::MediaSourceStream;

    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/genre/demo")
        .join(name);
    let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let probed = symphonia::default::get_probe()
        .format(
            &Default::default(),
            stream,
            &Default::default(),
            &Default::default(),
        )
        .expect("FLAC");
    let mut format = probed.format;
    let parameters = &format.default_track().expect("a track").codec_params;
    let mut decoder = symphonia::default::get_codecs()
        .make(parameters, &DecoderOptions::default())
        .expect("FLAC");
    let mut samples: Vec<i32> = Vec::new();
    while let Ok(packet) = format.next_packet() {
        let decoded = decoder.decode(&packet).expect("sound");
        let mut buffer = SampleBuffer::<i32>::new(decoded.capacity() as u64, *decoded.spec());
        buffer.copy_interleaved_ref(decoded);
        samples.extend(buffer.samples());
    }
    // Three samples for each: what that adds is above 8 kHz, where nobody listens.
    move |n| samples[(n / 3) as usize % samples.len()]
}
