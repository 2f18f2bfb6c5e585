"""Sori, onnxruntime and LiteRT quantize the same networks from the same windows.

    python compare.py OUT --sori target/release/sori [--markdown FILE] [--json FILE] [--row ROW]

Exits with 1 if Sori refuses a network or a peer's int8 is closer to float. What the peers
make of a row is kept in OUT/ROW/peers.json until its network or windows change.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

import data
import graph

ROOT = Path(__file__).parent
# What torch and tf2onnx append, `+cu132` or ` None`, is of no interest.
VERSION = re.compile(r"[0-9.]*")
# onnxruntime's ways of choosing ranges; its best counts.
CALIBRATIONS = {
    "MinMax": ("MinMax", {}),
    "Percentile 99.999": ("Percentile", {"CalibPercentile": 99.999}),
    "Percentile 99.99": ("Percentile", {"CalibPercentile": 99.99}),
    "Entropy": ("Entropy", {}),
}


@contextlib.contextmanager
def silence():
    """The converters write pages, from C++ too; what goes wrong comes as an exception."""
    kept = [os.dup(stream) for stream in (1, 2)]
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        for stream, copy in zip((1, 2), kept):
            os.dup2(copy, stream)
            os.close(copy)


def closeness(wanted, found):
    noise = np.sum((wanted - found).astype(np.float64) ** 2)
    return {
        "agreement": float(np.mean(wanted.argmax(1) == found.argmax(1))),
        "sqnr_db": float(10 * np.log10(np.sum(wanted.astype(np.float64) ** 2) / noise)),
    }


def peers(folder, model):
    # Imported here so that a run of Sori alone does not wait for TensorFlow.
    import keras
    import quantize_litert
    import quantize_ort

    calibration, evaluation = data.read(folder / "calib"), data.read(folder / "eval")
    model = graph.without_softmax(model)
    wanted = graph.logits(model, evaluation)
    labels = np.load(folder / "labels.npy")
    ready = quantize_ort.prepare(model)

    ort = {}
    for name, (method, options) in CALIBRATIONS.items():
        quantized = quantize_ort.quantize(ready, calibration, method, **options)
        ort[name] = closeness(wanted, graph.logits(quantized, evaluation))

    saved = folder / "model.keras"
    if saved.exists():
        net = quantize_litert.without_softmax(keras.models.load_model(saved))
    else:
        net = quantize_litert.from_onnx(ready)
    again = net.predict(evaluation, batch_size=16, verbose=0)
    difference = float(np.abs(again - wanted).max())
    assert difference < 1e-3 * np.abs(wanted).max(), f"Keras differs from ONNX by {difference}"
    quantized = quantize_litert.quantize(net, calibration)
    litert = closeness(wanted, quantize_litert.logits(quantized, evaluation))
    return {
        "float_accuracy": float(np.mean(wanted.argmax(1) == labels)),
        "largest_logit": float(np.abs(wanted).max()),
        "keras_difference": difference,
        "onnxruntime": ort,
        "litert": litert,
    }


def cached_peers(folder, model):
    digest = hashlib.sha256(model.SerializeToString())
    for path in [ROOT / "quantize_ort.py", ROOT / "quantize_litert.py", *sorted(folder.glob("*/*.npy"))]:
        digest.update(path.read_bytes())
    digest.update(repr(CALIBRATIONS).encode())
    cache = folder / "peers.json"
    if cache.exists():
        kept = json.loads(cache.read_text())
        if kept["of"] == digest.hexdigest():
            return kept
    with silence():
        found = {"of": digest.hexdigest(), **peers(folder, model)}
    cache.write_text(json.dumps(found, indent=1) + "\n")
    return found


def sori(binary, folder):
    with tempfile.TemporaryDirectory() as out:
        command = [binary, "quantize", folder / "model.onnx", "--calib", folder / "calib"]
        command += ["--eval", folder / "eval", "--out", Path(out) / "x.sori", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return {"refused": reason.split(f"{folder / 'model.onnx'}: ")[-1]}
    report = json.loads(done.stdout)
    return {"agreement": report["top1_agreement"], "sqnr_db": report["logits_sqnr_db"]}


def compare(binary, folder):
    shown = onnx.load(folder / "model.onnx")
    reference = folder / "float.onnx"
    found = cached_peers(folder, onnx.load(reference) if reference.exists() else shown)
    dims = shown.graph.input[0].type.tensor_type.shape.dim
    method, ort = max(found["onnxruntime"].items(), key=lambda item: item[1]["sqnr_db"])
    row = {
        "row": folder.name,
        "exporter": f"{shown.producer_name} {VERSION.match(shown.producer_version)[0]}".strip(),
        "opset": graph.opset(shown),
        "input": [d.dim_value for d in dims][1:],
        "width": int(folder.name.rsplit("_", 1)[1]) / 100,
        "float_accuracy": found["float_accuracy"],
        "sori": sori(binary, folder),
        "onnxruntime": {"calibration": method, **ort},
        "litert": found["litert"],
    }
    ours, theirs = row["sori"], [row["onnxruntime"], row["litert"]]
    measures = [key for key in ("agreement", "sqnr_db") if key in ours]
    row["worse"] = [key for key in measures if any(peer[key] > ours[key] for peer in theirs)]
    return row


def table(rows):
    def cell(found):
        if "refused" in found:
            return f"refused: {found['refused']}"
        return f"{100 * found['agreement']:.1f} %, {found['sqnr_db']:.1f} dB"

    yield "| Network | File by | Opset | Input | Width | Float accuracy | Sori | onnxruntime | LiteRT |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join([
            row["row"],
            row["exporter"],
            str(row["opset"]),
            "×".join(map(str, row["input"])),
            f"{row['width']:.2f}",
            f"{100 * row['float_accuracy']:.1f} %",
            cell(row["sori"]),
            f"{cell(row['onnxruntime'])} ({row['onnxruntime']['calibration']})",
            cell(row["litert"]),
        ]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--row", action="append", help="only this one; may be repeated")
    parser.add_argument("--sori", required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.out.glob("*/model.onnx"))
    folders = [folder for folder in folders if not options.row or folder.name in options.row]
    rows = []
    for folder in folders:
        print(folder.name, file=sys.stderr)
        rows.append(compare(options.sori, folder))
    text = "\n".join(table(rows)) + "\n"
    print(text, end="")
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    failed = [row for row in rows if "refused" in row["sori"] or row["worse"]]
    for row in failed:
        print(f"{row['row']}: {', '.join(row['worse']) or 'refused'}", file=sys.stderr)
    sys.exit(bool(failed) or not rows)


if __name__ == "__main__":
    main()
