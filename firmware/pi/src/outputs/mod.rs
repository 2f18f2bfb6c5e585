//! Where the news go: lines on stdout, a broker, numbers for Prometheus.

mod discovery;
pub mod lines;
mod link;
pub mod metrics;
pub mod mqtt;
mod outbox;
