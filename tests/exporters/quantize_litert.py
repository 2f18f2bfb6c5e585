"""LiteRT's full-integer quantizer, from Keras or from a prepared ONNX file."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import onnx
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import graph

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def without_softmax(net):
    """The network that ends in its logits."""
    dense = net.layers[-1]
    logits = keras.layers.Dense(dense.units, name="logits")
    net = keras.Model(net.input, logits(dense.input))
    logits.set_weights(dense.get_weights())
    return net


def from_onnx(model):
    """The same float network in Keras, channels last.

    The graph is one that onnxruntime has prepared for quantization: batch norm is folded
    and constants are initializers.
    """
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    if not graph.channels_last(model):
        shape = [*shape[1:], shape[0]]
    inputs = keras.Input(shape, name="input")
    tensors, weights = {model.graph.input[0].name: inputs}, []
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        live = [tensors[name] for name in node.input if name in tensors]
        constants = [values[name] for name in node.input if name in values]
        if node.op_type == "Constant":
            continue
        elif node.op_type == "Conv":
            [x] = live
            layer, x = convolution(x, constants, attributes, weights)
            x = layer(x)
        elif node.op_type in ("Clip", "Relu"):
            x = keras.layers.ReLU(6.0 if node.op_type == "Clip" else None)(live[0])
        elif node.op_type == "Add" and len(live) == 2:
            x = keras.layers.Add()(live)
        elif node.op_type in ("GlobalAveragePool", "ReduceMean"):
            x = keras.layers.GlobalAveragePooling2D()(live[0])
        elif node.op_type in ("Gemm", "MatMul"):
            kernel, *bias = constants
            kernel = kernel.T if attributes.get("transB") else kernel
            layer = keras.layers.Dense(kernel.shape[1], use_bias=bool(bias))
            x = layer(live[0])
            weights.append((layer, [kernel, *bias]))
        elif node.op_type in ("Transpose", "Flatten", "Reshape", "Squeeze", "Identity"):
            [x] = live
        else:
            raise NotImplementedError(f"{node.op_type} {node.name}")
        tensors[node.output[0]] = x
    net = keras.Model(inputs, x)
    for layer, arrays in weights:
        layer.set_weights(arrays)
    return net


def convolution(x, constants, attributes, weights):
    kernel, *bias = constants
    strides, size = attributes.get("strides", [1, 1]), kernel.shape[2:]
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    padding = "valid"
    if (top, left, bottom, right) == (1, 1, 1, 1) and list(strides) == [1, 1]:
        padding = "same"
    elif any((top, left, bottom, right)):
        x = keras.layers.ZeroPadding2D(((top, bottom), (left, right)))(x)
    options = {"strides": strides, "padding": padding, "use_bias": bool(bias)}
    if attributes.get("group", 1) > 1:
        layer = keras.layers.DepthwiseConv2D(size, **options)
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        layer = keras.layers.Conv2D(kernel.shape[0], size, **options)
        kernel = kernel.transpose(2, 3, 1, 0)
    weights.append((layer, [kernel, *bias]))
    return layer, x


def quantize(net, calibration):
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[None]] for x in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def logits(flatbuffer, windows):
    run = Interpreter(model_content=flatbuffer, num_threads=1)
    run.allocate_tensors()
    [source], [sink] = run.get_input_details(), run.get_output_details()
    outputs = []
    for x in windows:
        scale, zero_point = source["quantization"]
        x = np.clip(np.round(x[None] / scale) + zero_point, -128, 127).astype(np.int8)
        run.set_tensor(source["index"], x)
        run.invoke()
        scale, zero_point = sink["quantization"]
        outputs.append((run.get_tensor(sink["index"])[0].astype(np.float32) - zero_point) * scale)
    return np.stack(outputs)
