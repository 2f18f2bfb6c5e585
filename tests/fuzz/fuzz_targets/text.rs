//! What people write: contracts and configurations. They are read or refused.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sori_host::contract::Contract;
use sori_pi::config::Config;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let _ = Contract::parse(text);
    let _ = Config::read(text, Path::new("fuzzed.toml"), []);
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(key, value)| (format!("SORI_PI_{key}"), value.to_string()));
    let _ = Config::read("", Path::new("fuzzed.toml"), variables);
});
