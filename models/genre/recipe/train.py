"""Function matching (arXiv:2106.05237) with labels in the loop: how a network is trained.

The student hears six seconds of a version of a clip and regresses what the two
teachers made of the clean one, and beside it names the genre, as the labels and the
teachers' judge have it. Every step draws its batch from its own number, so that a run
that was stopped goes on to the same bits.
"""

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from bank import UNKNOWN, VERSIONS
from net import MobileNetV2, running_mean

FEATURE_SCALE = 1 / 64
PATCH_S, WINDOW_S = 0.96, 2.992  # of YAMNet and of musicnn
WINDOWS = 2  # a training sequence, in musicnn's windows
TEACHERS = ["yamnet", "musicnn"]
DIMS = 64  # principal components of each teacher
ROOT = {"yamnet": lambda x: np.sqrt(np.maximum(x, 0)), "musicnn": lambda x: x}
JUDGE_C = 0.3
LABELS = 0.3  # weight of what labels and judge say, beside the regression


@dataclass(frozen=True)
class Setup:
    """What distinguishes one network of the comparison from another."""

    width: float = 0.5
    head: int = 640
    causal: bool = True
    bands: int = 64
    hop_s: float = 0.016
    pool_s: float = 10.24
    batch: int = 16
    rate: float = 2e-3
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


@dataclass
class Clips:
    """Feature rows, teachers' words and labels of the bank, in memory."""

    labels_known: list
    names: list = field(default_factory=list)
    rows: list = field(default_factory=list)  # [VERSIONS, rows, bands] each
    teachers: dict = field(default_factory=lambda: {name: [] for name in TEACHERS})
    labels: list = field(default_factory=list)
    folds: list = field(default_factory=list)

    @classmethod
    def read(cls, clips, bank, features, labels):
        self = cls(labels)
        for clip in clips:
            versions = [np.load(features / f"{clip.name}.{v}.npy") for v in range(VERSIONS)]
            least = min(map(len, versions))
            self.rows.append(np.stack([rows[:least] for rows in versions]))
            with np.load(bank / "teachers" / f"{clip.name}.npz") as words:
                for name in TEACHERS:
                    self.teachers[name].append(words[name].astype(np.float32))
            self.names.append(clip.name)
            self.labels.append(labels.index(clip.label) if clip.label in labels else -1)
            self.folds.append(-1 if clip.fold is None else clip.fold)
        self.labels, self.folds = np.array(self.labels), np.array(self.folds)
        self.teachers = {name: np.stack(words) for name, words in self.teachers.items()}
        return self

    def is_music(self):
        return self.labels != self.labels_known.index(UNKNOWN)


class Judge:
    """What the student regresses, and the teachers' opinion of the genre.

    Of each teacher the first principal components of its embeddings of music, in units of
    the first one's deviation, so that what varies most counts most. YAMNet's embedding is a
    mean of rectified values, whose roots are nearer to a normal distribution. The opinion is
    a logistic regression on both.
    """

    def __init__(self, clips, indices):
        music = [i for i in indices if clips.is_music()[i]]
        labelled = [i for i in music if clips.labels[i] >= 0]
        self.classes = len(clips.labels_known)
        self.mean, self.scale, self.axes, self.variance = {}, {}, {}, {}
        for name, words in clips.teachers.items():
            means = ROOT[name](words.mean(1))[music].astype(np.float64)
            self.mean[name] = means.mean(0)
            # musicnn's are batch-normalised, but not alike in music as ours.
            self.scale[name] = means.std(0) + 1e-3 if name == "musicnn" else np.ones(means.shape[1])
            _, values, axes = np.linalg.svd((means - self.mean[name]) / self.scale[name], full_matrices=False)
            self.axes[name] = axes[:DIMS] / (values[0] / np.sqrt(len(means)))
            self.variance[name] = float((values[:DIMS] ** 2).sum() / values[0] ** 2)
        self.fitted = None
        if labelled:
            means = [self.scaled(name, words.mean(1)[labelled]) for name, words in clips.teachers.items()]
            self.fitted = LogisticRegression(C=JUDGE_C, max_iter=1000).fit(np.hstack(means), clips.labels[labelled])

    def scaled(self, name, words):
        """[…, dims of the teacher] to […, DIMS]."""
        return ((ROOT[name](words) - self.mean[name]) / self.scale[name] @ self.axes[name].T).astype(np.float32)

    def probabilities(self, scaled):
        """[clips, classes] of scaled embeddings; None where there were no labels to learn from."""
        if self.fitted is None:
            return None
        both = np.hstack([scaled[name] for name in TEACHERS])
        total = np.zeros((len(both), self.classes), np.float32)
        total[:, self.fitted.classes_] = self.fitted.predict_proba(both)
        return total


