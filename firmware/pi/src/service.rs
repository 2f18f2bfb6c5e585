//! What systemd is told: ready, reloading, stopping, and that the threads are alive.
//!
//! Without systemd nothing is told and nothing fails.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{error, info, warn};

/// How often parts are looked at where systemd asks for nothing.
const EVERY: Duration = Duration::from_secs(10);

/// The service manager.
#[derive(Debug, Clone, Default)]
pub struct Service {
    socket: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Service {
    /// The one that the environment names, if any: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            address(&name)
                .inspect_err(|error| {
                    warn!(
                        "cannot notify systemd at NOTIFY_SOCKET={}: {error}",
                        name.display()
                    )
                })
                .ok()
        });
        let mut microseconds = 0;
        let watchdog = sd_notify::watchdog_enabled(false, &mut microseconds)
            .then(|| Duration::from_micros(microseconds));
        Self { socket, watchdog }
    }

    /// One that listens at `socket`, and expects a sign of life in every `watchdog`.
    ///
    /// # Errors
    /// That is no name of a socket.
    pub fn at(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            socket: Some(address(socket)?),
            watchdog,
        })
    }

    /// It starts what comes after this service.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The configuration is read anew; [`ready`](Self::ready) ends that.
    pub fn reloading(&self) {
        // From version 253 on systemd wants the time in the same message.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// It ends.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// A line that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&one_line(status))]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        // Made anew each time: the manager may have restarted. Never waits for it: it has
        // room for hundreds of messages, or is gone.
        let told = UnixDatagram::unbound().and_then(|datagram| {
            datagram.set_nonblocking(true)?;
            datagram.send_to_addr(text.as_bytes(), socket)
        });
        if let Err(error) = told {
            warn!("cannot send {:?} to systemd: {error}", text.trim_end());
        }
    }
}

/// A path, or with `@` a name in Linux's own space.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}

/// A line break would begin another message.
fn one_line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}

/// A sign of life of one thread, which others can see.
#[derive(Debug, Clone)]
pub struct Pulse {
    started: Instant,
    /// Milliseconds after `started`. The clock stands still while the system sleeps, so
    /// that nobody seems dead after it.
    beat_ms: Arc<AtomicU64>,
}

