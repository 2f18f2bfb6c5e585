"""MobileNetV2s out of PyTorch, trained and exported: rows for compare.py.

    python graphs_torch.py OUT [ROW ...]

Trained weights stay in OUT/ROW/weights.pt and are used again.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import timm
import torch
import torchvision

import data
import export_torch as export
import graph
import quantize_ort
from net import MobileNetV2

torch.set_num_threads(1)

CLASSES, BATCH = data.CLASSES, 32


def torchvisions(width):
    return torchvision.models.mobilenet_v2(num_classes=CLASSES, width_mult=width)


def timms():
    net = timm.create_model("mobilenetv2_050", num_classes=CLASSES)
    # timm's own is for a thousand classes; for ten it starts with logits far from zero.
    torch.nn.init.normal_(net.classifier.weight, std=0.01)
    return net


# Row: (network, kind of window, steps of training, exporter).
ROWS = {
    "torch_legacy_035": (
        lambda: MobileNetV2(1, CLASSES, 0.35),
        "audio",
        700,
        lambda *a: export.legacy(*a, 17),
    ),
    "torch_dynamo_035": (lambda: MobileNetV2(1, CLASSES, 0.35), "audio", 700, export.dynamo),
    "torch_unfolded_035": (
        lambda: MobileNetV2(1, CLASSES, 0.35, multiple=1),
        "audio",
        700,
        export.legacy_unfolded,
    ),
    "torchvision_onnxsim_035": (lambda: torchvisions(0.35), "image", 700, export.simplified),
    "timm_050": (
        timms,
        "image",
        700,
        lambda *a: export.legacy(*a, 14),
    ),
    "torchvision_100": (lambda: torchvisions(1.0), "image", 350, lambda *a: export.legacy(*a, 13)),
    "torch_qdq_100": (
        lambda: MobileNetV2(1, CLASSES, 1.0),
        "audio",
        350,
        lambda *a: export.legacy(*a, 17),
    ),
}


def channels_first(windows):
    return torch.from_numpy(np.ascontiguousarray(windows.transpose(0, 3, 1, 2)))


def train(net, kind, steps, seed):
    rng = np.random.default_rng([seed, 0])
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.2)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")
    net.train()
    start = time.time()
    for step in range(steps):
        windows, labels = data.KINDS[kind](rng, BATCH)
        loss = torch.nn.functional.cross_entropy(net(channels_first(windows)), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"  step {step + 1}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)


def main():
    out, *wanted = sys.argv[1:]
    for seed, (row, (make, kind, steps, exporter)) in enumerate(ROWS.items()):
        if wanted and row not in wanted:
            continue
        print(row, flush=True)
        folder = Path(out) / row
        data.write(folder, kind, seed)
        torch.manual_seed(seed)
        net, weights = make(), folder / "weights.pt"
        if weights.exists():
            net.load_state_dict(torch.load(weights))
        else:
            train(net, kind, steps, seed)
            torch.save(net.state_dict(), weights)
        calibration = data.read(folder / "calib")
        model = exporter(net, channels_first(calibration[:1]))
        if "qdq" in row:
            onnx.save(model, folder / "float.onnx")
            model = quantize_ort.quantize(quantize_ort.prepare(model), calibration)
        onnx.save(model, folder / "model.onnx")
        best = graph.logits(model, data.read(folder / "eval")).argmax(1)
        print(f"  accuracy {np.mean(best == np.load(folder / 'labels.npy')):.3f}", flush=True)


if __name__ == "__main__":
    main()
