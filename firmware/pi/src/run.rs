//! `sori-pi run`: all threads, from start to a clean stop.
//!
//! ```text
//! capture ─ ring ─► listening ─► board ─► page, MQTT (one thread, asynchronous)
//!                       │                 lights, display, button
//!                       └─► history       lines on stdout
//! ```
//!
//! The main thread keeps house: signals, the package's file, the temperature, the watchdog.
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
        let model = self.model(config)?;
        let mut threads = Threads::default();
        let lines = match self.options.json {
            true => Some(Lines::start(&self.board, lines::stdout()?, false)?),
            false => None,
        };
        let result = self
            .start(config, &model, &mut threads)
            .and_then(|house| self.keep_house(config, &house, &threads, signals));
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

    /// The configured package, or the built-in one if that one cannot be used.
    fn model(&self, config: &Config) -> anyhow::Result<Arc<Model>> {
        let mut problem = None;
        let model = match Model::load(&config.model) {
            Ok(model) => model,
            Err(unusable) if config.model.path().is_some() => {
                tracing::error!("{unusable}; using the built-in one until there is another");
                problem = Some(unusable.to_string());
                Model::built_in()?
            }
            Err(unusable) => return Err(unusable.into()),
        };
        self.board.update(|status| {
            let recognizer = &mut status.recognizer;
            recognizer.becomes(model.describe());
            let watched = config.model.path();
            recognizer.watched = watched.map(|path| path.display().to_string());
            recognizer.refused += u64::from(problem.is_some());
            recognizer.problem = problem;
        });
        Ok(Arc::new(model))
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
        threads.spawn("history", move || {
            keeping::run(&kept, &path, &received, &on)
        })?;
        let until = stop.clone();
        threads.spawn("network", move || network.run(&until))?;
        let (all, on, until) = (config.clone(), board.clone(), stop.clone());
        threads.spawn("hardware", move || hardware::run(&all, on, until))?;
        Ok(House {
            pulse,
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
        threads: &Threads,
        signals: &mut Signals,
    ) -> anyhow::Result<Ended> {
        let mut package = PackageFile::new(&config.model);
        let listening = Alive::pulse("the listening thread", house.pulse.clone(), LONGEST_BLOCK);
        let _watchdog = Watchdog::start(&self.service, vec![listening])?;
        self.service.ready(&format!(
            "listening; the page is at http://{}",
            config.page.listen
        ));
        let mut looked = Instant::now();
        loop {
            for signal in signals.pending() {
                match signal {
                    SIGHUP => match Config::load(self.options.config.as_deref()) {
                        Ok(next) => {
                            tracing::info!("reloading");
                            self.board
                                .update(|status| status.configuration_problem = None);
                            return Ok(Ended::Reload(Box::new(next)));
                        }
                        Err(wrong) => {
                            tracing::error!("{wrong}; keeping the old configuration");
                            self.refused(&wrong.into());
                        }
                    },
                    _ => return Ok(Ended::Stop),
                }
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
                self.look(&mut package, house);
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
    /// The listening thread's.
    pulse: Pulse,
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
