//! The thread of page and MQTT: one, asynchronous, for all connections.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::board::Board;
use crate::config::{self, Config};
use crate::mic::{Listened, Severity, doctor, judge};
use crate::model::Model;
use crate::outputs::mqtt::Identity;
use crate::outputs::{metrics, mqtt};
use crate::page::{self, Bound, Shared};
use crate::service::Pulse;

/// How soon a stop is noticed.
const ROUND: Duration = Duration::from_millis(50);

/// Page and MQTT, ready to run.
pub struct Network {
    runtime: Runtime,
    bound: Bound,
    shared: Shared,
    mqtt: Option<config::Mqtt>,
}

impl Network {
    /// Takes the page's address.
    ///
    /// # Errors
    /// It cannot be had, with what to do.
    pub fn bind(
        config: &Config,
        board: Arc<Board>,
        model: Arc<RwLock<Arc<Model>>>,
    ) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("reader")
            // Each may hold megabytes: a clip, a query.
            .max_blocking_threads(4)
            .build()?;
        let bound = runtime.block_on(Bound::bind(&config.page))?;
        let device = config.microphone.device.clone();
        let (counted, looked_at) = (board.clone(), board.clone());
        let shared = Shared {
            board,
            history: config.history.path(),
            model,
            card: page::BUILT_IN_CARD.into(),
            doctor: Arc::new(move || findings(&device, &looked_at)),
            metrics: Some(Arc::new(move || metrics::text(&counted))),
        };
        Ok(Self {
            runtime,
            bound,
            shared,
            mqtt: config.mqtt.clone(),
        })
    }

    /// Serves until `stop` is set; `pulse` beats while it can.
    pub fn run(self, stop: &AtomicBool, pulse: &Pulse) {
        let Self {
            runtime,
            bound,
            shared,
            mqtt,
        } = self;
        let told = async || {
            while !stop.load(Ordering::Relaxed) {
                pulse.beat();
                sleep(ROUND).await;
            }
        };
        let board = shared.board.clone();
        let broker = async {
            if let Some(config) = mqtt {
                mqtt::run(config, board, Identity::of_this_machine(), told()).await;
            }
        };
        runtime.block_on(async { tokio::join!(bound.serve(shared, told()), broker) });
        // A query that hangs on the disk is not waited for.
        runtime.shutdown_background();
    }
}

/// What is wrong with the microphone, without opening it a second time.
fn findings(device: &str, board: &Board) -> Value {
    let mut findings = doctor::examine(Path::new("/"), device, None).findings;
    if let Some(channels) = board.status().channels {
        findings.extend(judge(&Listened {
            seconds: vec![channels.readings],
            ..Listened::default()
        }));
    }
    let findings = findings.into_iter().map(|finding| {
        json!({
            "severity": match finding.severity {
                Severity::Ok => "ok",
                Severity::Note => "note",
                Severity::Problem => "error",
            },
            "what": finding.what,
            "why": finding.why,
            "type": finding.fix,
        })
    });
    findings.collect()
}