class Batches:
    def __init__(self, setup, clips, indices, judge):
        self.setup, self.clips, self.judge = setup, clips, judge
        music, labels = clips.is_music(), clips.labels
        self.kinds = [
            [i for i in indices if clips.folds[i] >= 0],
            [i for i in indices if clips.folds[i] < 0 and music[i]],
            [i for i in indices if not music[i]],
        ]
        shares = np.array([0.62, 0.26, 0.12]) * [len(kind) > 0 for kind in self.kinds]
        self.shares = shares / shares.sum()
        self.length = int(WINDOWS * WINDOW_S / setup.hop_s)
        # Where the student is asked: early on, and after each of musicnn's windows.
        seconds = [1.0] + [WINDOW_S * (w + 1) for w in range(WINDOWS)]
        self.asked = [round(s / setup.hop_s / setup.rows_per_output) for s in seconds]

    def draw(self, step):
        """Features [batch, 1, rows, bands]; of each moment asked the teachers' scaled words
        (name -> [batch, moments, dims]), the judge's probabilities, and a label a clip."""
        rng = np.random.default_rng([self.setup.seed, step])
        kinds = rng.choice(3, self.setup.batch, p=self.shares)
        indices = [self.kinds[kind][rng.integers(len(self.kinds[kind]))] for kind in kinds]
        x, words = [], {name: [] for name in TEACHERS}
        for index in indices:
            first = rng.integers(3 - WINDOWS + 1)
            start_s = first * WINDOW_S
            rows = self.clips.rows[index][rng.integers(VERSIONS)]
            start = min(round(start_s / self.setup.hop_s), len(rows) - self.length)
            piece = rows[start : start + self.length].astype(np.float32)
            # SpecAugment: some bands and some time are lost.
            for _ in range(2):
                band = rng.integers(0, self.setup.bands)
                piece[:, band : band + rng.integers(0, self.setup.bands // 8 + 1)] = -128
            if rng.random() < 0.5:
                at = rng.integers(0, self.length)
                piece[at : at + rng.integers(0, self.length // 12)] = -128
            x.append(piece)
            patches = self.clips.teachers["yamnet"][index]
            windows = self.clips.teachers["musicnn"][index]
            begin = int(np.ceil(start_s / PATCH_S))
            ends = [int((start_s + WINDOW_S * (w + 1)) / PATCH_S) for w in range(WINDOWS)]
            yamnet = [patches[begin : max(end, begin + 1)].mean(0) for end in ends]
            musicnn = [windows[first : first + w + 1].mean(0) for w in range(WINDOWS)]
            words["yamnet"].append([yamnet[0], *yamnet])
            words["musicnn"].append([musicnn[0], *musicnn])
        x = torch.from_numpy(np.stack(x))[:, None] * FEATURE_SCALE
        scaled = {name: self.judge.scaled(name, np.array(w)) for name, w in words.items()}
        soft = self.judge.probabilities({n: s.reshape(-1, s.shape[-1]) for n, s in scaled.items()})
        labels = self.clips.labels[indices]
        return x, scaled, soft, labels, self.clips.is_music()[indices]


class Student(nn.Module):
    """The network, and beside its classifier a regressor for each teacher."""

    def __init__(self, setup, classes):
        super().__init__()
        self.net = setup.network(classes)
        self.regressors = nn.ModuleDict({name: nn.Linear(setup.head, DIMS) for name in TEACHERS})


def train(setup, clips, indices, steps, state_path, start=None, log=print, threads=1, say=200):
    """Trains for `steps` steps on those clips; from `start`'s weights, if given."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    student = Student(setup, len(clips.labels_known))
    if start is not None:
        student.load_state_dict(start)
    judge = Judge(clips, indices)
    batches = Batches(setup, clips, indices, judge)
    parameters = list(student.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=setup.rate, weight_decay=0.02)
    first = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=False)
        if state["step"] >= steps:
            student.load_state_dict(state["student"])
            return student, judge
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    unknown = clips.labels_known.index(UNKNOWN)
    weights = torch.tensor([0.4] + [1.0] * WINDOWS)
    pooled_rows = lambda x: running_mean(student.net.rows(x), setup.pool_rows)
    fast = torch.compile(pooled_rows) if os.environ.get("SORI_COMPILE", "1") == "1" else pooled_rows
    student.train()
    losses = []
    for step in range(first, steps):
        done = step / steps
        rate = float(setup.rate * min(1, (step + 1) / (0.05 * steps)) * 0.5 * (1 + np.cos(np.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, scaled, soft, labels, music = batches.draw(step)
        pooled = fast(x.contiguous(memory_format=torch.channels_last))[:, [a - 1 for a in batches.asked]]
        logits = student.net.classifier(pooled)
        loss = torch.zeros(())
        for name, target in scaled.items():
            # The share of the variance that is not explained.
            distance = (student.regressors[name](pooled) - torch.from_numpy(target)).square().sum(2)
            loss = loss + (distance.mean(0) * weights).mean() / judge.variance[name]
        moments = len(batches.asked)
        log_p = F.log_softmax(logits, 2)
        # Against the judge: genres of music; and whether it is music at all.
        if soft is not None:
            soft = torch.from_numpy(soft).view(len(labels), moments, -1)
            divergence = -(soft * log_p).sum(2)
            loss = loss + LABELS * (divergence * weights)[music].sum() / len(labels) / moments
        is_unknown = log_p[..., unknown].clamp(max=-1e-4)
        is_known = torch.log1p(-is_unknown.exp())
        existence = -torch.where(torch.from_numpy(music)[:, None], is_known, is_unknown)
        loss = loss + 0.3 * (existence * weights).mean()
        known = torch.from_numpy((labels >= 0) & music)
        if known.any():
            hard = F.cross_entropy(
                logits[known].flatten(0, 1), torch.from_numpy(labels)[known].repeat_interleave(moments),
                label_smoothing=0.1, reduction="none").view(-1, moments)
            loss = loss + 0.5 * LABELS * (hard * weights).sum() / len(labels) / moments
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % say == 0 or step + 1 == steps:
            log(step + 1, steps, float(np.mean(losses)))
            losses = []
        if (step + 1) % 500 == 0 or step + 1 == steps:
            state_path.parent.mkdir(parents=True, exist_ok=True)
            partial = state_path.with_suffix(".partial")
            torch.save({"student": student.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, partial)
            partial.rename(state_path)
    return student, judge


@torch.no_grad()
def pooled(setup, student, rows):
    """The running mean after each output row of a whole excerpt: [outputs, head]."""
    student.eval()
    x = torch.from_numpy(rows)[None, None].float() * FEATURE_SCALE
    return running_mean(student.net.rows(x.contiguous(memory_format=torch.channels_last)), setup.pool_rows)[0]


def full(setup, outputs):
    """What a clip's summary takes: outputs whose running mean is full, or the last."""
    return outputs[setup.pool_rows - 1 :] if len(outputs) >= setup.pool_rows else outputs[-1:]
