//! One connection to a broker, and in words why there is none.

use std::net::Ipv6Addr;
use std::time::Duration;

use rumqttc::ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, LastWill, MqttOptions, NetworkOptions, QoS,
    SubscribeFilter,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::discovery::{Identity, Topics};
use super::outbox::MOST_IN_FLIGHT;
use crate::config;

/// A connection that lasted so long was a good one.
pub(super) const GOOD: Duration = Duration::from_secs(10);
/// For name, connection and greeting together, in seconds.
const CONNECT_S: u64 = 5;
/// A broker that vanished is noticed after twice that.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A larger message ends the connection; commands have 6 bytes at most.
const LARGEST: usize = 256 * 1024;

/// A client of its own for each connection, so that nothing of the one before comes along:
/// what was not acknowledged is the outbox's to send again.
pub(super) struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, ConnectionError>>,
    /// Polls the client, because a poll that is given up in the middle may lose what it was
    /// about to send. Ends when dropped.
    _task: JoinSet<()>,
    pub(super) connected_at: Option<Instant>,
}

impl Link {
    /// Begins to connect.
    pub(super) fn open(config: &config::Mqtt, identity: &Identity, topics: &Topics) -> Self {
        // An address with colons would swallow the port.
        let host = match config.host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => config.host.clone(),
        };
        // The name is the same each time: a broker that has not noticed that the connection
        // before is dead publishes its will now, and not after the new one said `online`.
        let id = format!("sori-{}", identity.id());
        let will = LastWill::new(&topics.state, "offline", QoS::AtLeastOnce, true);
        let mut options = MqttOptions::new(id, host, config.port.get() as u16);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_max_packet_size(LARGEST, LARGEST)
            .set_last_will(will);
        if let Some(username) = &config.username {
            options.set_credentials(username, config.password.as_deref().unwrap_or_default());
        }
        let (client, mut poll) = AsyncClient::new(options, 2 * MOST_IN_FLIGHT);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_S);
        poll.set_network_options(network);
        let (sender, events) = mpsc::channel(2 * MOST_IN_FLIGHT);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let event = poll.poll().await;
                let is_over = event.is_err();
                if sender.send(event).await.is_err() || is_over {
                    return;
                }
            }
        });
        Self {
            client,
            events,
            _task: task,
            connected_at: None,
        }
    }

    /// The next event; none after an error, which is the last.
    pub(super) async fn event(&mut self) -> Option<Result<Event, ConnectionError>> {
        self.events.recv().await
    }

    pub(super) fn subscribe(&self, topics: [&String; 3]) -> Result<(), ClientError> {
        let filters = topics.map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters)
    }

    /// Hands a message over. The client has more room than may be in flight.
    pub(super) fn publish(
        &self,
        topic: &str,
        is_kept: bool,
        payload: Vec<u8>,
    ) -> Result<(), ClientError> {
        self.client
            .try_publish(topic, QoS::AtLeastOnce, is_kept, payload)
    }

    pub(super) fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect()
    }
}

/// Why there is no connection.
pub(super) struct Problem {
    /// In words that say what to do.
    pub(super) text: String,
    /// Trying again soon is of no use.
    pub(super) is_login: bool,
}

/// Of a connection that ended by `error`, after having `lasted` if it ever stood.
pub(super) fn problem(
    config: &config::Mqtt,
    id: &str,
    error: Option<ConnectionError>,
    lasted: Option<Duration>,
) -> Problem {
    let broker = format!("the broker {}", address(config));
    let is_login = matches!(
        error,
        Some(ConnectionError::ConnectionRefused(
            BadUserNamePassword | NotAuthorized
        ))
    );
    let text = match (error, lasted) {
        (Some(_), _) if is_login && config.username.is_none() => {
            format!("{broker} requires a login: set username and password in [mqtt]")
        }
        (Some(_), _) if is_login => {
            format!("{broker} rejects the login: check username and password in [mqtt]")
        }
        (Some(ConnectionError::ConnectionRefused(code)), _) => {
            format!("{broker} rejects the connection: {code:?}")
        }
        (Some(error), Some(lasted)) if lasted < GOOD => format!(
            "{broker} closed the connection ({error}): is another client using the ID {id}?"
        ),
        (Some(error), Some(_)) => format!("lost the connection to {broker}: {error}"),
        (Some(ConnectionError::NetworkTimeout), None) => {
            format!("{broker} does not respond: check host and port in [mqtt], and the network")
        }
        (Some(error), None) => format!(
            "{broker} is unreachable ({error}): check that it is running, and host and port in [mqtt]"
        ),
        (None, _) => format!("the client of {broker} failed and restarts"),
    };
    Problem { text, is_login }
}

/// For people.
pub(super) fn address(config: &config::Mqtt) -> String {
    format!("{}:{}", config.host, config.port.get())
}
