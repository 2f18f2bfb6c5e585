#!/bin/sh
# Tests Sori and a package on their target processors, under QEMU: runs the conformance suite on a
# Pi's cores and on Cortex-M, cross-compiles sori-pi and packages it for Debian, and verifies the
# package's golden vectors with that program.
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
