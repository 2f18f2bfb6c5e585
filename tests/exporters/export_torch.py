"""The PyTorch exporters, by name."""

import io
import warnings

import onnx
import torch

warnings.filterwarnings("ignore")


def legacy(net, example, opset=17, **options):
    """torch.onnx's tracer; folds batch norm unless told to keep it."""
    buffer = io.BytesIO()
    torch.onnx.export(
        net.eval(),
        (example,),
        buffer,
        dynamo=False,
        opset_version=opset,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "n"}, "logits": {0: "n"}},
        **options,
    )
    return onnx.load_from_string(buffer.getvalue())


def legacy_unfolded(net, example, opset=11):
    keep = torch.onnx.TrainingMode.PRESERVE
    return legacy(net, example, opset, training=keep, do_constant_folding=False)


def dynamo(net, example, opset=18):
    """The exporter that is torch's default since 2.9."""
    options = {"opset_version": opset, "external_data": False, "verbose": False}
    program = torch.onnx.export(net.eval(), (example,), dynamo=True, **options)
    model = program.model_proto
    # The only part of the file that differs from machine to machine.
    for node in model.graph.node:
        for entry in list(node.metadata_props):
            if entry.key == "pkg.torch.onnx.stack_trace":
                node.metadata_props.remove(entry)
    return model


def simplified(net, example):
    import onnxsim

    model, same = onnxsim.simplify(legacy(net, example))
    assert same, "onnxsim changed what the network computes"
    return model
