#!/bin/sh
# Sori and a package on the processors that they are for, under QEMU: the conformance suite on
# a Pi's cores and on Cortex-M, sori-pi cross-compiled and packed for Debian, and the package's
# golden vectors by that very program.
#
#   sh boards.sh PACKAGE.sori
set -eu
package=$(realpath "$1")
cd "$(dirname "$0")/../.."

cargo xtask qemu
cargo xtask dist
for core in cortex-a53 cortex-a72 cortex-a76; do
    echo "$package on $core"
    SORI_PI_MODEL_PACKAGE=$package qemu-aarch64 -cpu "$core" \
        target/aarch64-unknown-linux-gnu/dist/sori-pi run --check-config
done
