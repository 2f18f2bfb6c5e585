//! `sori-pi run`: all threads, from start to a clean stop.
//!
//! ```text
//! capture ─ ring ─► listening ─► board ─► page, MQTT (one thread, asynchronous)
//!                       │                 lights, display, button
//!                       └─► history       lines on stdout
//! ```
//!
//! The main thread keeps house: signals, the package's file, the temperature, the watchdog. It
//! waits for nothing that a file, a disk or a package can make slow.
//! SIGHUP ends all threads and starts them with the new configuration; the board stays.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::board::{Board, Command, State};
use crate::capture::file::{Speed, Wav};
use crate::capture::{self, Source};
use crate::config::Config;
use crate::hardware;
use crate::keeping;
use crate::listening::Listening;
use crate::model::Model;
use crate::network;
use crate::outputs::lines::{self, Lines};
use crate::package_file::PackageFile;
use crate::service::{Alive, Pulse, Service, Watchdog};
use crate::thermal;

/// How often the main thread looks around.
const ROUND: Duration = Duration::from_millis(50);

/// How often it looks at files: the package, the temperature.
const LOOK: Duration = Duration::from_secs(1);

/// All is to have ended so long after it was told to; what has not is left behind.
const PATIENCE: Duration = Duration::from_millis(1800);

/// Longer than any package takes for a block of sound on a Pi Zero.
const LONGEST_BLOCK: Duration = Duration::from_secs(10);

/// So long the start waits for the package to prove itself; until it has, the built-in one
/// listens. Less than the unit's `TimeoutStartSec`.
const LONGEST_PROOF: Duration = Duration::from_secs(10);

/// Page and broker are never without a sign of life for so long.
const LONGEST_ROUND: Duration = Duration::from_secs(60);

/// Nor is an SD card, which takes its time: to restart would cost the rows that wait for it.
const LONGEST_WRITE: Duration = Duration::from_secs(300);

/// What the command line says beside the configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration's file; none for the usual place.
    pub config: Option<PathBuf>,
    /// A WAV file, or `-`, in place of the microphone.
    pub input: Option<PathBuf>,
    /// As fast as it goes, not as it would sound.
    pub fast: bool,
    /// JSON lines on stdout.
    pub json: bool,
}

/// How a session began.
enum Begun {
    /// With this package.
    With(Arc<Model>),
    /// Not at all, as asked.
    Asked(Ended),
}

/// How a session ended.
enum Ended {
    /// As asked, or the input is over.
    Stop,
    /// To be started anew with this configuration.
    Reload(Box<Config>),
}

/// Runs until SIGTERM, SIGINT, or the end of the input.
///
/// # Errors
/// A configuration that cannot be used, an address that is taken, an input that is none; or
/// a thread that ended by itself.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut config = Config::load(options.config.as_deref())?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // The second of these does not wait for anything.
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, told.clone())?;
        signal_hook::flag::register(signal, told.clone())?;
    }
    let (board, commands) = Board::new();
    let mut session = Session {
        options,
        board,
        commands: Arc::new(Mutex::new(commands)),
        service: Service::from_environment(),
    };
    let mut before: Option<Config> = None;
    loop {
        match session.run(&config, &mut signals) {
            Ok(Ended::Stop) => return Ok(()),
            Ok(Ended::Reload(next)) => before = Some(std::mem::replace(&mut config, *next)),
            // A configuration that reads well may still name an address that is taken.
            Err(error) => match before.take() {
                Some(good) => {
                    tracing::error!(
                        "the new configuration does not work, reverting to the old one: {error:#}"
                    );
                    session.refused(&error);
                    config = good;
                }
                None => return Err(error),
            },
        }
    }
}

/// What outlives a configuration.
struct Session<'r> {
    options: &'r Options,
    board: Arc<Board>,
    commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    service: Service,
}

