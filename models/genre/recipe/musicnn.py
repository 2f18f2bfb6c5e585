"""The second teacher: musicnn (Pons and Serra, arXiv:1909.06654; ISC licence), trained on
the Million Song Dataset to predict listeners' tags.

The network is written anew here from its paper and reads the checkpoint that the PyPI
package carries, so that nobody needs the TensorFlow of 2019. It teaches only; nothing of
it is in the shipped weights.
"""

import struct
import zipfile

import numpy as np
import torch
from torch.nn import functional as F

RATE, FFT, HOP, MELS = 16_000, 512, 256, 96
FRAMES = 187  # 3 s, what it was trained on
WINDOW = FRAMES * HOP
EPSILON = 1e-3  # of TensorFlow's batch normalisation


def checkpoint(wheel):
    """name -> array: a TensorFlow checkpoint is a LevelDB table of names and one file of bytes."""
    with zipfile.ZipFile(wheel) as package:
        index = package.read("musicnn/MSD_musicnn/.index")
        data = package.read("musicnn/MSD_musicnn/.data-00000-of-00001")

    def varint(at):
        value = shift = 0
        while True:
            byte = index[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    def entries(offset, size):
        restarts = struct.unpack_from("<I", index, offset + size - 4)[0]
        at, end, key = offset, offset + size - 4 - 4 * restarts, b""
        while at < end:
            shared, at = varint(at)
            added, at = varint(at)
            length, at = varint(at)
            key = key[:shared] + index[at : at + added]
            at += added
            yield key.decode(), at, at + length
            at += length

    def fields(at, end):
        """A protocol buffer's fields as (number, integer or span)."""
        while at < end:
            tag, at = varint(at)
            kind = tag & 7
            if kind == 0:
                value, at = varint(at)
            elif kind == 5:
                value, at = struct.unpack_from("<I", index, at)[0], at + 4
            else:
                length, at = varint(at)
                value, at = (at, at + length), at + length
            yield tag >> 3, value

    footer = len(index) - 48
    _, at = varint(footer)
    _, at = varint(at)
    offset, at = varint(at)
    size, at = varint(at)
    arrays = {}
    for _, start, _ in entries(offset, size):
        block, start = varint(start)
        length, _ = varint(start)
        for name, value, end in entries(block, length):
            if not name or "Adam" in name:
                continue
            entry = {1: 1, 4: 0}
            shape = []
            for number, content in fields(value, end):
                if number == 2:
                    shape = [dict(fields(*dim)).get(1, 0) for field, dim in fields(*content) if field == 2]
                else:
                    entry[number] = content
            if entry[1] == 1:  # float32
                array = np.frombuffer(data, "<f4", entry[5] // 4, entry[4])
                arrays[name] = torch.from_numpy(array.copy().reshape(shape))
    return arrays


def mel_filters():
    """Slaney's scale, area-normalised: [96, 257]."""
    def mel(hz):
        hz = np.asarray(hz, float)
        return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * 27 / np.log(6.4))

    def hz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    edges = hz(np.linspace(mel(0), mel(RATE / 2), MELS + 2))
    bins = np.linspace(0, RATE / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(filters).float()


class Musicnn:
    WIDTH = 200

    def __init__(self, wheel, device="cpu"):
        self.weights = {name: tensor.to(device) for name, tensor in checkpoint(wheel).items()}
        self.filters = mel_filters().to(device)
        self.window = torch.hann_window(FFT, device=device)
        self.precision = torch.float16 if self.window.is_cuda else torch.float32

    def normalised(self, x, name, shape):
        mean, variance, gamma, beta = (
            self.weights[f"{name}/{part}"] for part in ["moving_mean", "moving_variance", "gamma", "beta"])
        scale = gamma / torch.sqrt(variance + EPSILON)
        return x * scale.view(shape).to(x.dtype) + (beta - mean * scale).view(shape).to(x.dtype)

    def block(self, x, index, padding):
        """A convolution over [windows, frames, bands], its activation, its normalisation, and the
        largest over bands: [windows, frames, channels].

        Kernels are long and the input has one channel: a matrix product, in half precision where
        there are units for it. All that follows it rises or falls with it, so that largest and
        smallest can be taken first."""
        suffix = f"_{index}" if index else ""
        kernel = self.weights[f"conv2d{suffix}/kernel"][:, :, 0]
        frames, bands, channels = kernel.shape
        x = F.pad(x.to(self.precision), (0, 0, *padding))
        if bands == 1:
            # [windows, bands, frames, length]: what is copied lies together.
            columns, over = x.transpose(1, 2).contiguous().unfold(2, frames, 1), 1
        else:
            columns, over = x.unfold(1, frames, 1).unfold(2, bands, 1).flatten(3), 2
        products = columns @ kernel.reshape(frames * bands, channels).to(self.precision)
        smallest, largest = torch.aminmax(products, dim=over)
        rising = self.weights[f"batch_normalization_{index + 1}/gamma"] > 0
        x = torch.where(rising, largest, smallest) + self.weights[f"conv2d{suffix}/bias"].to(self.precision)
        return self.normalised(F.relu(x), f"batch_normalization_{index + 1}", (-1,))

    def log_mel(self, clips):
        """[clips · windows, 187, 96] of non-overlapping windows of 3 s; a shorter clip is repeated."""
        if clips.shape[1] < WINDOW:
            clips = clips.repeat(1, WINDOW // clips.shape[1] + 1)[:, :WINDOW]
        count = clips.shape[1] // WINDOW
        spectrum = torch.stft(clips, FFT, HOP, window=self.window, center=True, pad_mode="constant",
                              return_complex=True).abs() ** 2
        mel = (self.filters @ spectrum).transpose(1, 2)[:, : count * FRAMES]
        return torch.log10(10_000 * mel + 1).reshape(-1, FRAMES, MELS)

    @torch.no_grad()
    def __call__(self, clips):
        """[clips, windows, 200] of [clips, samples]: the layer below the tags, a row each 3 s."""
        x = self.normalised(self.log_mel(clips), "batch_normalization", (-1,))
        timbre = [self.block(x, index, (3, 3)) for index in range(2)]
        rhythm = []
        for index, length in [(2, 128), (3, 64), (4, 32)]:
            rhythm.append(self.block(x, index, ((length - 1) // 2, length // 2)))
        front = torch.cat([*timbre, *rhythm], 2)  # [windows, 187, 561]
        layers = [front]
        y = front
        for index in range(5, 8):
            z = self.block(y, index, (3, 3))
            y = z if index == 5 else y + z
            layers.append(y)
        everything = torch.cat(layers, 2).float()
        # Its flattening keeps maximum and mean of a channel side by side.
        pooled = torch.stack([everything.amax(1), everything.mean(1)], 2).flatten(1)
        z = self.normalised(pooled, "batch_normalization_9", (1, -1))
        z = F.relu(z @ self.weights["dense/kernel"] + self.weights["dense/bias"])
        return self.normalised(z, "batch_normalization_10", (1, -1)).view(len(clips), -1, self.WIDTH)
