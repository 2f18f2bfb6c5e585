//! What people write: contracts and configurations. They are read or refused.

use std::path::Path;

use sori_host::contract::Contract;
use sori_pi::config::Config;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let _ = Contract::parse(text);
    let _ = Config::read(text, Path::new("a.toml"), []);
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(key, value)| (format!("SORI_PI_{key}"), value.to_string()));
    let _ = Config::read("", Path::new("a.toml"), variables);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../../firmware/pi/sori-pi.toml"),
        include_str!("../../../models/genre/contract.toml"),
        "PAGE__LISTEN=0.0.0.0:8080\nAUDIO__RATE_HZ=48000\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