impl Session<'_> {
    /// Runs with one configuration.
    fn run(&mut self, config: &Config, signals: &mut Signals) -> anyhow::Result<Ended> {
        be_modest(&config.service);
        let mut package = PackageFile::new(&config.model, &state_folder(config));
        let model = match self.model(config, &mut package, signals)? {
            Begun::With(model) => model,
            Begun::Asked(ended) => return Ok(ended),
        };
        let mut threads = Threads::default();
        let lines = match self.options.json {
            true => Some(Lines::start(&self.board, lines::stdout()?, false)?),
            false => None,
        };
        let result = self
            .start(config, &model, &mut threads)
            .and_then(|house| self.keep_house(config, &house, &mut package, &threads, signals));
        match &result {
            Ok(Ended::Reload(_)) => self.service.reloading(),
            _ => self.service.stopping(),
        }
        threads.end();
        // The last news have been told by now.
        if let Some(lines) = lines
            && !lines.finish(Duration::from_millis(200))
        {
            tracing::warn!("stdout was closed: the last lines are lost");
        }
        result
    }

    /// The configured package; the built-in one if that one cannot be used, or not yet.
    fn model(
        &self,
        config: &Config,
        package: &mut PackageFile,
        signals: &mut Signals,
    ) -> anyhow::Result<Begun> {
        let mut problem = None;
        let mut model = None;
        if package.is_expected() {
            package.load().context("cannot start a thread")?;
            let deadline = Instant::now() + LONGEST_PROOF;
            let loaded = loop {
                match package.loaded(ROUND) {
                    Some(loaded) => break Some(loaded),
                    None if Instant::now() < deadline => {}
                    None => break None,
                }
                if let Some(ended) = self.asked(signals) {
                    return Ok(Begun::Asked(ended));
                }
            };
            match loaded {
                Some(Ok(loaded)) => model = Some(loaded),
                Some(Err(unusable)) => {
                    tracing::error!("{unusable}; using the built-in one until there is another");
                    problem = Some(unusable.to_string());
                }
                None => tracing::warn!(
                    "the package is still being verified; until then the built-in one listens"
                ),
            }
        }
        let model = match model {
            Some(model) => model,
            None => Arc::new(Model::built_in()?),
        };
        self.board.update(|status| {
            let recognizer = &mut status.recognizer;
            recognizer.becomes(model.describe());
            let watched = config.model.path();
            recognizer.watched = watched.map(|path| path.display().to_string());
            recognizer.refused += u64::from(problem.is_some());
            recognizer.problem = problem;
        });
        Ok(Begun::With(model))
    }

    /// What signals ask for, if anything.
    fn asked(&self, signals: &mut Signals) -> Option<Ended> {
        for signal in signals.pending() {
            if signal != SIGHUP {
                return Some(Ended::Stop);
            }
            match Config::load(self.options.config.as_deref()) {
                Ok(next) => {
                    tracing::info!("reloading");
                    self.board
                        .update(|status| status.configuration_problem = None);
                    return Some(Ended::Reload(Box::new(next)));
                }
                Err(wrong) => {
                    tracing::error!("{wrong}; keeping the old configuration");
                    self.refused(&wrong.into());
                }
            }
        }
        None
    }

    fn start(
        &self,
        config: &Config,
        model: &Arc<Model>,
        threads: &mut Threads,
    ) -> anyhow::Result<House> {
        let stop = threads.stop.clone();
        let board = &self.board;
        board.update(|status| {
            status.hardware_problems.clear();
            status.broker = None;
        });
        let current = Arc::new(RwLock::new(model.clone()));
        let pulse = Pulse::new();
        let (models, new_models) = mpsc::channel();
        let (spans, received) = mpsc::channel();

        let network = network::Network::bind(config, board.clone(), current.clone())?;
        let source = self.source(config)?;
        let waits = source.can_wait();
        let settings = (&config.microphone).into();
        let (captured, sound) = capture::start(source, settings, board.clone(), stop.clone())?;
        threads.all.push(("capture", captured));
        let listening = Listening {
            board: board.clone(),
            channel: config.microphone.channel,
            model: model.clone(),
            models: new_models,
            commands: self.commands.clone(),
            history: spans,
            pulse: pulse.clone(),
            waits,
            stop: stop.clone(),
        };
        threads.spawn("listening", move || listening.run(sound))?;
        let (kept, path, on) = (config.history.clone(), config.history.path(), board.clone());
        let keeping = Pulse::new();
        let beats = keeping.clone();
        threads.spawn("history", move || {
            keeping::run(&kept, &path, &received, &on, &beats)
        })?;
        let (until, serving) = (stop.clone(), Pulse::new());
        let beats = serving.clone();
        threads.spawn("network", move || network.run(&until, &beats))?;
        let (all, on, until) = (config.clone(), board.clone(), stop.clone());
        threads.spawn("hardware", move || hardware::run(&all, on, until))?;
        let pulses = [
            ("the listening thread", pulse, LONGEST_BLOCK),
            ("the history thread", keeping, LONGEST_WRITE),
            ("the network thread", serving, LONGEST_ROUND),
        ];
        Ok(House {
            pulses: pulses.into(),
            models,
            current,
        })
    }

    fn source(&self, config: &Config) -> anyhow::Result<Box<dyn Source>> {
        let speed = match self.options.fast {
            true => Speed::Full,
            false => Speed::Real,
        };
        Ok(match &self.options.input {
            Some(path) => Box::new(Wav::new(path, speed)),
            None => capture::microphone(&config.microphone.device)?,
        })
    }

    /// Until a signal, the end of the input, or the end of a thread that has no reason to.
    fn keep_house(
        &self,
        config: &Config,
        house: &House,
        package: &mut PackageFile,
        threads: &Threads,
        signals: &mut Signals,
    ) -> anyhow::Result<Ended> {
        let round = Pulse::new();
        let pulses = house.pulses.iter().cloned();
        let parts = pulses
            .chain([("the main thread", round.clone(), LONGEST_BLOCK)])
            .map(|(name, pulse, within)| Alive::pulse(name, pulse, within));
        let board = self.board.clone();
        let _watchdog = Watchdog::start(&self.service, parts.collect(), move |dead| {
            board.update(|status| status.stuck = dead.to_vec());
        })?;
        self.service.ready(&format!(
            "listening; the page is at http://{}",
            config.page.listen
        ));
        let mut looked = Instant::now();
        loop {
            round.beat();
            if let Some(ended) = self.asked(signals) {
                return Ok(ended);
            }
            match threads.over() {
                None => {}
                Some("capture" | "listening") if threads.is_over("listening") => {
                    return self.input_is_over();
                }
                // What it read is still listened to.
                Some("capture") => {}
                Some(name) => bail!(
                    "the {name} thread ended unexpectedly: this is a bug in sori-pi, please report it with the log above"
                ),
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look(package, house);
            }
            thread::sleep(ROUND);
        }
    }

    /// No more sound comes: as it should be, or for good reason.
    fn input_is_over(&self) -> anyhow::Result<Ended> {
        let capture = self.board.status().capture;
        match (capture.state, capture.problem) {
            (State::Ended, None) => Ok(Ended::Stop),
            (_, Some(problem)) => bail!("{problem}"),
            (state, None) => bail!("listening ended unexpectedly ({state:?})"),
        }
    }

    fn look(&self, package: &mut PackageFile, house: &House) {
        match package.look() {
            None => {}
            Some(Ok(model)) => {
                *house
                    .current
                    .write()
                    .unwrap_or_else(|poisoned| poisoned.into_inner()) = model.clone();
                // The listening thread may have ended with the input.
                let _ = house.models.send(model);
            }
            Some(Err(unusable)) => {
                tracing::error!("{unusable}; keeping the old package");
                self.board.update(|status| {
                    status.recognizer.refused += 1;
                    status.recognizer.problem = Some(unusable.to_string());
                });
            }
        }
        let temperature = thermal::temperature_c(Path::new(thermal::ROOT));
        self.board
            .update(|status| status.temperature_c = temperature);
    }

    fn refused(&self, error: &anyhow::Error) {
        self.board
            .update(|status| status.configuration_problem = Some(format!("{error:#}")));
    }
}

