"""MobileNetV2s out of Keras, trained and exported: rows for compare.py.

    python graphs_tf.py OUT [ROW ...]

Trained weights stay in OUT/ROW/model.keras, which LiteRT converts, and are used again.
"""

import sys
import time
from pathlib import Path

import export_tf as export
import keras
import numpy as np
import onnx
import tensorflow as tf

import data
import graph

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

CLASSES, BATCH = data.CLASSES, 32


def official(shape, alpha, activation=None, rescale=False):
    inputs = x = keras.Input(shape, name="input")
    if rescale:
        x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    options = {"alpha": alpha, "weights": None, "classes": CLASSES, "classifier_activation": activation}
    return keras.Model(inputs, export.inlined(keras.applications.MobileNetV2(shape, **options), x))


# Row: (network, kind of window, steps of training, options of tf2onnx).
ROWS = {
    "keras_nhwc_035": (lambda: official((96, 64, 1), 0.35), "audio", 700, {}),
    "keras_rescaling_nchw_035": (
        lambda: official((64, 64, 3), 0.35, "softmax", rescale=True),
        "pixels",
        700,
        {"nchw": True},
    ),
    "keras_softmax_opset11_100": (
        lambda: official((64, 64, 3), 1.0, "softmax"),
        "image",
        350,
        {"opset": 11},
    ),
}


def train(net, kind, steps, seed):
    rng = np.random.default_rng([seed, 0])
    for layer in net.layers:
        # Keras's 0.999 wants thousands of steps.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    rates = {"warmup_target": 3e-3, "warmup_steps": steps // 5}
    schedule = keras.optimizers.schedules.CosineDecay(1e-4, steps - steps // 5, **rates)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01)
    # Trained on logits: a loss of softmax's output loses digits.
    tail, net.layers[-1].activation = net.layers[-1].activation, keras.activations.linear

    @tf.function
    def step(windows, labels):
        with tf.GradientTape() as tape:
            logits = net(windows, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables))
        return loss

    start = time.time()
    for n in range(steps):
        windows, labels = data.KINDS[kind](rng, BATCH)
        loss = step(tf.constant(windows), tf.constant(labels))
        if n % 50 == 49:
            print(f"  step {n + 1}: loss {loss:.3f}, {time.time() - start:.0f} s", flush=True)
    net.layers[-1].activation = tail


def main():
    out, *wanted = sys.argv[1:]
    for seed, (row, (make, kind, steps, options)) in enumerate(ROWS.items(), 100):
        if wanted and row not in wanted:
            continue
        print(row, flush=True)
        folder = Path(out) / row
        data.write(folder, kind, seed)
        keras.utils.set_random_seed(seed)
        weights = folder / "model.keras"
        if weights.exists():
            net = keras.models.load_model(weights)
        else:
            net = make()
            train(net, kind, steps, seed)
            net.save(weights)
        model = export.saved_model(net, **options)
        onnx.save(model, folder / "model.onnx")
        best = graph.logits(model, data.read(folder / "eval")).argmax(1)
        print(f"  accuracy {np.mean(best == np.load(folder / 'labels.npy')):.3f}", flush=True)


if __name__ == "__main__":
    main()
