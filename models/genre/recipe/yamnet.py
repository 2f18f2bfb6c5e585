"""The first teacher: YAMNet (Google, Apache-2.0), a MobileNetV1 (arXiv:1704.04861) trained on
AudioSet. It reads its weights from the published .tflite and runs where the student does;
it teaches only, and nothing of it is shipped.
"""

import numpy as np
import torch
from torch.nn import functional as F

PATCH = 15_360  # hop of the patches, in samples of 16 kHz
INPUT = 15_600
FRAMES, HOP, WINDOW, FFT = 96, 160, 400, 512
STRIDES = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]  # of layers 1 to 14


def weights(path):
    """name -> tensor: the network's constants, int8 ones in real numbers; from the .tflite, or
    from what `torch.save` kept of them for a machine without LiteRT."""
    if str(path).endswith(".pt"):
        return torch.load(path)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    found = {}
    for tensor in interpreter.get_tensor_details():
        name = tensor["name"].split(";")[0].removeprefix("yamnet_frames/")
        constant = name.endswith(("Conv2D", "/y")) or "FusedBatchNorm" in name or "MatMul" in name
        if not constant or tensor["index"] > 74:
            continue
        values = interpreter.get_tensor(tensor["index"])
        if values.dtype == np.int8:
            scales = tensor["quantization_parameters"]["scales"]
            shape = np.ones(values.ndim, int)
            shape[tensor["quantization_parameters"]["quantized_dimension"]] = len(scales)
            values = values.astype(np.float32) * scales.reshape(shape)
        kind = "kernel" if values.ndim == 4 else "values"
        found[f"{name}:{kind}"] = torch.from_numpy(np.array(values, np.float32))
    return found


class Yamnet:
    WIDTH = 1024

    def __init__(self, weights, device="cpu"):
        w = {name: tensor.to(device) for name, tensor in weights.items()}
        mel = "tf_op_layer_MatMul_2/MatMul_2:values"
        self.window = w["tf_op_layer_Mul/Mul/y:values"].flatten()
        self.filters, self.floor = w[mel], w["tf_op_layer_MatMul_2/MatMul_21:values"]
        self.layers = []
        for number, stride in enumerate(STRIDES, 1):
            if number == 1:
                kernel, bias = w["layer1/conv/Conv2D:kernel"], w["layer1/conv/bn/FusedBatchNormV3:values"]
                self.layers.append((kernel.permute(0, 3, 1, 2), bias, stride, 1))
                continue
            depthwise = f"layer{number}/depthwise_conv/bn/FusedBatchNormV3"
            kernel = w[f"{depthwise}:kernel"].permute(3, 0, 1, 2)
            self.layers.append((kernel, w[f"{depthwise}:values"], stride, len(kernel)))
            pointwise = f"layer{number}/pointwise_conv"
            kernel = w[f"{pointwise}/Conv2D:kernel"].permute(0, 3, 1, 2)
            self.layers.append((kernel, w[f"{pointwise}/bn/FusedBatchNormV3:values"], 1, 1))

    def log_mel(self, samples):
        """[clips, patches · 96, 64] of [clips, samples]; the patches are consecutive."""
        frames = samples.unfold(-1, WINDOW, HOP) * self.window
        spectrum = torch.fft.rfft(frames, FFT).abs()
        return torch.log(spectrum @ self.filters.T + self.floor)

    @torch.no_grad()
    def __call__(self, samples):
        """[clips, patches, 1024] of [clips, samples], the end of the last patch padded with zeros."""
        patches = max(1, samples.shape[-1] // PATCH)
        samples = F.pad(samples, (0, max(0, patches * PATCH + INPUT - PATCH - samples.shape[-1])))
        mel = self.log_mel(samples)[:, : patches * FRAMES]
        x = mel.reshape(-1, 1, FRAMES, mel.shape[-1]).contiguous(memory_format=torch.channels_last)
        for kernel, bias, stride, groups in self.layers:
            if kernel.shape[-1] > 1:
                # TensorFlow's "same": where the stride is two and the size even, all padding is at the end.
                x = F.pad(x, (0, 1, 0, 1) if stride == 2 and x.shape[2] % 2 == 0 else (1, 1, 1, 1))
            x = F.relu(F.conv2d(x, kernel, bias, stride, groups=groups))
        return x.mean((2, 3)).view(len(samples), patches, -1)
