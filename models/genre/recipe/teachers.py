"""The two teachers: what they make of a clip. They teach only; nothing of them is shipped.

YAMNet (Google, Apache-2.0, AudioSet): 1024 numbers for each 0.96 s. musicnn (ISC, Million
Song Dataset): 200 numbers for each 3 s.
"""

import numpy as np

import musicnn

PATCH = 15_360  # hop of YAMNet's patches, in samples of 16 kHz
INPUT = 15_600


class Yamnet:
    def __init__(self, path):
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
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
        return np.stack(rows)


class Teachers:
    def __init__(self, yamnet, musicnn_wheel):
        self.yamnet = Yamnet(yamnet)
        self.musicnn = musicnn.Musicnn(musicnn_wheel)

    def __call__(self, samples):
        """{"yamnet": [patches, 1024], "musicnn": [windows, 200]}, half precision."""
        # Neither has a level normalisation of its own.
        samples = (samples / (np.abs(samples).max() + 1e-9) * 0.5).astype(np.float32)
        return {
            "yamnet": self.yamnet(samples).astype(np.float16),
            "musicnn": self.musicnn(samples).astype(np.float16),
        }
