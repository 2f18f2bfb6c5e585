//! Against a real Mosquitto.

mod mosquitto;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mosquitto::{Broker, Watcher, until};
use serde_json::Value;
use sori_pi::board::{Board, Command, Heard, News};
use sori_pi::config::{Config, Mqtt};
use sori_pi::history::Span;
use sori_pi::outputs::mqtt::{self, Identity};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What is tested, running.
struct Runner {
    board: Arc<Board>,
    commands: Receiver<Command>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

fn config(port: u16, more: &str) -> Mqtt {
    let text = format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n{more}");
    let config = Config::read(&text, "test.toml".as_ref(), []).expect("right");
    config.mqtt.expect("set")
}

impl Runner {
    fn start(config: Mqtt) -> Self {
        let (board, commands) = Board::new();
        board.update(|status| {
            status.recognizer.labels = vec!["jazz".into(), "rock".into(), "unknown".into()];
            status.temperature_c = Some(48.0);
        });
        let (stop, stopped) = oneshot::channel();
        let identity = Identity::new("Living Room+", "Raspberry Pi 4\0");
        let run = mqtt::run(config, board.clone(), identity, async {
            let _ = stopped.await;
        });
        Self {
            board,
            commands,
            stop: Some(stop),
            task: tokio::spawn(run),
        }
    }

    fn broker(&self) -> sori_pi::board::Broker {
        self.board.status().broker.unwrap_or_default()
    }

    async fn connected(&self, connections: u64) {
        until("it is connected", || {
            let broker = self.broker();
            broker.connected && broker.connections >= connections
        })
        .await;
    }

