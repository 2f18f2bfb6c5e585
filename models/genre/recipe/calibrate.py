"""Turns a trained student into a classifier with calibrated probabilities."""

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

HEAD_C = 0.005
KEEP = 0.975  # share of the music that must not be called unknown


def heard(setup, student, clips, excerpts):
    """What a network makes of all that has a label, as its classifier is given it.

    `bank`: [clips, versions · lengths, head] of the clips with a label, `labels` and `folds`
    of each; and of each excerpt, by its file, the pooled outputs that its summary takes.
    """
    from train import full, pooled

    known = np.flatnonzero(clips.labels >= 0)
    # After 2.5 seconds, and after all.
    early = round(2.5 / setup.hop_s / setup.rows_per_output)
    bank = []
    for i in known:
        outputs = [pooled(setup, student, rows).numpy() for rows in clips.rows[i]]
        bank.append(np.concatenate([[rows[early], rows[-1]] for rows in outputs]))
    bank = np.stack(bank).astype(np.float32)
    found = {row["file"]: full(setup, pooled(setup, student, rows)).numpy() for row, rows in excerpts}
    return {"bank": bank, "labels": clips.labels[known], "folds": clips.folds[known], **found}


def classifier(regression, outputs, labels, fold, tracks):
    """(weight, bias) of a linear classifier of pooled outputs, which never heard `fold`.

    A logistic regression on what the student makes of the teachers' embeddings: linear after
    linear is linear, so that the network keeps one fully connected layer. `tracks` are the
    rows of the split, which say the excerpts' genres.
    """
    weight, bias = regression
    learnt = outputs["folds"] != fold
    bank = outputs["bank"][learnt]
    excerpts = [row for row in tracks if int(row["fold"]) != fold]
    head = np.concatenate([bank.reshape(-1, bank.shape[2]), [outputs[row["file"]].mean(0) for row in excerpts]])
    truth = np.concatenate([np.repeat(outputs["labels"][learnt], bank.shape[1]),
                            [labels.index(row["genre"]) for row in excerpts]])
    # All variants of a clip count as one.
    counts = np.concatenate([np.full(bank.shape[0] * bank.shape[1], 1 / bank.shape[1]), np.ones(len(excerpts))])
    embedded = head @ weight.T + bias
    mean, scale = embedded.mean(0), embedded.std(0) + 0.05
    fitted = LogisticRegression(C=HEAD_C, max_iter=500).fit((embedded - mean) / scale, truth, counts)
    direct = fitted.coef_ / scale
    return direct @ weight, fitted.intercept_ + direct @ (bias - mean)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def calibrate(genres, answers):
    """What held-out answers say of the probabilities.

    A temperature for the genres (Guo et al., arXiv:1706.04599), an offset for what is no
    music so that `KEEP` of the music stays, and the probability from which a genre is named.
    `answers` are (number of the genre, logits [outputs, classes]) of every excerpt.
    """
    truth = np.array([genre for genre, _ in answers])

    def clip(logits, temperature, offset):
        scaled = logits / temperature
        scaled[:, genres:] = logits[:, genres:] + offset
        return softmax(scaled).mean(0)

    def loss(log_temperature):
        # Non-music has its share of the probability, as on the device.
        said = np.stack([clip(l, np.exp(log_temperature), 0.0)[:genres] for _, l in answers])
        return -np.log(said[np.arange(len(truth)), truth] + 1e-9).mean()

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-1, 1), method="bounded").x))

    def kept(offset):
        return np.mean([clip(l, temperature, offset)[genres] < 0.5 for _, l in answers])

    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) >= KEEP else (low, middle)
    # Never reject more readily than the regression.
    offset = min(low, 0.0)
    best = np.array([clip(l, temperature, offset)[:genres].max() for _, l in answers])
    return {"temperature": temperature, "offset": offset, "enter": float(np.quantile(best, 0.015))}


def applied(head, genres, found):
    """The classifier including its calibration: (weight, bias)."""
    weight, bias = head[0].copy(), head[1].copy()
    weight[:genres] /= found["temperature"]
    bias[:genres] /= found["temperature"]
    bias[genres:] += found["offset"]
    return weight.astype(np.float32), bias.astype(np.float32)
