//! Tells a broker, and through it Home Assistant.
//!
//! ```text
//! sori/<id>/state      online, offline        kept; offline also if the Pi vanishes
//! sori/<id>/heard      the latest decision    kept; when it changes, or every 5 seconds
//! sori/<id>/span       each span              all of them, in order, at least once
//! sori/<id>/health     how everything is      kept; every 30 seconds
//! sori/<id>/mute       ON, OFF                kept
//! sori/<id>/mute/set   ON, OFF                a command
//! sori/<id>/confirm    PRESS                  a command
//! ```
//!
//! While the broker is away, spans wait for it. Nothing here holds the listening up.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{ConnectionError, Event, Outgoing, Packet, Publish, SubscribeReasonCode};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::discovery::{self, PRESS, Topics};
use super::link::{self, Link};
use super::outbox::{Kept, Next, Outbox};
use crate::board::{Board, Broker, Capture, Command, Heard, Latency, News, SCHEMA_VERSION, now_ms};
use crate::{config, history};

pub use super::discovery::Identity;

/// The same verdict is not repeated more often: it only keeps level and confidence fresh.
const HEARD_EVERY: Duration = Duration::from_secs(5);
const HEALTH_EVERY: Duration = Duration::from_secs(30);

/// Between attempts, doubled each time. Small enough to be back within two seconds.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_millis(1500);
/// Between attempts with a login that was refused: brokers log each.
const LOGIN_PAUSE: Duration = Duration::from_secs(30);
/// Between words on the same problem in the log.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// Commands a second; more are a program gone wild.
const MOST_COMMANDS: u32 = 20;
/// For all goodbyes.
const GOODBYE: Duration = Duration::from_millis(900);

/// Tells the broker of the configuration what the board knows, until `stop`. Ends at most a
/// second after that, broker or not.
///
/// It hears the news from this call on, and runs when polled, on a runtime with I/O and time.
pub fn run(
    config: config::Mqtt,
    board: Arc<Board>,
    identity: Identity,
    stop: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    let news = board.subscribe();
    tell(config, board, identity, news, stop)
}

async fn tell(
    config: config::Mqtt,
    board: Arc<Board>,
    identity: Identity,
    mut news: Receiver<News>,
    stop: impl Future<Output = ()>,
) {
    let mut teller = Teller::new(config, board, identity);
    let mut health = interval(HEALTH_EVERY);
    health.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(stop);
    loop {
        let retry_at = teller.retry_at;
        tokio::select! {
            () = &mut stop => break,
            received = news.recv() => match received {
                Ok(news) => teller.news(&news),
                Err(RecvError::Lagged(lost)) => teller.lagged(lost),
                Err(RecvError::Closed) => break,
            },
            event = teller.event() => teller.take(event),
            _ = health.tick() => teller.describe(),
            () = sleep_until(retry_at), if teller.link.is_none() => {
                teller.link = Some(Link::open(&teller.config, &teller.identity, &teller.topics));
            }
        }
        teller.publish();
    }
    teller.goodbye(&mut news).await;
}

struct Teller {
    config: config::Mqtt,
    board: Arc<Board>,
    identity: Identity,
    topics: Topics,
    outbox: Outbox,
    link: Option<Link>,
    retry_at: Instant,
    pause: Duration,
    /// The last problem in the log; none after a word that all is well.
    complaint: Option<(Instant, String)>,
    /// The last connection did not last: a new one is no news.
    comes_and_goes: bool,
    latest: Option<Arc<Heard>>,
    heard_at: Option<Instant>,
    told: String,
    labels: Vec<String>,
    /// A second, and the commands in it.
    commands: (Instant, u32),
}

impl Teller {
    fn new(config: config::Mqtt, board: Arc<Board>, identity: Identity) -> Self {
        board.update(|status| status.broker = Some(Broker::default()));
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.keep(Kept::State, b"online".into());
        Self {
            topics: Topics::new(&config, &identity),
            config,
            board,
            identity,
            outbox,
            link: None,
            retry_at: now,
            pause: LEAST_PAUSE,
            complaint: None,
            comes_and_goes: false,
            latest: None,
            heard_at: None,
            told: String::new(),
            labels: Vec::new(),
            commands: (now, 0),
        }
    }

