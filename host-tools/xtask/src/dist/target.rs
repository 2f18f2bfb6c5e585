//! Raspberry Pis with 64 and with 32 bits, and what builds for them.

use std::path::PathBuf;

use crate::tools;

/// A processor family, as everyone calls it.
pub struct Target {
    /// Rust's triple.
    pub rust: &'static str,
    /// Debian's architecture.
    pub debian: &'static str,
    /// GNU's triplet: the C compiler's prefix, and the folder of libraries.
    pub gnu: &'static str,
    /// Debian's package of that compiler.
    compiler: &'static str,
    /// The emulator.
    pub qemu: &'static str,
}

/// Zero 2 W, 3, 4, 5 with the 64-bit Raspberry Pi OS.
pub const ARM64: Target = Target {
    rust: "aarch64-unknown-linux-gnu",
    debian: "arm64",
    gnu: "aarch64-linux-gnu",
    compiler: "gcc-aarch64-linux-gnu",
    qemu: "qemu-aarch64",
};

/// The same with the 32-bit one, and the Pi 2.
pub const ARMHF: Target = Target {
    rust: "armv7-unknown-linux-gnueabihf",
    debian: "armhf",
    gnu: "arm-linux-gnueabihf",
    compiler: "gcc-arm-linux-gnueabihf",
    qemu: "qemu-arm",
};

impl Target {
    /// The binary among the build's results.
    pub fn binary(&self) -> PathBuf {
        self.shown().into()
    }

    /// Its path, as a person types it.
    pub(super) fn shown(&self) -> String {
        format!("target/{}/dist/sori-pi", self.rust)
    }

    /// The C compiler, which also links.
    pub(super) fn gcc(&self) -> String {
        format!("{}-gcc", self.gnu)
    }

    pub(super) fn require_tools(&self) -> anyhow::Result<()> {
        tools::require_targets(&[self.rust])?;
        tools::require(&self.gcc(), self.compiler)?;
        // The compiler only recommends it.
        let headers = format!("/usr/{}/include/stdint.h", self.gnu);
        tools::require_file(&headers, &format!("libc6-dev-{}-cross", self.debian))?;
        let libraries = format!("/usr/lib/{}", self.gnu);
        tools::require_foreign_library(self.debian, &libraries, "alsa", "libasound2-dev")?;
        tools::require(self.qemu, "qemu-user")
    }
}
