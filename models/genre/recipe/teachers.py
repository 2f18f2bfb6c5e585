"""The two teachers: their embeddings of a clip. They are only used in training, and not shipped.

YAMNet (Google, Apache-2.0, AudioSet): 1024 numbers for each 0.96 s. musicnn (ISC, Million
Song Dataset): 200 numbers for each 3 s.
"""

import numpy as np
import torch

from musicnn import WINDOW, Musicnn
from yamnet import PATCH, Yamnet, weights


class Teachers:
    def __init__(self, yamnet, musicnn_wheel, device="cpu"):
        self.yamnet = Yamnet(weights(yamnet), device)
        self.musicnn = Musicnn(musicnn_wheel, device)

    def __call__(self, clips):
        """{"yamnet": [clips, patches, 1024], "musicnn": [clips, windows, 200]} of [clips, samples]."""
        return {"yamnet": self.yamnet(clips), "musicnn": self.musicnn(clips)}


class NoTeachers:
    """Replaces them in the smoke run: features of a clip's spectrum."""

    def __call__(self, clips):
        def words(hop, dims):
            spans = clips[:, : clips.shape[1] // hop * hop].view(len(clips), -1, hop)
            return torch.log(torch.fft.rfft(spans, 2 * dims).abs()[..., 1 : dims + 1] + 1e-3)

        return {"yamnet": words(PATCH, Yamnet.WIDTH), "musicnn": words(WINDOW, Musicnn.WIDTH)}


def of_clip(teachers, samples):
    """Their embeddings of one clip, as stored in the bank: {name: [spans, dims]} in half precision."""
    # Neither normalises the level itself.
    level = torch.from_numpy((samples / (np.abs(samples).max() + 1e-9) * 0.5).astype(np.float32))[None]
    return {name: words[0].numpy().astype(np.float16) for name, words in teachers(level).items()}