    /// The next event of the client; never, without one.
    async fn event(&mut self) -> Option<Result<Event, ConnectionError>> {
        match &mut self.link {
            Some(link) => link.event().await,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, event: Option<Result<Event, ConnectionError>>) {
        match event {
            Some(Ok(Event::Incoming(packet))) => match packet {
                Packet::ConnAck(_) => self.connected(),
                Packet::PubAck(ack) => {
                    let acknowledged = self.outbox.acknowledged(ack.pkid);
                    self.counters(|broker| broker.published += u64::from(acknowledged));
                }
                Packet::Publish(publish) => self.command(&publish),
                Packet::SubAck(ack) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                    warn!(
                        "the broker does not let this client subscribe: commands over MQTT are off"
                    );
                }
                _ => {}
            },
            Some(Ok(Event::Outgoing(Outgoing::Publish(packet)))) => self.outbox.numbered(packet),
            Some(Ok(Event::Outgoing(_))) => {}
            Some(Err(error)) => self.lost(Some(error)),
            None => self.lost(None),
        }
    }

    fn connected(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.connected_at = Some(Instant::now());
        self.outbox.restart();
        let topics = &self.topics;
        let commands = [&topics.mute_set, &topics.confirm, &topics.birth];
        if let Err(error) = link.subscribe(commands) {
            warn!("commands over MQTT are off: {error}");
        }
        if let Some(latest) = self.latest.clone() {
            self.hear(&latest);
        }
        self.describe();
        self.counters(|broker| {
            broker.connected = true;
            broker.connections += 1;
            broker.problem = None;
        });
        if !self.comes_and_goes {
            info!("connected to the broker {}", link::address(&self.config));
            self.complaint = None;
        }
    }

    fn lost(&mut self, error: Option<ConnectionError>) {
        let lasted = self.link.take().and_then(|link| link.connected_at);
        let lasted = lasted.map(|at| at.elapsed());
        let was_good = lasted.is_some_and(|lasted| lasted >= link::GOOD);
        let problem = link::problem(&self.config, self.identity.id(), error, lasted);
        if was_good {
            self.pause = LEAST_PAUSE;
        }
        let pause = if problem.is_login {
            LOGIN_PAUSE
        } else {
            self.pause
        };
        self.retry_at = Instant::now() + pause;
        self.pause = (self.pause * 2).min(MOST_PAUSE);
        if lasted.is_some() {
            self.comes_and_goes = !was_good;
        }
        let was_said = self.complaint.as_ref().is_some_and(|(at, text)| {
            let every = if *text == problem.text {
                SAY_AGAIN
            } else {
                link::GOOD
            };
            at.elapsed() < every
        });
        if was_good || !was_said {
            warn!("{}; spans are queued, listening continues", problem.text);
            self.complaint = Some((Instant::now(), problem.text.clone()));
        }
        self.counters(|broker| {
            broker.connected = false;
            broker.problem = Some(problem.text);
        });
    }

    fn news(&mut self, news: &News) {
        match news {
            News::Heard(heard) => {
                self.latest = Some(heard.clone());
                let is_due = self.heard_at.is_none_or(|at| at.elapsed() >= HEARD_EVERY);
                if is_due || heard.verdict != self.told {
                    self.hear(heard);
                }
                let labels = &self.labels;
                if self
                    .board
                    .update(|status| status.recognizer.labels != *labels)
                {
                    self.describe();
                }
            }
            News::Span(span) => {
                if !self.outbox.push(span.clone()) {
                    self.counters(|broker| broker.dropped += 1);
                }
            }
            News::Muted(_) => self.describe(),
            News::Row(_) | News::Channels(_) | News::Confirmed(_) => {}
        }
    }

    fn lagged(&mut self, lost: u64) {
        warn!(
            "{lost} events came too fast for MQTT: a span may be missing there, but not in the history"
        );
        self.describe();
    }

    fn hear(&mut self, heard: &Heard) {
        self.outbox.keep(Kept::Heard, json(heard));
        self.told.clone_from(&heard.verdict);
        self.heard_at = Some(Instant::now());
    }

    /// Health, whether it is muted, and, where that changed, what Home Assistant is told.
    fn describe(&mut self) {
        let status = self.board.status();
        let muted = if self.board.is_muted() { "ON" } else { "OFF" };
        self.outbox.keep_new(Kept::Mute, muted.into());
        let document = discovery::document(&self.identity, &self.topics, &status);
        self.outbox
            .keep_new(Kept::Discovery, document.to_string().into());
        let broker = status.broker.as_ref();
        let health = json(&Health {
            time_ms: now_ms(),
            uptime_s: self.board.uptime_s(),
            capture: &status.capture,
            clipped_samples: status.clipped_samples,
            decisions: status.decisions,
            latency: status.latency,
            history: status.history,
            history_problem: status.history_problem.as_deref(),
            hardware_problems: &status.hardware_problems,
            temperature_c: status.temperature_c,
            spans_waiting: self.outbox.spans(),
            spans_dropped: broker.map_or(0, |broker| broker.dropped),
        });
        self.outbox.keep(Kept::Health, health);
        self.labels = status.recognizer.labels;
    }

