//! The server as a peer meets it: real HTTP over loopback.

mod access;
mod api;
mod classify;
mod peer;
mod server;
mod streams;
