"""Trains a network by function matching (arXiv:2106.05237).

The student hears seconds of a version of a clip, and after each patch of YAMNet's and each
window of musicnn's regresses what that teacher made of the clean clip there. Every step draws its
batch from its own number, so that a run that was stopped goes on to the same bits.
"""

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from bank import UNKNOWN, VERSIONS
from net import MobileNetV2, running_mean

FEATURE_SCALE = 1 / 64
TEACHERS = ["yamnet", "musicnn"]
# Seconds of a patch of YAMNet's and of a window of musicnn's; neither overlaps the next.
SPAN_S = {"yamnet": 0.96, "musicnn": 2.992}
DIMS = 64  # principal components of each teacher
ROOT = {"yamnet": lambda x: abs(x) ** 0.5, "musicnn": lambda x: x}
WINDOWS_OF_A_CLIP = 3


@dataclass(frozen=True)
class Setup:
    """The settings that distinguish the networks of the comparison."""

    width: float = 0.5
    head: int = 640
    causal: bool = True
    bands: int = 64
    hop_s: float = 0.016
    pool_s: float = 10.24
    seed: int = 1

    @property
    def rows_per_output(self):
        return 32

    @property
    def pool_rows(self):
        return round(self.pool_s / (self.rows_per_output * self.hop_s))

    def network(self, classes):
        torch.manual_seed(self.seed)
        return MobileNetV2(classes, self.width, self.head, self.causal).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Stage:
    """A stage of training, with its own warm-up and cosine schedule."""

    steps: int
    rate: float
    batch: int = 32
    windows: int = 1  # a training sequence, in musicnn's windows
    rooms: tuple = (0.0, 0.6)  # share of what is heard through a microphone, first and last

    def roomy(self, step):
        return np.interp(step / self.steps, [0, 0.7], self.rooms)

    def rate_at(self, step):
        warm = min(1, (step + 1) / min(300, 0.1 * self.steps))
        return float(self.rate * warm * (0.01 + 0.495 * (1 + np.cos(np.pi * step / self.steps))))


@dataclass
class Clips:
    """Feature rows, teachers' embeddings and labels of the bank, in memory."""

    labels_known: list
    names: list = field(default_factory=list)
    rows: list = field(default_factory=list)  # [VERSIONS, rows, bands] each
    teachers: dict = field(default_factory=lambda: {name: [] for name in TEACHERS})
    labels: list = field(default_factory=list)
    folds: list = field(default_factory=list)

    def read(self, clips, bank, features):
        for clip in clips:
            versions = [np.load(features / f"{clip.name}.{v}.npy") for v in range(VERSIONS)]
            least = min(map(len, versions))
            self.rows.append(np.stack([rows[:least] for rows in versions]))
            with np.load(bank / "teachers" / f"{clip.name}.npz") as words:
                for name in words:
                    self.teachers[name].append(words[name].astype(np.float32))
            self.names.append(clip.name)
            self.labels.append(self.labels_known.index(clip.label) if clip.label in self.labels_known else -1)
            self.folds.append(-1 if clip.fold is None else clip.fold)

    def stacked(self):
        self.labels, self.folds = np.array(self.labels), np.array(self.folds)
        self.teachers = {name: np.stack(words) for name, words in self.teachers.items() if words}
        return self

    def is_music(self):
        return self.labels != self.labels_known.index(UNKNOWN)


class Target:
    """The regression targets of the student.

    Of each teacher the first principal components of its embeddings, in units of the first
    one's deviation, so that what varies most counts most. YAMNet's embedding is a mean of
    rectified values, whose roots are nearer to a normal distribution.
    """

    def __init__(self, words):
        """The components of {teacher: [clips, spans, its dims]}."""
        self.bases, self.variance = {}, {}
        for name, seen in words.items():
            seen = ROOT[name](seen).reshape(-1, seen.shape[-1]).astype(np.float64)
            mean = seen.mean(0)
            # musicnn's are batch-normalised, but not alike in music as ours.
            scale = seen.std(0) + 1e-3 if name == "musicnn" else np.ones(len(mean))
            scaled = (seen - mean) / scale
            values, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
            values, axes = values[::-1][:DIMS], axes[:, ::-1][:, :DIMS]
            # The sign of an axis is the solver's choice.
            axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
            self.bases[name] = (mean, axes / scale[:, None] / np.sqrt(values[0]))
            self.variance[name] = float(values.sum() / values[0])

    def components(self, name, words):
        """A teacher's embeddings, […, its dims], in what is regressed, […, DIMS]."""
        mean, axes = self.bases[name]
        return ((ROOT[name](words) - mean) @ axes).astype(np.float32)

    def dims(self):
        return {name: axes.shape[1] for name, (_, axes) in self.bases.items()}


