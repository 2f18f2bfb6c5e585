"""ONNX files: running them on channels-last windows, and what is in them."""

import numpy as np
import onnx
import onnxruntime


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def channels_last(model):
    """Whether the input is [N, rows, width, channels]; images and spectrograms have 1 or 3."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[1].dim_value not in (1, 3)


def without_softmax(model):
    """A copy that ends in the logits."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = copy.graph.node
    writer = {output: node for node in nodes for output in node.output}
    output = copy.graph.output[0]
    last = writer[output.name]
    if last.op_type == "Identity" and writer[last.input[0]].op_type == "Softmax":
        nodes.remove(last)
        last = writer[last.input[0]]
    if last.op_type == "Softmax":
        output.name = last.input[0]
        nodes.remove(last)
    return copy


def feed(model, windows):
    """Windows as the model takes them."""
    return windows if channels_last(model) else np.ascontiguousarray(windows.transpose(0, 3, 1, 2))


def logits(model, windows):
    """One window at a time: every exporter's batch axis allows it."""
    model = without_softmax(model)
    run = session(model)
    name = run.get_inputs()[0].name
    outputs = [run.run(None, {name: x[None]})[0].reshape(-1) for x in feed(model, windows)]
    return np.stack(outputs)


def opset(model):
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def summary(model):
    """Operators in file order, runs of a repeated pattern collapsed."""
    ops = []
    for node in model.graph.node:
        text = node.op_type
        if node.domain not in ("", "ai.onnx"):
            text = f"{node.domain}::{text}"
        for attribute in node.attribute:
            if attribute.name in ("perm", "axes", "auto_pad", "mode", "keepdims"):
                value = onnx.helper.get_attribute_value(attribute)
                value = value.decode() if isinstance(value, bytes) else value
                text += f"[{attribute.name}={value}]"
        ops.append(text)
    collapsed, n = [], 0
    while n < len(ops):
        best = (1, 1)
        for length in range(1, 40):
            times = 1
            while ops[n : n + length] == ops[n + times * length :][:length]:
                times += 1
            if times > 1 and times * length > best[0] * best[1]:
                best = (length, times)
        length, times = best
        body = " ".join(ops[n : n + length])
        collapsed.append(f"({body})x{times}" if times > 1 else body)
        n += length * times
    return " ".join(collapsed)
