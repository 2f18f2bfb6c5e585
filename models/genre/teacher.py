"""What the teacher (YAMNet, Apache-2.0) hears: 1024 numbers a patch of 0.96 s.

It teaches only; nothing of it is in the shipped weights.
"""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

PATCH = 15_360  # a patch's hop; the input has 15 600
INPUT = 15_600


class Teacher:
    def __init__(self, path):
        self.interpreter = Interpreter(path, num_threads=1, experimental_preserve_all_tensors=True)
        self.interpreter.allocate_tensors()
        details = self.interpreter.get_input_details()[0]
        self.input, self.shape = details["index"], details["shape"]
        [self.embedding] = [
            tensor["index"]
            for tensor in self.interpreter.get_tensor_details()
            if tensor["name"].endswith("global_average_pooling2d/Mean")
        ]

    def __call__(self, samples):
        """One row of 1024 a whole patch; at least one, the end padded with zeros."""
        patches = max(1, len(samples) // PATCH)
        samples = np.pad(samples, (0, max(0, patches * PATCH + INPUT - PATCH - len(samples))))
        rows = []
        for patch in range(patches):
            block = samples[patch * PATCH : patch * PATCH + INPUT].astype(np.float32)
            self.interpreter.set_tensor(self.input, block.reshape(self.shape))
            self.interpreter.invoke()
            rows.append(self.interpreter.get_tensor(self.embedding).reshape(-1).copy())
        return np.stack(rows).astype(np.float16)


def embed_all(teacher_path, files, root, out, load):
    """Writes out/NAME.npy for every file under root; skips what is there."""
    teacher = Teacher(str(teacher_path))
    for path in files:
        target = Path(out) / path.relative_to(root).with_suffix(".npy")
        if target.exists():
            continue
        samples = load(path)
        # The teacher has no level normalisation of its own.
        samples = samples / (np.abs(samples).max() + 1e-9) * 0.5
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, teacher(samples))
