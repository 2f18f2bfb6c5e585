//! What the command line offers, and what its exit code says.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use sori_pi::config::{Config, Wrong};
use sori_pi::history::{self, Format, Query};
use sori_pi::mic::Terminal;
use sori_pi::model::{Model, Unusable};
use sori_pi::run::{self, Options};
use sori_pi::{asking, capture, field_test, hardware, mic};

use crate::man;

/// Listens to a microphone and names the genre of the music it hears.
#[derive(Debug, Parser)]
#[command(
    name = "sori-pi",
    version,
    after_help = "Exit codes: 0 ok, 1 runtime error, 2 usage or configuration, 4 device not found, 5 package incompatible"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The configuration file [default: /etc/sori-pi/sori-pi.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen, and publish what is heard
    Run(Run),
    /// Show what the running service hears, and with which package
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List, test and diagnose microphones
    #[command(subcommand)]
    Mic(Mic),
    /// Write the history as CSV or JSON lines
    Export(Export),
    /// Measure accuracy with this microphone, in this room
    #[command(subcommand)]
    FieldTest(FieldTest),
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for packaging
    #[command(hide = true)]
    Man {
        /// Output folder
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Only check the configuration
    #[arg(long)]
    check_config: bool,
    /// Listen to a WAV file, or to one on stdin (-), instead of the microphone
    #[arg(long, value_name = "FILE.wav")]
    input: Option<PathBuf>,
    /// Process the input as fast as possible instead of in real time
    #[arg(long, requires = "input")]
    fast: bool,
    /// Print each decision and each span on stdout as a JSON line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Mic {
    /// List recording devices, and the one that "auto" selects
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a level meter, then a diagnosis
    Test {
        /// ALSA device name [default: from the configuration]
        #[arg(long)]
        device: Option<String>,
        /// Duration
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
    /// Find out why there is no sound, and print the commands that fix it
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Export {
    /// Write JSON lines instead of CSV
    #[arg(long)]
    json: bool,
    /// Only from this time on: milliseconds since 1970
    #[arg(long, value_name = "MS")]
    from: Option<i64>,
    /// Only before this time
    #[arg(long, value_name = "MS")]
    until: Option<i64>,
    /// Only this verdict: a label, silence or unknown
    #[arg(long)]
    verdict: Option<String>,
    /// Only the N most recent
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum FieldTest {
    /// Combine labelled clips into one file to play through a loudspeaker
    Make {
        /// Folder of clips, FOLDER/LABEL/*.wav
        folder: PathBuf,
        /// The file to play
        #[arg(long, value_name = "FILE.wav", default_value = "playlist.wav")]
        out: PathBuf,
    },
    /// Record that file through the microphone, and report the accuracy
    Listen(FieldListen),
}

#[derive(Debug, Args)]
struct FieldListen {
    /// The manifest that `make` wrote beside the file
    #[arg(long, value_name = "FILE.json", default_value = "playlist.json")]
    manifest: PathBuf,
    /// Folder of the original clips, to compare with [default: where they were]
    #[arg(long, value_name = "FOLDER")]
    clips: Option<PathBuf>,
    /// Where to keep the recording
    #[arg(long, value_name = "FILE.wav", default_value = "recording.wav")]
    recording: PathBuf,
    /// Evaluate an existing recording instead of making one
    #[arg(long, value_name = "FILE.wav", conflicts_with = "recording")]
    input: Option<PathBuf>,
    /// Seconds to wait for the beep
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    patience: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Bounds of the exit codes beside those of clap.
const USAGE: u8 = 2;
const INCOMPATIBLE: u8 = 5;

impl Cli {
    pub(crate) fn run(self) -> ExitCode {
        log();
        let result = match self.command {
            Command::Run(run) => run.run(self.config),
            Command::Status { json } => status(self.config, json),
            Command::Mic(mic) => mic.run(self.config),
            Command::Export(export) => export.run(self.config),
            Command::FieldTest(test) => test.run(self.config),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "sori-pi", &mut io::stdout());
                Ok(ExitCode::SUCCESS)
            }
            Command::Man { folder } => man::write(Self::command(), &folder),
        };
        result.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            let code = if error.is::<Wrong>() {
                USAGE
            } else if error.is::<Unusable>() {
                INCOMPATIBLE
            } else {
                1
            };
            ExitCode::from(code)
        })
    }
}

/// Logs to stderr, where journald adds the time itself.
fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SORI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none());
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => subscriber.without_time().init(),
        None => subscriber.init(),
    }
}

