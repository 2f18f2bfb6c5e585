//! Libraries that stand before others (`LD_PRELOAD`), made from C as a test needs them.

#![allow(dead_code, reason = "not every test that uses it needs everything")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a C file of this folder's neighbours, `shim/alsa.c` say.
pub(crate) fn library(source: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(source);
    let name = source.with_extension("so");
    let library = folder.join(name.file_name().expect("a file has a name"));
    // For a binary of another processor, its compiler.
    let compiler = std::env::var("SHIM_CC").unwrap_or_else(|_| "cc".into());
    let built = Command::new(compiler)
        .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(built.expect("cc is there").success());
    library
}

/// Lets a program start with the library, beside those that it has already.
pub(crate) fn add<'c>(command: &'c mut Command, library: &Path) -> &'c mut Command {
    let before = command.get_envs().find(|(key, _)| *key == "LD_PRELOAD");
    let before = before.and_then(|(_, value)| value);
    let mut all = before.map_or_else(Default::default, |value| {
        let mut all = value.to_os_string();
        all.push(":");
        all
    });
    all.push(library);
    command.env("LD_PRELOAD", all)
}
