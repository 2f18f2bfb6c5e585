//! The linker's memory map, and the package: `SORI_PACKAGE` names another than the genre model.

use std::path::Path;
use std::{env, fs};

const GENRE: &str = "../../models/genre/genre.sori";

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let out = Path::new(&out);
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x lies beside build.rs");
    let package = env::var("SORI_PACKAGE").unwrap_or_else(|_| GENRE.to_owned());
    if let Err(error) = fs::copy(&package, out.join("package.sori")) {
        panic!("{package} cannot be copied: {error}; SORI_PACKAGE is a path from firmware/pico2");
    }
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed={package}");
    println!("cargo:rerun-if-env-changed=SORI_PACKAGE");
}
