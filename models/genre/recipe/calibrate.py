"""From a trained student to a classifier whose probabilities mean something."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from bank import UNKNOWN

HEAD_C = 0.003


@torch.no_grad()
def refit(recipe, student, clips, indices, fold, out):
    """Replaces the classifier, and writes what the network makes of the fold's excerpts.

    Logistic regression on what the student makes of the teachers' embeddings of the
    labelled excerpts, as they are; averaged with the classifier that was trained along,
    which has heard them in rooms and knows what is no music. Linear after linear is linear,
    so that the network keeps one fully connected layer.
    """
    from train import TEACHERS, full, pooled

    setup = recipe.setup()
    head, labels = [], []
    for row, rows in recipe.excerpts(lambda f: f != fold):
        outputs = full(setup, pooled(setup, student, rows))
        head.append(outputs.mean(0).numpy())
        labels.append(recipe.labels.index(row["genre"]))
    head, labels = np.stack(head), np.array(labels)
    weight = np.concatenate([student.regressors[name].weight.numpy() for name in TEACHERS])
    bias = np.concatenate([student.regressors[name].bias.numpy() for name in TEACHERS])
    embedded = head @ weight.T + bias
    mean, scale = embedded.mean(0), embedded.std(0) + 1e-2
    judge = LogisticRegression(C=HEAD_C, max_iter=2000).fit((embedded - mean) / scale, labels)
    judged = np.zeros((len(recipe.labels), head.shape[1]))
    judged_bias = np.zeros(len(recipe.labels))
    direct = (judge.coef_ / scale) @ weight
    judged[judge.classes_] = direct
    judged_bias[judge.classes_] = judge.intercept_ + (judge.coef_ / scale) @ (bias - mean)
    state = {
        "net": student.net.state_dict(),
        "trained": (student.net.classifier.weight.numpy().copy(), student.net.classifier.bias.numpy().copy()),
        "judged": (judged, judged_bias),
    }
    outputs = {}
    for row, rows in recipe.excerpts(lambda f: fold is None or f == fold):
        outputs[row["file"]] = full(setup, pooled(setup, student, rows)).numpy().astype(np.float32)
    # What is no music, and how the held-out music is heard in rooms.
    others = {}
    for index in range(len(clips.names)):
        is_unknown = clips.labels[index] == recipe.labels.index(UNKNOWN)
        if is_unknown or (fold is not None and clips.folds[index] == fold and clips.labels[index] >= 0):
            version = index % len(clips.rows[index])
            outputs_of = full(setup, pooled(setup, student, clips.rows[index][version]))
            others[clips.names[index]] = outputs_of.numpy().astype(np.float32)
    np.savez(out / "others.npz", **others)
    partial = out / "outputs.partial.npz"
    np.savez(partial, **outputs)
    torch.save(state, out / "network.pt")
    partial.rename(out / "outputs.npz")


def centred(head, genres):
    """A classifier (weight, bias) with the mean over the genres taken out, which softmax ignores."""
    weight, bias = head
    return weight - weight[:genres].mean(0), bias - bias[:genres].mean()


def mixed(state, genres, share):
    """The classifier trained along and the judge's, in one: (weight, bias)."""
    (trained, trained_bias), (judged, judged_bias) = (centred(state[key], genres) for key in ["trained", "judged"])
    weight = share * trained + (1 - share) * judged
    bias = share * trained_bias + (1 - share) * judged_bias
    # Only the one that was trained along knows what is no music.
    weight[genres:], bias[genres:] = trained[genres:], trained_bias[genres:]
    return weight, bias


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def calibrate(recipe, states, outputs, keep=0.97, share=0.5):
    """What the held-out answers of all folds say of the probabilities, for the shipped network.

    A temperature for the genres (Guo et al., arXiv:1706.04599), an offset for what is no
    music so that `keep` of the music stays, and the probability from which a genre is named.
    `outputs` is a list a fold of {file: (genre, [outputs, head])}.
    """
    genres = len(recipe.genres)
    answers = []  # (genre's number, genre logits [n, genres], log-odds of no music [n])
    for state, fold in zip(states, outputs, strict=True):
        weight, bias = mixed(state, genres, share)
        for genre, rows in fold.values():
            answers.append((recipe.genres.index(genre), rows @ weight.T + bias))
    truth = np.array([genre for genre, _ in answers])

    def clip(logits, temperature, offset):
        scaled = logits / temperature
        scaled[:, genres:] = logits[:, genres:] + offset
        return softmax(scaled).mean(0)

    def loss(log_temperature):
        said = np.stack([clip(l, np.exp(log_temperature), -100.0)[:genres] for _, l in answers])
        return -np.log(said[np.arange(len(truth)), truth] + 1e-9).mean()

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-1, 1), method="bounded").x))

    def kept(offset):
        return np.mean([clip(l, temperature, offset)[genres] < 0.5 for _, l in answers])

    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) >= keep else (low, middle)
    # Never more eager to refuse than training left it.
    offset = min(low, 0.0) if kept(0.0) < keep else 0.0
    best = np.array([clip(l, temperature, offset)[:genres].max() for _, l in answers])
    return {"temperature": temperature, "offset": offset, "enter": float(np.quantile(best, 0.015)), "share": share}


def applied(recipe, state, found):
    """The classifier with its calibration in it: (weight, bias)."""
    genres = len(recipe.genres)
    weight, bias = mixed(state, genres, found["share"])
    weight[:genres] /= found["temperature"]
    bias[:genres] /= found["temperature"]
    bias[genres:] += found["offset"]
    return weight.astype(np.float32), bias.astype(np.float32)
