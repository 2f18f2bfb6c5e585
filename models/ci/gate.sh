#!/bin/sh
# Quantizes model.onnx to model.sori, in a folder that contains
#
#   model.onnx      the network
#   contract.toml   its mel contract and labels; not needed if model.onnx embeds them
#   calibration/    audio like what it will hear, to set the ranges
#   evaluation/     other such audio, to compare int8 and float on
#
# Exits with 3 and writes no model.sori if int8 costs more than GATE allows; cost.html is the
# accuracy report.
#
#   sh gate.sh [SORI]
set -eu
sori=${1:-sori}
gate=${GATE:-agreement=0.98,sqnr=20}

rm -f model.sori
set -- model.onnx --calib calibration --eval evaluation --out model.sori --report cost.html
if [ -e contract.toml ]; then
    set -- "$@" --contract contract.toml
fi
"$sori" quantize "$@" --gate "$gate"
"$sori" verify --backend all model.sori