def shares(setup, name, start, outputs, known):
    """For a sequence of `outputs` that starts at a row: which of a teacher's `known` spans lie
    in it, and of each the share that every output has in it, [spans, outputs]."""
    rows, per = SPAN_S[name] / setup.hop_s, setup.rows_per_output
    ends = per * np.arange(1, outputs + 1) + start
    spans, weights = [], []
    for span in range(known):
        if span * rows < start - 1 or (span + 1) * rows > start + outputs * per:
            continue
        overlap = np.minimum(ends, (span + 1) * rows) - np.maximum(ends - per, span * rows)
        overlap = np.maximum(overlap, 0)
        spans.append(span)
        weights.append(overlap / overlap.sum())
    return spans, np.array(weights, np.float32)


class Batches:
    def __init__(self, setup, stage, clips, indices, target, ranks):
        self.setup, self.stage, self.clips, self.ranks = setup, stage, clips, ranks
        music = clips.is_music()
        self.kinds = [
            [i for i in indices if clips.folds[i] >= 0],
            [i for i in indices if clips.folds[i] < 0 and music[i]],
            [i for i in indices if not music[i]],
        ]
        parts = np.array([0.62, 0.3, 0.08]) * [len(kind) > 0 for kind in self.kinds]
        self.parts = parts / parts.sum()
        per = setup.rows_per_output
        self.outputs = int(np.ceil(stage.windows * SPAN_S["musicnn"] / setup.hop_s / per))
        self.length = self.outputs * per
        self.words = {name: target.components(name, clips.teachers[name]) for name in TEACHERS}
        self.spans = {
            name: [shares(setup, name, self.start(first), self.outputs, words.shape[1])
                   for first in range(WINDOWS_OF_A_CLIP - stage.windows + 1)]
            for name, words in self.words.items()}

    def start(self, first):
        return round(first * SPAN_S["musicnn"] / self.setup.hop_s)

    def draw(self, step):
        """Features [batch, 1, rows, bands]; of each teacher the weights of the outputs
        [spans, batch · outputs] and what it says [spans, DIMS], of all spans of the batch."""
        rng = np.random.default_rng([self.setup.seed, step, self.ranks.rank])
        stage = self.stage
        batch = stage.batch // self.ranks.count
        roomy = stage.roomy(step)
        kinds = rng.choice(3, batch, p=self.parts)
        indices = [self.kinds[kind][rng.integers(len(self.kinds[kind]))] for kind in kinds]
        x = []
        weights, words = {name: [] for name in TEACHERS}, {name: [] for name in TEACHERS}
        for index in indices:
            first = rng.integers(WINDOWS_OF_A_CLIP - stage.windows + 1)
            version = rng.integers(1, VERSIONS) if rng.random() < roomy else 0
            start = self.start(first)
            piece = self.clips.rows[index][version][start : start + self.length].astype(np.float32)
            # SpecAugment: masks some bands, and occasionally a moment.
            band = rng.integers(0, self.setup.bands)
            piece[:, band : band + rng.integers(0, self.setup.bands // 8 + 1)] = -128
            if rng.random() < 0.25:
                at = rng.integers(0, self.length)
                piece[at : at + rng.integers(0, self.length // 12)] = -128
            x.append(piece)
            for name in TEACHERS:
                spans, overlaps = self.spans[name][first]
                weights[name].append(torch.from_numpy(overlaps))
                words[name].append(self.words[name][index][spans])
        x = torch.from_numpy(np.stack(x))[:, None] * FEATURE_SCALE
        weights = {name: torch.block_diag(*w) for name, w in weights.items()}
        return x, weights, {name: torch.from_numpy(np.concatenate(w)) for name, w in words.items()}


class Student(nn.Module):
    """The network, with a regressor for each teacher instead of its classifier."""

    def __init__(self, setup, classes, dims):
        super().__init__()
        self.net = setup.network(classes)
        self.regressors = nn.ModuleDict({name: nn.Linear(setup.head, d) for name, d in dims.items()})

    @classmethod
    def of(cls, setup, classes, learnt):
        """A trained one, from its state."""
        dims = {name: len(learnt[f"regressors.{name}.weight"]) for name in TEACHERS}
        student = cls(setup, classes, dims)
        student.load_state_dict(learnt)
        return student.eval()

    def regression(self):
        """(weight, bias) from pooled outputs to both teachers' words, [2 · DIMS, head] and [2 · DIMS]."""
        return [torch.cat([getattr(self.regressors[name], part) for name in TEACHERS]).detach().cpu().numpy()
                for part in ["weight", "bias"]]


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for the pointwise convolutions (K. Jordan,
    2024): five Newton-Schulz steps bring all singular values near 1. After 400 steps of
    pretraining it left 0.73 and 0.66 of the teachers' variance, AdamW 0.79 and 0.74."""

    def __init__(self, parameters, rate, momentum=0.95, weight_decay=0.02):
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                x = p.grad.lerp(momentum, group["momentum"]).flatten(1).bfloat16()
                tall = x.shape[0] > x.shape[1]
                x = x.T if tall else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    square = x @ x.T
                    x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
                update = (x.T if tall else x).float().view_as(p)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                # AdamW's usual size of an update, so that one rate serves both.
                p.sub_(update * (group["lr"] * 0.2 * max(x.shape) ** 0.5))


class Ranks:
    """Processes that share each batch: one per core is far faster than threads in one."""

    ROOM = 4_000_000  # numbers that are averaged at once, at most

    def __init__(self, rank=0, count=1, shared=None, barrier=None):
        self.rank, self.count, self.barrier = rank, count, barrier
        if count > 1:
            self.shared = torch.frombuffer(shared, dtype=torch.float32).view(count, self.ROOM)

    @classmethod
    def common(cls, context, count):
        """What all of them are given beside their number."""
        return count, context.RawArray("f", count * cls.ROOM), context.Barrier(count)

    def average(self, tensors):
        if self.count == 1:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        self.shared[self.rank, : len(flat)] = flat
        self.barrier.wait()
        mean = self.shared[:, : len(flat)].mean(0)
        self.barrier.wait()
        for t, part in zip(tensors, mean.split([t.numel() for t in tensors])):
            t.copy_(part.view_as(t))


class Trainer:
    """A student, its optimizers, and where they are in a stage."""

    def __init__(self, setup, stage, classes, target, start=None, device="cpu"):
        self.stage, self.target = stage, target
        self.student = Student(setup, classes, target.dims()).to(device)
        if start is not None:
            self.student.load_state_dict(start)
        self.rate = torch.zeros((), device=device)
        pointwise, rest = [], []
        for name, p in self.student.named_parameters():
            if "classifier" not in name:
                (pointwise if p.ndim == 4 and p.shape[1] > 1 else rest).append(p)
        self.parameters = pointwise + rest
        self.on_gpu = self.rate.is_cuda
        rate = self.rate if self.on_gpu else 0.0
        adamw = torch.optim.AdamW(rest, lr=rate, weight_decay=0.02, capturable=self.on_gpu)
        self.optimizers = [Muon(pointwise, rate), adamw]
        self.outputs = self.student.net.rows
        if os.environ.get("SORI_COMPILE", "1") == "1" and not self.on_gpu:
            self.outputs = torch.compile(self.outputs)
        self.student.train()
        self.unexplained = []

    def step(self, number, x, weights, words, average=lambda _: None):
        """One update. Keeps the shares of the teachers' variance that are not explained."""
        rate = self.stage.rate_at(number)
        self.rate.fill_(rate)
        if not self.on_gpu:
            for optimizer in self.optimizers:
                optimizer.param_groups[0]["lr"] = rate
        self.unexplained.append(self.update(x, weights, words, average))

    def update(self, x, weights, words, average):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.on_gpu, cache_enabled=False):
            rows = self.outputs(x.contiguous(memory_format=torch.channels_last))
        rows = rows.flatten(0, 1).float()
        unexplained = [
            (self.student.regressors[name](weights[name] @ rows) - words[name]).square().sum(1).mean()
            / self.target.variance[name]
            for name in TEACHERS
        ]
        self.student.zero_grad()
        sum(unexplained).backward()
        average([p.grad for p in self.parameters])
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return torch.stack(unexplained).detach()

    def said(self):
        """Mean of what was not explained since it was last asked, a teacher each."""
        mean = torch.stack(self.unexplained).mean(0).tolist()
        self.unexplained = []
        return mean

    def save(self, path, step):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        student = {name: tensor.cpu() for name, tensor in self.student.state_dict().items()}
        going_on = self.optimizers if step < self.stage.steps else []
        torch.save({"student": student, "step": step,
                    "optimizers": [optimizer.state_dict() for optimizer in going_on]}, partial)
        partial.rename(path)

    def load(self, path):
        """Resumes from a file; returns the next step."""
        state = torch.load(path, weights_only=False)
        self.student.load_state_dict(state["student"])
        if state["step"] < self.stage.steps:
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
        return state["step"]


def train(setup, stage, clips, indices, target, state_path, start=None, log=print, say=200, ranks=Ranks()):
    """Trains one stage on the bank; from `start`'s weights, if given. Returns the student."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    trainer = Trainer(setup, stage, len(clips.labels_known), target, start)
    first = trainer.load(state_path) if state_path.exists() else 0
    batches = Batches(setup, stage, clips, indices, target, ranks)
    statistics = [buffer for buffer in trainer.student.buffers() if buffer.is_floating_point()]
    for step in range(first, stage.steps):
        trainer.step(step, *batches.draw(step), ranks.average)
        if (step + 1) % say == 0 or step + 1 == stage.steps:
            log(step + 1, stage.steps, trainer.said())
        if (step + 1) % 500 == 0 or step + 1 == stage.steps:
            ranks.average(statistics)
            if ranks.rank == 0:
                trainer.save(state_path, step + 1)
    return trainer.student


@torch.no_grad()
def pooled(setup, student, rows):
    """The running mean after each output row of a whole excerpt: [outputs, head]."""
    student.eval()
    x = torch.from_numpy(rows)[None, None].float() * FEATURE_SCALE
    return running_mean(student.net.rows(x.contiguous(memory_format=torch.channels_last)), setup.pool_rows)[0]


def full(setup, outputs):
    """What a clip's summary takes: outputs whose running mean is full, or the last."""
    return outputs[setup.pool_rows - 1 :] if len(outputs) >= setup.pool_rows else outputs[-1:]
