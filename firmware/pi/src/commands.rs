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

/// Listens to a microphone and tells what music it hears.
#[derive(Debug, Parser)]
#[command(
    name = "sori-pi",
    version,
    after_help = "Exit codes: 0 ok, 1 runtime error, 2 usage or configuration, 4 device not found, 5 package incompatible"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The configuration [default: /etc/sori-pi/sori-pi.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listens, and serves what it hears
    Run(Run),
    /// Asks the service that runs here what it hears, and with which package
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What microphones there are, whether they work, and why not
    #[command(subcommand)]
    Mic(Mic),
    /// Writes the history as CSV or JSON lines
    Export(Export),
    /// Measures the accuracy through this microphone, in this room
    #[command(subcommand)]
    FieldTest(FieldTest),
    /// Prints what a shell needs to complete these commands
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages, for whoever makes a package
    #[command(hide = true)]
    Man {
        /// Where to
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Only says whether the configuration can be used
    #[arg(long)]
    check_config: bool,
    /// Listens to a WAV file, or to one on stdin (-), in place of the microphone
    #[arg(long, value_name = "FILE.wav")]
    input: Option<PathBuf>,
    /// Takes the input as fast as it goes, not as it would sound
    #[arg(long, requires = "input")]
    fast: bool,
    /// JSON lines on stdout, with what each decision and each span says
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Mic {
    /// What can record, and which of it "auto" takes
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// A level meter, and then a verdict in words
    Test {
        /// ALSA's name [default: the configuration's]
        #[arg(long)]
        device: Option<String>,
        /// For how long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
    },
    /// Finds out why there is no sound, and says what to type
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Export {
    /// JSON lines, not CSV
    #[arg(long)]
    json: bool,
    /// From this time on: milliseconds since 1970
    #[arg(long, value_name = "MS")]
    from: Option<i64>,
    /// Before this time
    #[arg(long, value_name = "MS")]
    until: Option<i64>,
    /// One verdict only: a label, silence, or unknown
    #[arg(long)]
    verdict: Option<String>,
    /// The latest so many
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum FieldTest {
    /// Puts labelled clips into one file, to be played by a loudspeaker
    Make {
        /// Clips as FOLDER/LABEL/*.wav
        folder: PathBuf,
        /// The file to play
        #[arg(long, value_name = "FILE.wav", default_value = "playlist.wav")]
        out: PathBuf,
    },
    /// Records that file through the microphone, and says what was heard
    Listen(FieldListen),
}

#[derive(Debug, Args)]
struct FieldListen {
    /// What `make` wrote beside the file
    #[arg(long, value_name = "FILE.json", default_value = "playlist.json")]
    manifest: PathBuf,
    /// Where the clips are now, to compare with [default: where they were]
    #[arg(long, value_name = "FOLDER")]
    clips: Option<PathBuf>,
    /// Where the recording is kept
    #[arg(long, value_name = "FILE.wav", default_value = "recording.wav")]
    recording: PathBuf,
    /// Judges a recording that was made before, or by something else
    #[arg(long, value_name = "FILE.wav", conflicts_with = "recording")]
    input: Option<PathBuf>,
    /// How long to wait for the beep, seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    patience: u32,
    /// As JSON
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
        "package     {}, {} labels, proved itself here",
        model.name,
        model.labels.len()
    )?;
    writeln!(out, "history     {}", config.history.path().display())?;
    writeln!(out, "page        http://{}", config.page.listen)?;
    match &config.mqtt {
        Some(mqtt) => writeln!(out, "broker      {}:{}", mqtt.host, mqtt.port.get())?,
        None => writeln!(out, "broker      none")?,
    }
    writeln!(out, "This configuration can be used.")?;
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
                    "{} has {} clips. Now start\n  sori-pi field-test listen --manifest {}\nand play it through a loudspeaker.",
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
