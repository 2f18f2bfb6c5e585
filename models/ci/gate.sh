#!/bin/sh
# From model.onnx to model.sori, in a folder that has
#
#   model.onnx      the network
#   contract.toml   its mel contract and labels; not needed where model.onnx has them in it
#   calibration/    what it will hear, to set ranges by
#   evaluation/     other such sound, to compare int8 with float on
#
# Fails with 3, and leaves no model.sori, where int8 costs more than GATE allows; cost.html says
# where it was lost.
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
