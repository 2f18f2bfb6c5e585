//! Where the news go: lines on stdout, a broker, numbers for Prometheus.

pub mod lines;
pub mod metrics;
