"""Function matching (arXiv:2106.05237): how a network is trained.

The student hears seconds of a version of a clip, and after each patch of YAMNet's and each
window of musicnn's regresses what that teacher made of the clean clip there; in the end
also which genres a judge of both teachers' words would name. The judge alone has heard
labels. Every step draws its batch from its own number, so that a run that was stopped goes
on to the same bits.
"""

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from bank import UNKNOWN, VERSIONS
from net import MobileNetV2, running_mean

FEATURE_SCALE = 1 / 64
TEACHERS = ["yamnet", "musicnn"]
JUDGE = "judge"
# Seconds of a patch of YAMNet's and of a window of musicnn's; neither overlaps the next.
SPAN_S = {"yamnet": 0.96, "musicnn": 2.992, JUDGE: 2.992}
DIMS = 64  # principal components of each teacher
JUDGE_C = 0.03
ROOT = {"yamnet": lambda x: np.sqrt(np.maximum(x, 0)), "musicnn": lambda x: x}
WINDOWS_OF_A_CLIP = 3


@dataclass(frozen=True)
class Setup:
    """What distinguishes one network of the comparison from another."""

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
    """A part of training, with a warm-up and a cosine of its own."""

    steps: int
    rate: float
    batch: int = 32
    windows: int = 1  # a training sequence, in musicnn's windows
    rooms: tuple = (0.0, 0.6)  # share of what is heard through a microphone, first and last


@dataclass
class Clips:
    """Feature rows, teachers' words and labels of the bank, in memory."""

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
                for name in TEACHERS:
                    self.teachers[name].append(words[name].astype(np.float32))
            self.names.append(clip.name)
            self.labels.append(self.labels_known.index(clip.label) if clip.label in self.labels_known else -1)
            self.folds.append(-1 if clip.fold is None else clip.fold)

    def stacked(self):
        self.labels, self.folds = np.array(self.labels), np.array(self.folds)
        self.teachers = {name: np.stack(words) for name, words in self.teachers.items()}
        return self

    def is_music(self):
        return self.labels != self.labels_known.index(UNKNOWN)


class Target:
    """What the student regresses.

    Of each teacher the first principal components of its embeddings, in units of the first
    one's deviation, so that what varies most counts most. YAMNet's embedding is a mean of
    rectified values, whose roots are nearer to a normal distribution.
    """

    def __init__(self, clips, indices):
        self.names = list(TEACHERS)
        self.bases, self.words, self.variance = {}, {}, {}
        for name, words in clips.teachers.items():
            seen = ROOT[name](words[indices]).reshape(-1, words.shape[-1]).astype(np.float64)
            mean = seen.mean(0)
            # musicnn's are batch-normalised, but not alike in music as ours.
            scale = seen.std(0) + 1e-3 if name == "musicnn" else np.ones(len(mean))
            scaled = (seen - mean) / scale
            values, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
            values, axes = values[::-1][:DIMS], axes[:, ::-1][:, :DIMS]
            # The sign of an axis is the solver's choice.
            axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
            self.bases[name] = (mean, axes / scale[:, None] / np.sqrt(values[0]))
            self.words[name] = self.components(name, words)
            self.variance[name] = float(values.sum() / values[0])

    def components(self, name, words):
        """A teacher's embeddings, […, its dims], in what is regressed, […, DIMS]."""
        mean, axes = self.bases[name]
        return ((ROOT[name](words) - mean) @ axes).astype(np.float32)

    def judge(self, clips, indices):
        """Adds the genres' log-odds at each window of musicnn's, by logistic regression on
        both teachers' words of the labelled clips among `indices`."""
        windows = self.words["musicnn"].shape[1]
        patches = self.words["yamnet"].shape[1]
        middles = (np.arange(patches) + 0.5) * SPAN_S["yamnet"] / SPAN_S["musicnn"]
        yamnet = [self.words["yamnet"][:, middles.astype(int) == w].mean(1) for w in range(windows)]
        both = np.concatenate([np.stack(yamnet, 1), self.words["musicnn"]], 2)
        labelled = [i for i in indices if clips.labels[i] >= 0 and clips.is_music()[i]]
        known = both[labelled].mean(1)
        mean, scale = known.mean(0), known.std(0) + 0.03
        fitted = LogisticRegression(C=JUDGE_C, max_iter=500).fit((known - mean) / scale, clips.labels[labelled])
        odds = (both - mean) / scale @ fitted.coef_.T + fitted.intercept_
        odds -= odds.mean(2, keepdims=True)
        deviation = odds[indices].std()
        self.names.append(JUDGE)
        self.words[JUDGE] = (odds / deviation).astype(np.float32)
        self.variance[JUDGE] = float((odds[indices] / deviation).reshape(-1, odds.shape[2]).var(0).sum())
        return self

    def dims(self):
        return {name: self.words[name].shape[2] for name in self.names}