    /// Nothing of a message is trusted: what is not exactly a command is none.
    fn command(&mut self, publish: &Publish) {
        // A command that the broker kept is from another day.
        if publish.retain {
            return;
        }
        let topics = &self.topics;
        let command = match (&publish.topic, &*publish.payload) {
            (topic, b"online") if *topic == topics.birth => {
                self.outbox.repeat();
                return;
            }
            (topic, _) if *topic == topics.birth => return,
            (topic, b"ON") if *topic == topics.mute_set => Command::Mute(true),
            (topic, b"OFF") if *topic == topics.mute_set => Command::Mute(false),
            (topic, payload) if *topic == topics.confirm && payload == PRESS.as_bytes() => {
                Command::Confirm
            }
            (topic, payload) => {
                debug!(
                    "ignored {} bytes on {topic:?}: not a command",
                    payload.len()
                );
                return;
            }
        };
        let (since, count) = &mut self.commands;
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        match *count {
            ..=MOST_COMMANDS => self.board.command(command),
            _ => debug!("more than {MOST_COMMANDS} commands a second: {command:?} is ignored"),
        }
    }

    fn counters(&self, change: impl FnOnce(&mut Broker)) {
        self.board
            .update(|status| change(status.broker.get_or_insert_default()));
    }

    /// Hands over what may be in flight.
    fn publish(&mut self) {
        let Some(link) = &self.link else { return };
        if link.connected_at.is_none() {
            return;
        }
        while let Some(next) = self.outbox.next() {
            let topics = &self.topics;
            let (topic, payload, is_kept) = match next {
                Next::Span(span) => (topics.span.as_str(), json(&*span), false),
                Next::Kept(kept, payload) => (topics.of(kept), payload, true),
            };
            if link.publish(topic, is_kept, payload).is_err() {
                // It has more room than may be in flight, so its task has ended.
                return self.lost(None);
            }
        }
    }

    /// Spans first, then `offline`, then the end: all of it if the broker keeps up.
    async fn goodbye(&mut self, news: &mut Receiver<News>) {
        loop {
            match news.try_recv() {
                Ok(news) => self.news(&news),
                Err(TryRecvError::Lagged(lost)) => self.lagged(lost),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let deadline = Instant::now() + GOODBYE;
        self.settle(deadline - GOODBYE / 2).await;
        self.outbox.close();
        self.outbox.keep(Kept::State, b"offline".into());
        // Without the acknowledgement there is no proper end: then the broker tells the will.
        if self.settle(deadline).await
            && let Some(link) = &mut self.link
            && link.disconnect().is_ok()
        {
            while let Ok(Some(Ok(_))) = timeout_at(deadline, link.event()).await {}
        }
        self.link = None;
        let left = self.outbox.spans() as u64;
        if left > 0 {
            warn!("{left} spans did not reach the broker; they are in the history");
        }
        self.counters(|broker| {
            broker.connected = false;
            broker.dropped += left;
        });
    }

    /// Until the broker has everything. False if it does not by the deadline.
    async fn settle(&mut self, deadline: Instant) -> bool {
        loop {
            self.publish();
            let is_connected = |link: &Link| link.connected_at.is_some();
            if !self.link.as_ref().is_some_and(is_connected) {
                return false;
            }
            if self.outbox.is_idle() {
                return true;
            }
            match timeout_at(deadline, self.event()).await {
                Ok(event) => self.take(event),
                Err(_) => return false,
            }
        }
    }
}

#[derive(Serialize)]
struct Health<'s> {
    time_ms: i64,
    uptime_s: f64,
    capture: &'s Capture,
    clipped_samples: u64,
    decisions: u64,
    latency: Latency,
    history: history::Counters,
    history_problem: Option<&'s str>,
    hardware_problems: &'s [String],
    temperature_c: Option<f64>,
    spans_waiting: usize,
    spans_dropped: u64,
}

fn json(what: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Versioned<'w, T> {
        schema_version: u32,
        #[serde(flatten)]
        what: &'w T,
    }
    let versioned = Versioned {
        schema_version: SCHEMA_VERSION,
        what,
    };
    serde_json::to_vec(&versioned).expect("structs of numbers, texts and maps with text keys")
}

impl Topics {
    fn of(&self, kept: Kept) -> &str {
        match kept {
            Kept::State => &self.state,
            Kept::Discovery => &self.discovery,
            Kept::Mute => &self.mute,
            Kept::Heard => &self.heard,
            Kept::Health => &self.health,
        }
    }
}
