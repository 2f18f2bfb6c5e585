"""onnxruntime's static quantizer, QDQ, int8 weights per channel."""

import logging
import tempfile
from pathlib import Path

import onnx
import onnx.version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import graph


class Windows(CalibrationDataReader):
    def __init__(self, name, windows):
        self.left = iter([{name: x[None]} for x in windows])

    def get_next(self):
        return next(self.left, None)


def prepare(model):
    """onnxruntime's own preparation: batch norm folded, constants computed, shapes inferred."""
    # Weights per channel need opset 13.
    if graph.opset(model) < 13:
        model = onnx.version_converter.convert_version(model, 13)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("float.onnx", "ready.onnx")]
        onnx.save(model, paths[0])
        quant_pre_process(*paths, skip_symbolic_shape=True)
        return onnx.load(paths[1])


def quantize(ready, calibration, method="MinMax", **options):
    """`calibration` is channels last."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("ready.onnx", "int8.onnx")]
        onnx.save(ready, paths[0])
        quantize_static(
            *paths,
            Windows(ready.graph.input[0].name, graph.feed(ready, calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
            extra_options=options,
        )
        return onnx.load(paths[1])
