//! What a binary asks of the system that it will run on, against what its package asks.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::tools;

/// Debian's package of each library that may be linked.
const PACKAGES: [(&str, &str); 5] = [
    ("libasound.so.2", "libasound2"),
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("ld-linux-", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1"),
];

/// Fails if the package's `Depends` would let it be installed where the binary cannot start.
pub(super) fn check(binary: &Path, depends: &str) -> anyhow::Result<()> {
    tools::require("readelf", "binutils")?;
    let mut readelf = Command::new("readelf");
    let output = tools::captured(readelf.args(["-dVW"]).arg(binary))?;
    let text = String::from_utf8_lossy(&output.stdout);
    judge(&text, depends).with_context(|| binary.display().to_string())
}

fn judge(readelf: &str, depends: &str) -> anyhow::Result<()> {
    let mut any = false;
    for library in libraries(readelf) {
        any = true;
        let package = PACKAGES
            .iter()
            .find_map(|(name, package)| library.starts_with(name).then_some(*package));
        let package =
            package.with_context(|| format!("links {library}, whose package is not known here"))?;
        ensure!(
            asked(depends, package).is_some(),
            "links {library}, but depends = \"{depends}\" in firmware/pi/Cargo.toml lacks {package}"
        );
    }
    ensure!(any, "readelf lists no linked library");
    let newest = newest_glibc(readelf).context("readelf lists no glibc version")?;
    let asked = asked(depends, "libc6")
        .and_then(version)
        .context("depends names no version of libc6")?;
    ensure!(
        newest <= asked,
        "needs glibc {}.{}, but depends = \"{depends}\" in firmware/pi/Cargo.toml requires less",
        newest.0,
        newest.1
    );
    println!("   requires glibc {}.{}", newest.0, newest.1);
    Ok(())
}

/// `0x1 (NEEDED)  Shared library: [libc.so.6]`
fn libraries(readelf: &str) -> impl Iterator<Item = &str> {
    readelf
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.strip_suffix(']'))
}

/// `Name: GLIBC_2.34  Flags: none  Version: 5`
fn newest_glibc(readelf: &str) -> Option<(u32, u32)> {
    let names = readelf.split("Name: GLIBC_").skip(1);
    names.filter_map(version).max()
}

/// The clause of a package, `libc6 (>= 2.36)`.
fn asked<'d>(depends: &'d str, package: &str) -> Option<&'d str> {
    let is = |clause: &&str| clause.split_whitespace().next() == Some(package);
    depends.split(',').map(str::trim).find(is)
}

/// The first number with a point, `2.36`.
fn version(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit());
    // `libc6` has a digit of its own.
    let text = match text.split_once(">= ") {
        Some((_, version)) => version,
        None => &text[start?..],
    };
    let end = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (major, rest) = text.split_once('.')?;
    Some((major.parse().ok()?, rest[..end(rest)].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READELF: &str = "\
 0x0000000000000001 (NEEDED)             Shared library: [libasound.so.2]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
  0x0030:   Name: GLIBC_2.9  Flags: none  Version: 7
  0x0040:   Name: GLIBC_2.34  Flags: none  Version: 5
";

    #[test]
    fn a_library_or_a_glibc_that_depends_does_not_ask_for_is_named() {
        let judge = |readelf: &str, depends| judge(readelf, depends).map_err(|e| e.to_string());
        let enough = "libc6 (>= 2.34), libasound2 (>= 1.2.5) | libasound2t64";
        assert_eq!(judge(READELF, enough), Ok(()));
        let old = judge(READELF, "libc6 (>= 2.9), libasound2").unwrap_err();
        assert!(old.contains("needs glibc 2.34"), "{old}");
        let lacking = judge(READELF, "libc6 (>= 2.34)").unwrap_err();
        assert!(lacking.contains("lacks libasound2"), "{lacking}");
        let strange = READELF.replace("libc.so.6", "libssl.so.3");
        let strange = judge(&strange, enough).unwrap_err();
        assert!(strange.contains("libssl.so.3"), "{strange}");
        assert!(judge("", enough).is_err());
    }
}
