//! A Mosquitto of one's own, on a free port of loopback, and somebody who listens to it.

#![allow(dead_code, reason = "not every test that uses it needs everything")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

const INSTALL: &str = "these tests need a broker: sudo apt-get install mosquitto";

/// Waits for what is claimed.
pub(crate) async fn until(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {claim}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port that nobody listens at. None of those that the system gives to clients: one that
/// comes again and again to a port without a broker would be given that very port one day,
/// and talk to itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port =
            20_000 + (std::process::id().wrapping_mul(97).wrapping_add(next) % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) struct Broker {
    pub(crate) port: u16,
    folder: TempDir,
    child: Child,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with("allow_anonymous true\n", |_| {})
    }

    pub(crate) fn start_with_login(username: &str, password: &str) -> Self {
        Self::with(
            "allow_anonymous false\npassword_file passwords\n",
            |folder| {
                let made = Command::new("mosquitto_passwd")
                    .args(["-b", "-c", "passwords", username, password])
                    .current_dir(folder)
                    .status();
                assert!(made.expect(INSTALL).success());
            },
        )
    }

    fn with(access: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        // Sessions and what it keeps outlast a proper stop. It would run as a user of its
        // own, who may not read the folder, if it could.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\nautosave_interval 0\n\
             max_queued_messages 0\nmax_inflight_messages 0\nlog_type all\n{access}"
        );
        fs::write(folder.path().join("mosquitto.conf"), text).expect("written");
        prepare(folder.path());
        let child = spawn(folder.path(), port);
        Self {
            port,
            folder,
            child,
        }
    }

    /// As its service is stopped.
    pub(crate) fn stop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// As by a power cut.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), self.port);
    }

    /// With nothing that it kept.
    pub(crate) fn start_empty(&mut self) {
        let _ = fs::remove_file(self.folder.path().join("mosquitto.db"));
        self.start_again();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Connections that somebody tried to make, less those that only looked for the port.
    pub(crate) fn attempts(&self) -> usize {
        self.log().matches("not authorised").count()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: u16) -> Child {
    let log = fs::File::options()
        .append(true)
        .create(true)
        .open(folder.join("log"))
        .expect("a log");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("mosquitto")
        .args(["-c", "mosquitto.conf"])
        .current_dir(folder)
        // Debian has it where only root looks.
        .env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("mosquitto: {error}: {INSTALL}"));
    let deadline = Instant::now() + LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.try_wait().expect("it was started");
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(ended.is_none(), "mosquitto ended: {}", log());
        assert!(Instant::now() < deadline, "mosquitto listens to nobody");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

type Messages = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Subscribed to everything, across restarts of the broker.
pub(crate) struct Watcher {
    client: AsyncClient,
    messages: Messages,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    /// Ready when it returns.
    pub(crate) async fn start(port: u16, name: &str) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options.set_clean_session(false);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut poll) = AsyncClient::new(options, 4096);
        let messages = Messages::default();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        client.subscribe("#", QoS::AtLeastOnce).await.expect("room");
        let (taken, mut ready) = (messages.clone(), Some(ready));
        let task = tokio::spawn(async move {
            loop {
                match poll.poll().await {
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let message = (message.topic, message.payload.to_vec());
                        taken.lock().expect("no panic").push(message);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        let _ = ready.take().map(|ready| ready.send(()));
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let is_ready = tokio::time::timeout(LIMIT, is_ready).await;
        is_ready.expect("subscribed in time").expect("subscribed");
        Self {
            client,
            messages,
            task,
        }
    }

    pub(crate) async fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        let sent = self
            .client
            .publish(topic, QoS::AtLeastOnce, retain, payload);
        sent.await.expect("room");
    }

    /// What came on that topic, in order.
    pub(crate) fn all(&self, topic: &str) -> Vec<Vec<u8>> {
        let messages = self.messages.lock().expect("no panic");
        let of_topic = messages.iter().filter(|(of, _)| of == topic);
        of_topic.map(|(_, payload)| payload.clone()).collect()
    }

    /// On which something came.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let messages = self.messages.lock().expect("no panic");
        messages.iter().map(|(topic, _)| topic.clone()).collect()
    }

    pub(crate) fn latest(&self, topic: &str) -> Option<Vec<u8>> {
        self.all(topic).pop()
    }

    pub(crate) fn text(&self, topic: &str) -> String {
        String::from_utf8(self.latest(topic).unwrap_or_default()).expect("text")
    }

    pub(crate) fn json(&self, topic: &str) -> Value {
        let latest = self
            .latest(topic)
            .unwrap_or_else(|| panic!("nothing on {topic}"));
        serde_json::from_slice(&latest).expect("JSON")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