impl Pulse {
    /// One that beats now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            beat_ms: Arc::default(),
        }
    }

    /// The thread moves. Cheap enough for every block.
    pub fn beat(&self) {
        self.beat_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Whether it moved within that time.
    pub fn moved_within(&self, time: Duration) -> bool {
        let beat_ms = self.beat_ms.load(Ordering::Relaxed);
        u128::from(self.now_ms().saturating_sub(beat_ms)) <= time.as_millis()
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of the program that has to be alive.
pub struct Alive {
    /// For the log: "the listening thread".
    pub name: &'static str,
    /// Whether it is.
    pub is: Box<dyn Fn() -> bool + Send>,
}

impl Alive {
    /// A thread that moved within that time.
    pub fn pulse(name: &'static str, pulse: Pulse, within: Duration) -> Self {
        Self {
            name,
            is: Box::new(move || pulse.moved_within(within)),
        }
    }
}

impl fmt::Debug for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Feeds systemd's watchdog as long as every part is alive; systemd restarts what does not.
#[derive(Debug)]
pub struct Watchdog {
    /// Dropped to stop the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the thread. `on_change` hears which parts give no sign of life, whenever those
    /// are others; without systemd it is all that does.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        service: &Service,
        parts: Vec<Alive>,
        on_change: impl Fn(&[&'static str]) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let service = service.clone();
        // Twice in the time would do; a busy processor makes one late.
        let every = service.watchdog.map_or(EVERY, |limit| limit / 3);
        let every = every.max(Duration::from_millis(1));
        let watch = move || watch(&service, &parts, every, &on_change, &stopped);
        let thread = thread::Builder::new()
            .name("watchdog".into())
            .spawn(watch)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It only panics if a part's closure does, and said so then.
            let _ = thread.join();
        }
    }
}

fn watch(
    service: &Service,
    parts: &[Alive],
    every: Duration,
    on_change: &impl Fn(&[&'static str]),
    stopped: &mpsc::Receiver<()>,
) {
    let mut before = Vec::new();
    loop {
        let dead: Vec<_> = parts
            .iter()
            .filter(|part| !(part.is)())
            .map(|part| part.name)
            .collect();
        if dead.is_empty() && service.watchdog.is_some() {
            service.tell(&[NotifyState::Watchdog]);
        }
        if dead != before {
            on_change(&dead);
            match dead.is_empty() {
                true => info!("all threads are running again"),
                false => {
                    let dead = dead.join(", ");
                    error!(
                        "{dead}: no sign of life; under systemd the service restarts if this persists"
                    );
                    service.status(&format!("no sign of life: {dead}"));
                }
            }
            before = dead;
        }
        if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// systemd's end, in a folder of its own.
    struct Manager {
        socket: UnixDatagram,
        folder: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            Self { socket, folder }
        }

        fn service(&self, watchdog: Option<Duration>) -> Service {
            Service::at(self.folder.path().join("notify").as_os_str(), watchdog).unwrap()
        }

        fn told(&self) -> String {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes).expect("told in time");
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        }
    }

    #[test]
    fn every_state_is_told_in_systemds_words() {
        let manager = Manager::new();
        let service = manager.service(None);
        service.ready("listening to\nhw:0");
        assert_eq!(manager.told(), "READY=1\nSTATUS=listening to hw:0\n");
        service.reloading();
        let told = manager.told();
        let time = told
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .expect(&told);
        assert!(time.trim_end().parse::<u64>().is_ok_and(|time| time > 0));
        service.status("jazz");
        assert_eq!(manager.told(), "STATUS=jazz\n");
        service.stopping();
        assert_eq!(manager.told(), "STOPPING=1\nSTATUS=stopping\n");
    }

    #[test]
    fn an_abstract_socket_is_told_too() {
        let name = format!("sori-pi-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let service = Service::at(OsStr::new(&format!("@{name}")), None).unwrap();
        service.ready("");
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).expect("told");
        assert!(bytes[..length].starts_with(b"READY=1\n"));
    }

    #[test]
    fn a_manager_that_is_gone_or_never_was_harms_nothing() {
        Service::default().ready("nobody asked");
        let manager = Manager::new();
        let service = manager.service(None);
        drop(manager);
        service.stopping();
        // One that does not read fills up; nobody waits for it.
        let manager = Manager::new();
        let service = manager.service(None);
        for _ in 0..10_000 {
            service.status("again");
        }
        assert_eq!(manager.told(), "STATUS=again\n");
        assert!(Service::at(OsStr::new(&"x".repeat(200)), None).is_err());
    }

    #[test]
    fn the_watchdog_is_fed_only_while_every_part_moves() {
        let manager = Manager::new();
        let service = manager.service(Some(Duration::from_millis(30)));
        let alive = Arc::new(AtomicBool::new(true));
        let other = alive.clone();
        let parts = vec![
            Alive::pulse("capture", Pulse::new(), Duration::from_secs(3600)),
            Alive {
                name: "listening",
                is: Box::new(move || other.load(Ordering::Relaxed)),
            },
        ];
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let on_change = move |dead: &[&'static str]| hears.lock().unwrap().push(dead.to_vec());
        let watchdog = Watchdog::start(&service, parts, on_change).unwrap();
        for _ in 0..3 {
            assert_eq!(manager.told(), "WATCHDOG=1\n");
        }
        alive.store(false, Ordering::Relaxed);
        // Those that were on their way, then who it is, then silence.
        let next = std::iter::repeat_with(|| manager.told()).find(|told| told != "WATCHDOG=1\n");
        assert_eq!(next.as_deref(), Some("STATUS=no sign of life: listening\n"));
        manager
            .socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert!(manager.socket.recv(&mut [0; 64]).is_err(), "it is not fed");
        manager.socket.set_read_timeout(Some(LIMIT)).unwrap();
        alive.store(true, Ordering::Relaxed);
        assert_eq!(manager.told(), "WATCHDOG=1\n");
        // Dropping it waits for the thread: nothing is told after that but what was.
        drop(watchdog);
        let heard = heard.lock().unwrap();
        assert_eq!(*heard, [vec!["listening"], Vec::new()]);
    }

    #[test]
    fn without_a_watchdog_systemd_is_told_nothing_of_one() {
        let manager = Manager::new();
        let service = manager.service(None);
        let dead = Alive {
            name: "listening",
            is: Box::new(|| false),
        };
        let (sender, receiver) = mpsc::channel();
        let on_change = move |dead: &[&'static str]| sender.send(dead.to_vec()).unwrap();
        let watchdog = Watchdog::start(&service, vec![dead], on_change).unwrap();
        assert_eq!(receiver.recv_timeout(LIMIT), Ok(vec!["listening"]));
        drop(watchdog);
        assert_eq!(manager.told(), "STATUS=no sign of life: listening\n");
    }

    #[test]
    fn a_pulse_grows_old() {
        let pulse = Pulse::new();
        assert!(pulse.moved_within(LIMIT));
        let deadline = Instant::now() + LIMIT;
        while pulse.moved_within(Duration::from_millis(5)) {
            assert!(Instant::now() < deadline, "it never does");
            thread::sleep(Duration::from_millis(1));
        }
        pulse.clone().beat();
        assert!(pulse.moved_within(LIMIT));
    }
}
