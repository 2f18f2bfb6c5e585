"""Small untrained networks, one for each way of exporting, for the tests of `sori-quantize`.

    python fixtures.py OUT

Writes what the frameworks of this environment make: run it once in each. A name has
three files: NAME.onnx, NAME.input.npy [rows, width, channels] and NAME.logits.npy, what
onnxruntime says to it before any softmax. NAME.float_logits.npy is what a quantized
file's float original says.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx

import data
import graph

SHAPE = {"audio": (32, 24), "image": (32, 32), "pixels": (32, 32)}
OFFICIAL, POINT = (64, 64), (8, 8)
CLASSES = 5
# Every kind of block: without expansion, strided, residual.
HALVED = [(1, 16, 1, 1), (6, 16, 2, 2), (6, 32, 2, 2)]


def windows(kind, count, seed, shape=None):
    rows, width = shape or SHAPE[kind]
    return data.KINDS[kind](np.random.default_rng(seed), count, rows=rows, width=width)[0]


def write(out, name, kind, model, reference=None, shape=None):
    onnx.checker.check_model(model)
    onnx.save(model, out / f"{name}.onnx")
    window = windows(kind, 1, 99, shape)
    np.save(out / f"{name}.input.npy", window[0])
    logits = graph.logits(model, window)[0]
    np.save(out / f"{name}.logits.npy", logits)
    if reference is not None:
        np.save(out / f"{name}.float_logits.npy", graph.logits(reference, window)[0])
    size = (out / f"{name}.onnx").stat().st_size
    print(f"{name}: {size} bytes, opset {graph.opset(model)}, logits {np.round(logits, 2)}")
    print(f"  {graph.summary(model)}")


def with_torch(out):
    import timm.models.efficientnet as timm_nets
    import torch
    import torchvision

    import export_torch as export
    import quantize_ort
    from net import MobileNetV2

    torch.set_num_threads(1)

    def settled(net, kind, seed):
        """Batch norm's statistics and gains that no untrained network has, so that
        activations neither vanish nor look alike."""
        torch.manual_seed(seed)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            elif isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=0.3)
                torch.nn.init.normal_(module.bias, std=0.3)
            elif isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        batch = torch.from_numpy(windows(kind, 32, seed).transpose(0, 3, 1, 2).copy())
        net.train()
        with torch.no_grad():
            for _ in range(50):
                net(batch)
        return net.eval(), batch[:1]

    def plain(seed, **options):
        options = {"width": 0.5, "head": 64, "table": HALVED, **options}
        return settled(MobileNetV2(1, CLASSES, **options), "audio", seed)

    def torchvisions(seed):
        options = {"width_mult": 0.5, "inverted_residual_setting": HALVED}
        net = torchvision.models.mobilenet_v2(num_classes=CLASSES, **options)
        return settled(net, "image", seed)

    net, example = plain(1)
    write(out, "torch_legacy", "audio", export.legacy(net, example))
    net, example = plain(2)
    write(out, "torch_dynamo", "audio", export.dynamo(net, example))
    net, example = plain(3, width=0.35, multiple=1)
    write(out, "torch_unfolded", "audio", export.legacy_unfolded(net, example))

    net, example = torchvisions(4)
    write(out, "torchvision", "image", export.legacy(net, example, 13))
    net, example = torchvisions(5)
    write(out, "torchvision_onnxsim", "image", export.simplified(net, example))

    # timm's own mobilenetv2 definition, cut short.
    stages = [["ds_r1_k3_s1_c8"], ["ir_r2_k3_s2_e6_c8"], ["ir_r2_k3_s2_e6_c16"]]
    options = {"num_features": 64, "stem_size": 16, "act_layer": torch.nn.ReLU6}
    net = timm_nets.EfficientNet(timm_nets.decode_arch_def(stages), CLASSES, **options)
    net, example = settled(net, "image", 6)
    write(out, "timm", "image", export.dynamo(net, example))

    net, example = plain(7)
    model = export.legacy(net, example)
    quantized = quantize_ort.quantize(quantize_ort.prepare(model), windows("audio", 16, 8))
    write(out, "torch_qdq", "audio", quantized, reference=model)


def with_tensorflow(out):
    import export_tf as export
    import keras

    def settled(net, kind, seed):
        rng = np.random.default_rng(seed)
        batch = windows(kind, 32, seed, net.input_shape[1:3])
        for layer in net.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                gamma, beta, mean, variance = layer.get_weights()
                gamma = rng.uniform(0.5, 1.5, gamma.shape)
                beta = rng.uniform(-0.5, 0.5, beta.shape)
                layer.set_weights([gamma, beta, mean, variance])
                layer.momentum = 0.8
            elif isinstance(layer, keras.layers.Dense):
                layer.set_weights([rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
        for _ in range(40):
            net(batch, training=True)
        return net

    def official(shape, seed):
        """Not cut: 8 channels a block and the head of 1280."""
        keras.utils.set_random_seed(seed)
        options = {"weights": None, "classes": CLASSES, "classifier_activation": None}
        return keras.applications.MobileNetV2((*shape, 3), alpha=0.01, **options)

    def cut(shape, channels, seed, activation=None, rescale=False):
        """The official layers up to block 3, and a narrow head."""
        keras.utils.set_random_seed(seed)
        inputs = x = keras.Input((*shape, channels), name="input")
        if rescale:
            x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
        options = {"alpha": 0.01, "weights": None, "include_top": False}
        full = keras.applications.MobileNetV2((32, 32, channels), **options)
        trunk = keras.Model(full.input, full.get_layer("block_3_project_BN").output)
        x = export.inlined(trunk, x)
        x = keras.layers.Conv2D(64, 1, use_bias=False, name="Conv_1")(x)
        x = keras.layers.BatchNormalization(epsilon=1e-3, name="Conv_1_bn")(x)
        x = keras.layers.ReLU(6.0, name="out_relu")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(CLASSES, activation, name="predictions")(x))

    net = settled(official(OFFICIAL, 11), "image", 11)
    write(out, "tf2onnx_keras", "image", export.saved_model(net), shape=OFFICIAL)
    net = settled(cut(SHAPE["audio"], 1, 12), "audio", 12)
    write(out, "tf2onnx_nhwc", "audio", export.saved_model(net))
    net = settled(cut(SHAPE["image"], 3, 13, "softmax"), "image", 13)
    write(out, "tf2onnx_opset11_softmax", "image", export.saved_model(net, opset=11))
    net = settled(cut(SHAPE["pixels"], 3, 14, "softmax", rescale=True), "pixels", 14)
    write(out, "tf2onnx_nchw_rescaling", "pixels", export.saved_model(net, nchw=True))
    # Where only one row and column are left, transposes become reshapes.
    net = settled(cut(POINT, 3, 15), "image", 15)
    write(out, "tf2onnx_point", "image", export.saved_model(net), shape=POINT)


def main():
    [out] = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    for module, make in [("torch", with_torch), ("tensorflow", with_tensorflow)]:
        if importlib.util.find_spec(module):
            make(out)


if __name__ == "__main__":
    main()
