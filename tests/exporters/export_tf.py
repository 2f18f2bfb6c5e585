"""tf2onnx, as its command line runs it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import onnx


def inlined(trunk, x):
    """A model's layers on another input, without the nesting that calling it would leave."""
    values = {id(trunk.inputs[0]): x}
    for operation in trunk.operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        node = operation._inbound_nodes[0]
        inputs = [values[id(tensor)] for tensor in node.input_tensors]
        values[id(node.output_tensors[0])] = operation(inputs if len(inputs) > 1 else inputs[0])
    return values[id(trunk.outputs[0])]


def saved_model(net, opset=None, nchw=False):
    with tempfile.TemporaryDirectory() as folder:
        saved, out = Path(folder) / "saved", Path(folder) / "model.onnx"
        net.export(saved, verbose=False)
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", saved, "--output", out]
        command += ["--opset", str(opset)] if opset else []
        command += ["--inputs-as-nchw", net.inputs[0].name] if nchw else []
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        model = onnx.load(out)
    # Names the temporary folder.
    model.graph.ClearField("doc_string")
    return model
