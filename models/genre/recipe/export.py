"""Exports a trained network to ONNX, with the contract that defines its input."""

import tomllib
import warnings

import torch


def contract_text(base, setup, name, labels, enter):
    """The contract file of a network: the front end of `base`, and the results of training."""
    with open(base, "rb") as file:
        mel = tomllib.load(file)["mel"]
    mel["bands"], mel["hop_samples"] = setup.bands, round(setup.hop_s * mel["sample_rate_hz"])
    nominal_rows = (10 * mel["sample_rate_hz"] - mel["window_samples"]) // mel["hop_samples"] + 1
    value = lambda v: f'"{v}"' if isinstance(v, str) else repr(v)
    lines = [
        "# What the genre network was trained on. `sori quantize` puts it into the package,",
        "# `sori features --contract` computes training features with it. Written by recipe.py.",
        f'name = "{name}"',
        "labels = [" + ", ".join(f'"{label}"' for label in labels) + "]",
        "", "[mel]", *(f"{key} = {value(v)}" for key, v in mel.items()),
        "", "[input]", "scale = 0.015625            # the network saw int8 / 64", "zero_point = 0",
        "", "[network]", f"pool_rows = {setup.pool_rows}              # running mean over {setup.pool_s:.0f} s",
        f"nominal_rows = {nominal_rows}          # a clip of 10 s",
        "", "[decision]", "silence_dbfs = -70.0", "silence_seconds = 1.0",
        f"enter = {enter:.3f}               # 98.5 % of the held-out music reaches it",
        f"leave = {0.7 * enter:.3f}", "smoothing_shift = 1", "",
    ]
    return "\n".join(lines)


def onnx(setup, classes, state, head, contract, path):
    """`[1, 1, rows, bands]` with any number of rows to logits."""
    import onnx

    net = setup.network(classes)
    weight, bias = map(torch.from_numpy, head)
    net.load_state_dict({**state, "classifier.weight": weight, "classifier.bias": bias})
    net = net.eval().to(memory_format=torch.contiguous_format)
    partial = path.with_suffix(".partial")
    with warnings.catch_warnings():
        # The older exporter folds batch norm, which makes the smaller file; torch would
        # rather have the newer one used.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(1, 1, 622, setup.bands),), str(partial), input_names=["features"],
            output_names=["logits"], dynamic_axes={"features": {2: "rows"}}, opset_version=17, dynamo=False)
    model = onnx.load(partial)
    entry = model.metadata_props.add()
    entry.key, entry.value = "sori.contract", contract
    onnx.save(model, partial)
    partial.rename(path)