class Batches:
    def __init__(self, setup, stage, clips, indices, target, ranks):
        self.setup, self.stage, self.clips, self.ranks = setup, stage, clips, ranks
        music = clips.is_music()
        self.kinds = [
            [i for i in indices if clips.folds[i] >= 0],
            [i for i in indices if clips.folds[i] < 0 and music[i]],
            [i for i in indices if not music[i]],
        ]
        shares = np.array([0.62, 0.3, 0.08]) * [len(kind) > 0 for kind in self.kinds]
        self.shares = shares / shares.sum()
        per = setup.rows_per_output
        self.outputs = int(np.ceil(stage.windows * SPAN_S["musicnn"] / setup.hop_s / per))
        self.length = self.outputs * per
        self.target = target
        self.spans = {name: [self.weights(name, first) for first in range(WINDOWS_OF_A_CLIP - stage.windows + 1)]
                      for name in target.names}

    def start(self, first):
        return round(first * SPAN_S["musicnn"] / self.setup.hop_s)

    def weights(self, name, first):
        """For a sequence that starts at a window: the spans in it, and of each the share that
        every output has in it, [spans, outputs]."""
        rows, per = SPAN_S[name] / self.setup.hop_s, self.setup.rows_per_output
        start = self.start(first)
        ends = per * np.arange(1, self.outputs + 1) + start
        spans, weights = [], []
        for span in range(self.target.words[name].shape[1]):
            if span * rows < start - 1 or (span + 1) * rows > start + self.length:
                continue
            overlap = np.minimum(ends, (span + 1) * rows) - np.maximum(ends - per, span * rows)
            overlap = np.maximum(overlap, 0)
            spans.append(span)
            weights.append(overlap / overlap.sum())
        return spans, np.array(weights, np.float32)

    def draw(self, step):
        """Features [batch, 1, rows, bands]; of each teacher the weights of the outputs
        [spans, batch · outputs] and what it says [spans, DIMS], of all spans of the batch."""
        rng = np.random.default_rng([self.setup.seed, step, self.ranks.rank])
        stage = self.stage
        batch = stage.batch // self.ranks.count
        roomy = np.interp(step / stage.steps, [0, 0.7], stage.rooms)
        kinds = rng.choice(3, batch, p=self.shares)
        indices = [self.kinds[kind][rng.integers(len(self.kinds[kind]))] for kind in kinds]
        x = []
        names = self.target.names
        weights, words = {name: [] for name in names}, {name: [] for name in names}
        for index in indices:
            first = rng.integers(WINDOWS_OF_A_CLIP - stage.windows + 1)
            version = rng.integers(1, VERSIONS) if rng.random() < roomy else 0
            start = self.start(first)
            piece = self.clips.rows[index][version][start : start + self.length].astype(np.float32)
            # SpecAugment: some bands are lost, and now and then a moment.
            band = rng.integers(0, self.setup.bands)
            piece[:, band : band + rng.integers(0, self.setup.bands // 8 + 1)] = -128
            if rng.random() < 0.25:
                at = rng.integers(0, self.length)
                piece[at : at + rng.integers(0, self.length // 12)] = -128
            x.append(piece)
            for name in names:
                spans, shares = self.spans[name][first]
                weights[name].append(torch.from_numpy(shares))
                words[name].append(self.target.words[name][index][spans])
        x = torch.from_numpy(np.stack(x))[:, None] * FEATURE_SCALE
        weights = {name: torch.block_diag(*w) for name, w in weights.items()}
        return x, weights, {name: torch.from_numpy(np.concatenate(w)) for name, w in words.items()}


class Student(nn.Module):
    """The network, and in place of its classifier a regressor for each teacher."""

    def __init__(self, setup, classes, dims):
        super().__init__()
        self.net = setup.network(classes)
        self.regressors = nn.ModuleDict({name: nn.Linear(setup.head, d) for name, d in dims.items()})

    def regression(self):
        """(weight, bias) from pooled outputs to both teachers' words, [2 · DIMS, head] and [2 · DIMS]."""
        return [torch.cat([getattr(self.regressors[name], part) for name in TEACHERS]).detach().numpy()
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
                p.sub_(update, alpha=group["lr"] * 0.2 * max(x.shape) ** 0.5)


class Ranks:
    """Processes that share each batch: one a core is far faster than threads in one."""

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


def optimizers(student, rate):
    pointwise, rest = [], []
    for name, p in student.named_parameters():
        if "classifier" not in name:
            (pointwise if p.ndim == 4 and p.shape[1] > 1 else rest).append(p)
    return [Muon(pointwise, rate), torch.optim.AdamW(rest, lr=rate, weight_decay=0.02)]


def train(setup, stage, clips, indices, target, state_path, start=None, log=print, say=200, ranks=Ranks()):
    """Trains one stage; from `start`'s weights, if given. Returns the student."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    student = Student(setup, len(clips.labels_known), target.dims())
    if start is not None:
        # A judge has no part in pretraining.
        student.load_state_dict(start, strict=False)
    batches = Batches(setup, stage, clips, indices, target, ranks)
    both = optimizers(student, stage.rate)
    parameters = [p for optimizer in both for group in optimizer.param_groups for p in group["params"]]
    statistics = [buffer for buffer in student.buffers() if buffer.is_floating_point()]
    first = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=False)
        student.load_state_dict(state["student"])
        if state["step"] >= stage.steps:
            return student
        for optimizer, saved in zip(both, state["optimizers"]):
            optimizer.load_state_dict(saved)
        first = state["step"]
    outputs = student.net.rows
    if os.environ.get("SORI_COMPILE", "1") == "1":
        outputs = torch.compile(outputs)
    student.train()
    said = []
    for step in range(first, stage.steps):
        warm = min(1, (step + 1) / min(300, 0.1 * stage.steps))
        rate = stage.rate * warm * (0.01 + 0.495 * (1 + np.cos(np.pi * step / stage.steps)))
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
        x, weights, words = batches.draw(step)
        rows = outputs(x.contiguous(memory_format=torch.channels_last)).flatten(0, 1)
        # The shares of the variance that are not explained.
        unexplained = [
            (student.regressors[name](weights[name] @ rows) - words[name]).square().sum(1).mean() / target.variance[name]
            for name in target.names
        ]
        student.zero_grad()
        sum(unexplained).backward()
        ranks.average([p.grad for p in parameters])
        nn.utils.clip_grad_norm_(parameters, 5.0)
        for optimizer in both:
            optimizer.step()
        said.append([u.item() for u in unexplained])
        if (step + 1) % say == 0 or step + 1 == stage.steps:
            log(step + 1, stage.steps, np.mean(said, 0))
            said = []
        if (step + 1) % 500 == 0 or step + 1 == stage.steps:
            ranks.average(statistics)
            if ranks.rank == 0:
                state_path.parent.mkdir(parents=True, exist_ok=True)
                partial = state_path.with_suffix(".partial")
                torch.save({"student": student.state_dict(), "step": step + 1,
                            "optimizers": [optimizer.state_dict() for optimizer in both]}, partial)
                partial.rename(state_path)
    return student


@torch.no_grad()
def pooled(setup, student, rows):
    """The running mean after each output row of a whole excerpt: [outputs, head]."""
    student.eval()
    x = torch.from_numpy(rows)[None, None].float() * FEATURE_SCALE
    return running_mean(student.net.rows(x.contiguous(memory_format=torch.channels_last)), setup.pool_rows)[0]


def full(setup, outputs):
    """What a clip's summary takes: outputs whose running mean is full, or the last."""
    return outputs[setup.pool_rows - 1 :] if len(outputs) >= setup.pool_rows else outputs[-1:]