impl Run {
    fn run(self, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        if self.check_config {
            return check(config);
        }
        run::run(&Options {
            config,
            input: self.input,
            fast: self.fast,
            json: self.json,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn check(path: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let config = Config::load(path.as_deref())?;
    let model = Model::load(&config.model)?;
    let conflicts = hardware::conflicts(&config);
    for conflict in &conflicts {
        eprintln!("error: {conflict}");
    }
    if !conflicts.is_empty() {
        return Ok(ExitCode::from(USAGE));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "microphone  {}", config.microphone.device)?;
    writeln!(
        out,
        "package     {}, {} labels, verified on this processor",
        model.name,
        model.labels.len()
    )?;
    writeln!(out, "history     {}", config.history.path().display())?;
    writeln!(out, "page        http://{}", config.page.listen)?;
    match &config.mqtt {
        Some(mqtt) => writeln!(out, "broker      {}:{}", mqtt.host, mqtt.port.get())?,
        None => writeln!(out, "broker      none")?,
    }
    writeln!(out, "This configuration is valid.")?;
    Ok(ExitCode::SUCCESS)
}

fn status(path: Option<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let config = Config::load(path.as_deref())?;
    let status = asking::ask(&config.page)?;
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{status}")?,
        false => asking::write_text(&status, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Mic {
    fn run(self, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        let configured = Config::load(config.as_deref())?.microphone.device;
        let terminal = Terminal::of_stdout();
        let root = Path::new("/");
        let mut out = io::stdout().lock();
        let outcome = match self {
            Self::List { json } => mic::list(root, json, &mut out)?,
            Self::Test { device, seconds } => {
                let mut source = capture::microphone(&device.unwrap_or(configured))?;
                mic::test(&mut *source, seconds, terminal, &mut out)?
            }
            Self::Doctor { json } => {
                // Without ALSA the rest can still be looked at.
                let mut source = capture::microphone(&configured).ok();
                let source = source.as_deref_mut();
                mic::doctor(
                    root,
                    &configured,
                    source.map(|s| s as _),
                    json,
                    terminal,
                    &mut out,
                )?
            }
        };
        Ok(ExitCode::from(outcome.exit_code()))
    }
}

impl Export {
    fn run(self, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config.as_deref())?;
        let query = Query {
            from_ms: self.from,
            until_ms: self.until,
            verdict: self.verdict,
            limit: self.limit,
        };
        let format = match self.json {
            true => Format::Json,
            false => Format::Csv,
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let exported = history::export(&config.history.path_to_read(), &query, format, &mut out);
        match exported.and_then(|()| Ok(out.flush()?)) {
            // `head` has seen enough.
            Err(history::Unreadable::Output(error))
                if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl FieldTest {
    fn run(self, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        let config = Config::load(config.as_deref())?;
        let model = Model::load(&config.model)?;
        let mut out = io::stdout().lock();
        match self {
            Self::Make { folder, out: file } => {
                let (manifest, written) = field_test::make(&folder, &model.labels, &file)?;
                writeln!(
                    out,
                    "wrote {}, {} clips. Now start\n  sori-pi field-test listen --manifest {}\nand play the file through a loudspeaker.",
                    file.display(),
                    manifest.clips.len(),
                    written.display()
                )?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Listen(listen) => listen.run(&config, &model, &mut out),
        }
    }
}

impl FieldListen {
    fn run(
        &self,
        config: &Config,
        model: &Model,
        out: &mut impl io::Write,
    ) -> anyhow::Result<ExitCode> {
        let manifest = field_test::Manifest::read(&self.manifest)?;
        let recording = match &self.input {
            Some(recording) => recording,
            None => {
                self.record(config, &manifest)?;
                &self.recording
            }
        };
        let report = field_test::judge(model, &manifest, recording, self.clips.as_deref())?;
        match self.json {
            true => report.write_json(out)?,
            false => report.write_text(out)?,
        }
        Ok(match report.is_complete() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    fn record(&self, config: &Config, manifest: &field_test::Manifest) -> anyhow::Result<()> {
        let mut microphone = capture::microphone(&config.microphone.device)?;
        let layout = microphone.open()?;
        let read = |frames: &mut Vec<i32>| match microphone.read(frames) {
            Ok(()) => Ok(true),
            Err(trouble) => Err(field_test::Trouble::Microphone(trouble.to_string())),
        };
        let patience_s = f64::from(self.patience);
        field_test::record(
            manifest,
            layout,
            read,
            patience_s,
            &self.recording,
            &mut io::stderr(),
        )?;
        Ok(())
    }
}