/// What the main thread looks after.
struct House {
    /// Of each thread that matters, and how long it may be without.
    pulses: Vec<(&'static str, Pulse, Duration)>,
    /// Packages for it.
    models: mpsc::Sender<Arc<Model>>,
    /// The package that the page classifies with.
    current: Arc<RwLock<Arc<Model>>>,
}

/// All threads of a session.
#[derive(Default)]
struct Threads {
    stop: Arc<AtomicBool>,
    all: Vec<(&'static str, JoinHandle<()>)>,
}

impl Threads {
    fn spawn(
        &mut self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = thread::Builder::new().name(name.into()).spawn(body);
        self.all
            .push((name, thread.context("cannot start a thread")?));
        Ok(())
    }

    /// One that has ended, though nobody told it to.
    fn over(&self) -> Option<&'static str> {
        let essential = self.all.iter().filter(|(name, _)| *name != "hardware");
        essential
            .filter(|(_, thread)| thread.is_finished())
            .map(|(name, _)| *name)
            .next()
    }

    fn is_over(&self, name: &str) -> bool {
        self.all
            .iter()
            .any(|(other, thread)| *other == name && thread.is_finished())
    }

    /// Tells all to end, and waits for them, within reason.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.all.iter().all(|(_, thread)| thread.is_finished())
        {
            thread::sleep(Duration::from_millis(5));
        }
        for (name, thread) in self.all {
            match thread.is_finished() {
                true if thread.join().is_err() => tracing::error!("the {name} thread has panicked"),
                true => {}
                false => tracing::error!("the {name} thread does not stop and is abandoned"),
            }
        }
    }
}

/// Where the program may write: where its history is.
fn state_folder(config: &Config) -> PathBuf {
    let history = config.history.path();
    history
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Niceness, and the cores to stay on, for all threads to come.
fn be_modest(service: &crate::config::Service) {
    let now = rustix::process::getpriority_process(None).unwrap_or(0);
    let wanted = service.nice.get() as i32;
    if wanted != now
        && let Err(error) = rustix::process::setpriority_process(None, wanted)
    {
        tracing::warn!(nice = wanted, %error, "cannot set service.nice: only root may lower it");
    }
    if !service.cores.is_empty() {
        let mut set = rustix::thread::CpuSet::new();
        for core in &service.cores {
            set.set(core.get() as usize);
        }
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::warn!(%error, "service.cores names none of this machine's cores");
        }
    }
}