    /// Asks it to stop; how long that took.
    async fn stop(&mut self) -> Duration {
        let asked = Instant::now();
        let _ = self.stop.take().expect("stopped once").send(());
        let ended = tokio::time::timeout(Duration::from_secs(30), &mut self.task);
        ended.await.expect("it stops").expect("without a panic");
        asked.elapsed()
    }
}

fn heard(verdict: &str) -> News {
    News::Heard(Arc::new(Heard {
        time_ms: 1,
        verdict: verdict.into(),
        confidence: (verdict != "silence").then_some(0.5),
        probabilities: BTreeMap::from([("jazz".into(), 0.5), ("rock".into(), 0.25)]),
        level_dbfs: f64::NEG_INFINITY,
    }))
}

fn span(number: i64) -> News {
    News::Span(Arc::new(Span {
        started_ms: number,
        seconds: 1.0,
        verdict: "jazz".into(),
        confidence: Some(0.5),
        level_dbfs: -40.0,
        confirmed: false,
    }))
}

const STATE: &str = "sori/living_room_/state";
const HEARD: &str = "sori/living_room_/heard";
const SPAN: &str = "sori/living_room_/span";
const HEALTH: &str = "sori/living_room_/health";
const MUTE: &str = "sori/living_room_/mute";
const MUTE_SET: &str = "sori/living_room_/mute/set";
const CONFIRM: &str = "sori/living_room_/confirm";
const DISCOVERY: &str = "homeassistant/device/sori_living_room_/config";

/// The numbers of the spans that arrived, without those that came twice in a row.
fn spans(watcher: &Watcher) -> Vec<i64> {
    let payloads = watcher.all(SPAN);
    let numbers = payloads.iter().map(|payload| {
        let span: Value = serde_json::from_slice(payload).expect("JSON");
        assert_eq!(span["schema_version"], 1);
        span["started_ms"].as_i64().expect("a number")
    });
    // At least once: after a broken connection what was in flight comes again, in order.
    let mut seen = BTreeSet::new();
    numbers.filter(|&number| seen.insert(number)).collect()
}

#[tokio::test]
async fn home_assistant_finds_a_device_whose_every_entity_has_its_topic() {
    let broker = Broker::start();
    let runner = Runner::start(config(broker.port, ""));
    runner.connected(1).await;
    runner.board.publish(heard("jazz"));
    until("all of it was taken", || runner.broker().published >= 5).await;
    // One that comes later finds everything that matters.
    let watcher = Watcher::start(broker.port, "late").await;
    until("everything is kept", || {
        [STATE, HEARD, HEALTH, MUTE, DISCOVERY]
            .iter()
            .all(|topic| watcher.latest(topic).is_some())
    })
    .await;
    assert_eq!(watcher.text(STATE), "online");
    assert_eq!(watcher.text(MUTE), "OFF");
    let document = watcher.json(DISCOVERY);
    assert_eq!(document["availability_topic"], STATE);
    assert_eq!(document["device"]["model"], "Raspberry Pi 4");
    assert_eq!(document["device"]["name"], "Sori Living Room+");
    assert_eq!(document["device"]["identifiers"][0], "sori_living_room_");
    assert!(document["origin"]["name"].is_string());
    let mut ids = BTreeSet::new();
    let components = document["components"].as_object().expect("components");
    for (key, component) in components {
        let id = component["unique_id"].as_str().expect(key);
        assert!(ids.insert(id), "{id} is there twice");
        assert!(component["name"].is_string(), "{key}");
        let platform = component["platform"].as_str().expect(key);
        if platform != "button" {
            let topic = component["state_topic"].as_str().expect(key);
            assert!(watcher.latest(topic).is_some(), "{key}: nothing on {topic}");
        }
        if ["switch", "button"].contains(&platform) {
            let topic = component["command_topic"].as_str().expect(key);
            assert!([MUTE_SET, CONFIRM].contains(&topic), "{key}: {topic}");
        }
        // A template that asks for what no message has shows nothing, and says nothing.
        let template = component["value_template"].as_str().unwrap_or_default();
        if let Some((_, path)) = template.split_once("value_json.") {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
            let pointer = format!("/{}", path[..end.unwrap_or(path.len())].replace('.', "/"));
            let message = watcher.json(component["state_topic"].as_str().expect(key));
            assert!(message.pointer(&pointer).is_some(), "{key}: {template}");
        }
    }
    for (platform, many) in [
        ("sensor", 6),
        ("binary_sensor", 1),
        ("switch", 1),
        ("button", 1),
    ] {
        let of = components.values().filter(|c| c["platform"] == platform);
        assert_eq!(of.count(), many, "{platform}");
    }
    assert_eq!(
        components["genre"]["options"],
        serde_json::json!(["jazz", "rock", "silence", "unknown"])
    );
    // JSON has no minus infinity.
    assert_eq!(watcher.json(HEARD)["level_dbfs"], Value::Null);
    // Another package has other labels, and the document follows at once.
    let replace = |status: &mut sori_pi::board::Status| {
        status.recognizer.labels = vec!["speech".into()];
    };
    runner.board.update(replace);
    runner.board.publish(heard("silence"));
    until("the labels are new", || {
        watcher.json(DISCOVERY)["components"]["genre"]["options"]
            == serde_json::json!(["silence", "speech", "unknown"])
    })
    .await;
    // Home Assistant starts anew and asks for everything again.
    let before = watcher.all(DISCOVERY).len();
    watcher
        .publish("homeassistant/status", b"online", false)
        .await;
    until("it is told again", || watcher.all(DISCOVERY).len() > before).await;
}

#[tokio::test]
async fn spans_arrive_in_order_and_a_verdict_that_stays_is_not_repeated() {
    let broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let runner = Runner::start(config(broker.port, "topic = \"sori\"\n"));
    runner.connected(1).await;
    for number in 0..300 {
        runner.board.publish(span(number));
        runner.board.publish(heard("jazz"));
    }
    runner.board.publish(heard("rock"));
    until("all spans are there", || spans(&watcher).len() == 300).await;
    assert_eq!(spans(&watcher), (0..300).collect::<Vec<_>>());
    until("the change is there", || {
        watcher.json(HEARD)["verdict"] == "rock"
    })
    .await;
    let told = watcher.all(HEARD).len();
    // 301 decisions; even a minute of them would be 12 messages and a change.
    assert!(told <= 14, "{told}");
    until("they are counted", || runner.broker().published >= 300).await;
    assert_eq!(runner.broker().dropped, 0);
}

#[tokio::test]
async fn a_runner_that_vanishes_is_offline_by_its_last_will() {
    let broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let runner = Runner::start(config(broker.port, ""));
    until("it is online", || {
        watcher.latest(STATE).is_some_and(|s| s == b"online")
    })
    .await;
    runner.task.abort();
    until("it is offline", || watcher.text(STATE) == "offline").await;
    let late = Watcher::start(broker.port, "late").await;
    until("that is kept", || {
        late.latest(STATE).is_some_and(|s| s == b"offline")
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_is_gone_for_a_while_gets_every_span_afterwards() {
    let mut broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let runner = Runner::start(config(broker.port, ""));
    runner.connected(1).await;
    let publish = |numbers: std::ops::Range<i64>| {
        for number in numbers {
            runner.board.publish(span(number));
        }
    };
    // Some are in flight when it goes.
    publish(0..100);
    broker.stop();
    publish(100..200);
    until("it is noticed", || !runner.broker().connected).await;
    let problem = runner.broker().problem.unwrap_or_default();
    assert!(problem.contains("127.0.0.1"), "{problem}");
    // More than the board holds for a slow reader: they have to wait here.
    for hundred in 2..20 {
        publish(hundred * 100..(hundred + 1) * 100);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    broker.start_again();
    let back = Instant::now();
    runner.connected(2).await;
    let took = back.elapsed();
    publish(2000..2100);
    until("all spans are there", || spans(&watcher).len() >= 2100).await;
    assert_eq!(spans(&watcher), (0..2100).collect::<Vec<_>>());
    let after = runner.broker();
    assert_eq!((after.dropped, after.problem), (0, None));
    // The longest pause is 1.5 seconds; the rest is for a busy machine.
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn a_broker_that_forgot_everything_is_told_everything() {
    let mut broker = Broker::start();
    let runner = Runner::start(config(broker.port, ""));
    runner.connected(1).await;
    runner.board.publish(heard("jazz"));
    broker.kill();
    until("it is noticed", || !runner.broker().connected).await;
    // Only the latest of what happened meanwhile matters.
    runner.board.publish(heard("rock"));
    runner.board.set_muted(true);
    broker.start_empty();
    runner.connected(2).await;
    let watcher = Watcher::start(broker.port, "late").await;
    until("everything is kept", || {
        [STATE, HEARD, HEALTH, MUTE, DISCOVERY]
            .iter()
            .all(|topic| watcher.latest(topic).is_some())
    })
    .await;
    assert_eq!(watcher.json(HEARD)["verdict"], "rock");
    assert_eq!(watcher.text(MUTE), "ON");
    assert_eq!(watcher.text(STATE), "online");
}

#[tokio::test]
async fn a_wrong_password_is_a_clear_problem_and_no_flood() {
    let broker = Broker::start_with_login("sori", "right");
    let wrong = "username = \"sori\"\npassword = \"wrong\"\n";
    for (login, said) in [(wrong, "rejects the login"), ("", "requires a login")] {
        let before = broker.attempts();
        let mut runner = Runner::start(config(broker.port, login));
        until("there is a problem", || runner.broker().problem.is_some()).await;
        let problem = runner.broker().problem.unwrap_or_default();
        assert!(
            problem.contains(said) && problem.contains("[mqtt]"),
            "{problem}"
        );
        // In a second an impatient client would have come five times.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(broker.attempts() - before, 1);
        runner.stop().await;
    }
    let right = "username = \"sori\"\npassword = \"right\"\n";
    Runner::start(config(broker.port, right)).connected(1).await;
}

#[tokio::test]
async fn commands_are_obeyed_and_garbage_is_not() {
    let broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let runner = Runner::start(config(broker.port, ""));
    // From another day, and kept by the broker.
    watcher.publish(MUTE_SET, b"ON", true).await;
    runner.connected(1).await;
    until("it has subscribed", || {
        broker.log().contains("SUBACK to sori-living_room_")
    })
    .await;
    let large = vec![b'O'; 100_000];
    for garbage in [&b""[..], b"on", b"ON ", b"TRUE", b"\xff\xfe\0", &large] {
        watcher.publish(MUTE_SET, garbage, false).await;
        watcher.publish(CONFIRM, garbage, false).await;
        watcher
            .publish("homeassistant/status", garbage, false)
            .await;
    }
    for (topic, command) in [(MUTE_SET, "ON"), (CONFIRM, "PRESS"), (MUTE_SET, "OFF")] {
        watcher.publish(topic, command.as_bytes(), false).await;
    }
    let mut got = Vec::new();
    until("the commands are there", || {
        got.extend(runner.commands.try_iter());
        got.len() >= 3
    })
    .await;
    assert_eq!(
        got,
        [Command::Mute(true), Command::Confirm, Command::Mute(false)]
    );
    assert_eq!(runner.broker().connections, 1);
    // What the runner does on it is told.
    runner.board.set_muted(true);
    until("it is muted", || {
        watcher.latest(MUTE).is_some_and(|m| m == b"ON")
    })
    .await;
    // More than is taken into memory ends the connection, and no more than that.
    watcher.publish(MUTE_SET, &vec![b'O'; 400_000], false).await;
    runner.connected(2).await;
    let subscriptions = || broker.log().matches("SUBACK to sori-living_room_").count();
    until("it has subscribed again", || subscriptions() >= 2).await;
    // A program gone wild does not fill the queue of the runner.
    for _ in 0..500 {
        watcher.publish(CONFIRM, b"PRESS", false).await;
    }
    watcher
        .publish("homeassistant/status", b"online", false)
        .await;
    let told = watcher.all(DISCOVERY).len();
    until("all of it was read", || watcher.all(DISCOVERY).len() > told).await;
    let obeyed = runner.commands.try_iter().count();
    assert!((1..400).contains(&obeyed), "{obeyed}");
}

#[tokio::test]
async fn a_stop_sends_what_is_left_and_says_goodbye() {
    let broker = Broker::start();
    let watcher = Watcher::start(broker.port, "watcher").await;
    let mut runner = Runner::start(config(broker.port, ""));
    runner.connected(1).await;
    for number in 0..100 {
        runner.board.publish(span(number));
    }
    let took = runner.stop().await;
    // A second is promised; the rest is for a busy machine.
    assert!(took < Duration::from_secs(3), "{took:?}");
    until("it is offline", || watcher.text(STATE) == "offline").await;
    assert_eq!(spans(&watcher), (0..100).collect::<Vec<_>>());
    assert!(!runner.broker().connected && runner.broker().dropped == 0);
    // It left properly: the broker had no will to tell.
    until("it left", || {
        broker
            .log()
            .contains("Received DISCONNECT from sori-living_room_")
    })
    .await;
}

#[tokio::test]
async fn a_stop_waits_for_no_broker() {
    // Nobody there; somebody who never answers.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let nobody = mosquitto::free_port();
    for (port, said) in [
        (nobody, "is unreachable"),
        (silent.local_addr().unwrap().port(), "does not respond"),
    ] {
        let mut runner = Runner::start(config(port, ""));
        runner.board.publish(span(1));
        until("there is a problem", || runner.broker().problem.is_some()).await;
        let problem = runner.broker().problem.unwrap_or_default();
        assert!(problem.contains(said), "{problem}");
        let took = runner.stop().await;
        // A second is promised; the rest is for a busy machine.
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(runner.broker().dropped, 1, "the span is accounted for");
    }
}
