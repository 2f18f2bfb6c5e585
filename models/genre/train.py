"""Trains the genre network, from audio to ONNX, in one command:

    python train.py --data DATA --teacher yamnet.tflite --sori target/release/sori --work work

Stages: `bank` (augmented audio), `teach` (the teacher's embeddings), `features` (int8
rows from sori-dsp itself), `train`, `evaluate`, `export`. Each picks up where it
stopped. `--smoke` runs all of them on generated tones in a minute, without data.
"""

import argparse
import json
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

import bank
from net import MobileNetV2, running_mean

HERE = Path(__file__).parent
ROWS_PER_PATCH = 60  # 0.96 s of 16 ms rows
ROWS_PER_OUTPUT = 32
POOL_ROWS = 20
FEATURE_SCALE = 1 / 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with gtzan/, tracks.csv in it, and homburg/")
    parser.add_argument("--teacher", type=Path, help="yamnet.tflite; without it, labels alone teach")
    parser.add_argument("--sori", type=Path, required=True, help="the `sori` command, for features")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--onnx", type=Path, default=None, help="default: WORK/genre.onnx")
    parser.add_argument("--fold", type=int, default=0, help="the fold that is held out")
    parser.add_argument("--variants", type=int, default=12, help="augmented versions of each track")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=None, help="shortens the schedule to fit")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    args.onnx = args.onnx or args.work / "genre.onnx"
    return args


def features(args, source, out):
    """Runs `sori features` on a folder, once."""
    done = out / "done"
    if not done.exists():
        command = [args.sori, "features", "--contract", HERE / "contract.toml", "--out", out, source]
        subprocess.run([str(part) for part in command], check=True)
        done.touch()


class Clips:
    """Feature rows, teacher's patches and labels of the bank, in memory."""

    def __init__(self, args):
        self.rows, self.patches, self.labels = [], [], []
        root = args.work / "features" / "bank"
        for path in sorted(root.rglob("*.npy")):
            relative = path.relative_to(root)
            rows = np.load(path)
            if len(rows) < 2 * ROWS_PER_PATCH:
                continue
            self.rows.append(torch.from_numpy(rows))
            genre = relative.parts[0]
            self.labels.append(bank.GENRES.index(genre) if genre in bank.GENRES else -1)
            embedding = args.work / "teacher" / "bank" / relative
            self.patches.append(np.load(embedding).astype(np.float32) if embedding.exists() else None)
        self.taught = all(patches is not None for patches in self.patches)

    def batch(self, indices, patches, rng):
        """Sequences of `patches` patches from anywhere in a clip, each heard as a stream of its own.

        The teacher's embeddings are `[batch, patches, 1024]`: the mean of all patches so far.
        """
        x, embeddings, labels = [], [], []
        length = patches * ROWS_PER_PATCH
        for index in indices:
            rows = self.rows[index]
            whole = len(rows) // ROWS_PER_PATCH
            start = int(rng.integers(0, max(1, whole - patches + 1)))
            piece = rows[start * ROWS_PER_PATCH :][:length]
            if len(piece) < length:
                piece = torch.cat([piece, piece.flip(0).repeat(length // len(piece) + 1, 1)])[:length]
            x.append(piece)
            if self.taught:
                embeddings.append(prefix_means(self.patches[index][start : start + patches], patches))
            labels.append(self.labels[index])
        x = torch.stack(x).unsqueeze(1).float() * FEATURE_SCALE
        # Some bands and some time are lost now and then.
        for piece in x:
            band, rows = rng.integers(0, 60), rng.integers(0, length - 20)
            piece[:, :, band : band + rng.integers(0, 8)] = -2
            if rng.random() < 0.5:
                piece[:, rows : rows + rng.integers(0, 20)] = -2
        embeddings = np.stack(embeddings) if self.taught else None
        return x, embeddings, torch.tensor(labels)


def prefix_means(patches, length):
    """Mean of the first 1, 2, … `length` patches; a shorter clip's last mean is repeated."""
    means = np.cumsum(patches, 0) / np.arange(1, len(patches) + 1)[:, None]
    return means[np.minimum(np.arange(length), len(means) - 1)]


def real_clips(args):
    """The unaugmented excerpts: (row of tracks.csv, feature rows)."""
    root = args.work / "features" / "gtzan"
    for row in bank.tracks(args.data):
        yield row, np.load((root / row["file"]).with_suffix(".npy"))


def reference_judge():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def teacher_judge(args):
    """Logistic regression on the teacher's embeddings of the training folds (the reference)."""
    root = args.work / "teacher" / "gtzan"
    rows = bank.tracks(args.data)
    x = np.stack([np.load((root / r["file"]).with_suffix(".npy")).astype(np.float32).mean(0) for r in rows])
    y = np.array([bank.GENRES.index(r["genre"]) for r in rows])
    folds = np.array([int(r["fold"]) for r in rows])
    right = np.concatenate([
        reference_judge().fit(x[folds != f], y[folds != f]).predict(x[folds == f]) == y[folds == f]
        for f in sorted(set(folds))
    ])
    held = folds == args.fold
    fitted = reference_judge().fit(x[~held], y[~held])
    print(f"teacher + logistic regression, all folds: {right.mean():.3f}, "
          f"fold {args.fold}: {(fitted.predict(x[held]) == y[held]).mean():.3f}", flush=True)
    return fitted


def train(args):
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    clips = Clips(args)
    print(f"{len(clips.rows)} clips, {sum(len(r) for r in clips.rows) * 0.016 / 3600:.1f} h", flush=True)
    net = MobileNetV2(len(bank.GENRES), args.width).to(memory_format=torch.channels_last)
    head = net.classifier.in_features
    regressor = nn.Linear(head, 1024)
    judge = None
    if clips.taught:
        judge = teacher_judge(args)
        mean = torch.tensor(judge[0].mean_, dtype=torch.float32)
        scale = torch.tensor(judge[0].scale_, dtype=torch.float32)
    parameters = [*net.parameters(), *regressor.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.02)
    batch = min(32, len(clips.rows))
    steps = args.epochs * (len(clips.rows) // batch)
    schedule = lambda done: min(1, done / 0.04 + 0.01) * 0.5 * (1 + np.cos(np.pi * min(1, done)))
    state_path = args.work / "state.pt"
    step, spent = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=False)
        net.load_state_dict(state["net"])
        regressor.load_state_dict(state["regressor"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, rng = state["step"], state["spent"], state["rng"]
    started = time.time() - spent
    order, shown = [], []
    while True:
        done = step / steps
        if args.minutes:
            done = max(done, (time.time() - started) / (60 * args.minutes))
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * schedule(done)
        if len(order) < batch:
            order = list(rng.permutation(len(clips.rows)))
        indices, order = order[:batch], order[batch:]
        # Mostly 4 s, now and then 8 s: longer than the receptive field.
        patches = 8 if step % 6 == 5 else 4
        x, embeddings, labels = clips.batch(indices, patches, rng)
        net.train()
        # What a listener has after each patch: a second of sound must be worth something.
        rows = running_mean(net.rows(x.contiguous(memory_format=torch.channels_last)), POOL_ROWS)
        ends = [min(round((p + 1) * ROWS_PER_PATCH / ROWS_PER_OUTPUT), rows.shape[1]) for p in range(patches)]
        pooled = rows[:, [end - 1 for end in ends]]
        logits = net.classifier(pooled)
        known = labels >= 0
        loss = torch.zeros(())
        if known.any():
            repeated = labels[known, None].expand(-1, patches).flatten()
            hard = F.cross_entropy(logits[known].flatten(0, 1), repeated, label_smoothing=0.1)
            loss = loss + (0.5 if clips.taught else 1.0) * hard
        if clips.taught:
            target = (torch.from_numpy(embeddings).float() - mean) / scale
            distance = F.smooth_l1_loss(regressor(pooled), target.clamp(-4, 4))
            soft = judge.predict_proba(embeddings.reshape(-1, embeddings.shape[-1]))
            soft = torch.tensor(soft, dtype=torch.float32)
            divergence = F.kl_div(F.log_softmax(logits.flatten(0, 1), 1), soft, reduction="batchmean")
            loss = loss + 4 * distance + divergence
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        shown.append(loss.item())
        step += 1
        if step % 200 == 0:
            print(f"step {step} of {steps}, {100 * done:.0f} %, loss {np.mean(shown):.4f}, "
                  f"{(time.time() - started) / 60:.1f} min", flush=True)
            shown = []
        if step % 1000 == 0:
            torch.save({"net": net.state_dict(), "regressor": regressor.state_dict(),
                        "optimizer": optimizer.state_dict(), "step": step,
                        "spent": time.time() - started, "rng": rng}, state_path)
            evaluate(args, net)
    if clips.taught:
        refit(args, net, regressor)
    return net


@torch.no_grad()
def refit(args, net, regressor):
    """Judges the student's guess of the embedding as the reference judges the teacher's.

    Logistic regression on what the regressor makes of each whole excerpt of the training
    tracks. Linear after linear, so it becomes the network's one fully connected layer.
    """
    net.eval()
    guesses, labels = [], []
    for row, rows in real_clips(args):
        if int(row["fold"]) != args.fold:
            x = torch.from_numpy(rows)[None, None].float() * FEATURE_SCALE
            guesses.append(regressor(running_mean(net.rows(x), POOL_ROWS)[0, -1]).numpy())
            labels.append(bank.GENRES.index(row["genre"]))
    scaler, judge = reference_judge().fit(np.stack(guesses), labels)
    weight = torch.from_numpy(judge.coef_ / scaler.scale_).float()
    bias = torch.from_numpy(judge.intercept_).float() - weight @ torch.from_numpy(scaler.mean_).float()
    net.classifier.weight.copy_(weight @ regressor.weight)
    net.classifier.bias.copy_(weight @ regressor.bias + bias)


@torch.no_grad()
def evaluate(args, net):
    """Accuracy on the held-out fold, as a stream delivers it: after 1, 3 and 10 s, and of
    clips, for which a listener takes the outputs whose running mean is full, or the last."""
    net.eval()
    right = {"1 s": [], "3 s": [], "10 s": [], "clip": []}
    long_right = []
    for row, rows in real_clips(args):
        if int(row["fold"]) != args.fold:
            continue
        x = torch.from_numpy(rows)[None, None].float() * FEATURE_SCALE
        logits = net.classifier(running_mean(net.rows(x), POOL_ROWS))[0]
        label = bank.GENRES.index(row["genre"])
        for name, output in [("1 s", 2), ("3 s", 6), ("10 s", 20)]:
            if output <= len(logits):
                right[name].append(logits[output - 1].argmax().item() == label)
        full = logits[POOL_ROWS - 1 :] if len(logits) >= POOL_ROWS else logits[-1:]
        correct = full.softmax(1).mean(0).argmax().item() == label
        right["clip"].append(correct)
        if "long" in row["file"]:
            long_right.append(correct)
    result = {name: {"accuracy": float(np.mean(r)), "n": len(r)} for name, r in right.items() if r}
    if long_right:
        result["long clips"] = {"accuracy": float(np.mean(long_right)), "n": len(long_right)}
    print("held out:", json.dumps(result), flush=True)
    (args.work / "held-out.json").write_text(json.dumps(result, indent=2) + "\n")


def export(args, net):
    """ONNX, `[1, 1, rows, bands]` with any number of rows, the contract in its metadata."""
    import onnx

    net.eval()
    args.onnx.parent.mkdir(parents=True, exist_ok=True)
    partial = args.onnx.with_suffix(".partial")
    with warnings.catch_warnings():
        # The older exporter folds batch norm, which makes the smaller file; torch would
        # rather have the newer one used.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.to(memory_format=torch.contiguous_format), (torch.zeros(1, 1, 622, 64),), str(partial),
            input_names=["features"], output_names=["logits"], dynamic_axes={"features": {2: "rows"}},
            opset_version=17, dynamo=False,
        )
    model = onnx.load(partial)
    entry = model.metadata_props.add()
    entry.key, entry.value = "sori.contract", (HERE / "contract.toml").read_text()
    onnx.save(model, partial)
    partial.rename(args.onnx)
    net.to(memory_format=torch.channels_last)


def smoke_data(args):
    """Two tones a genre: enough to run every line."""
    import soundfile

    args.data = args.work / "tones"
    lines = ["file,genre,track,fold"]
    for g, genre in enumerate(bank.GENRES):
        for track in range(2):
            name = f"{genre}/{genre}.{track:05}.long.flac"
            path = args.data / "gtzan" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            t = np.arange(5 * bank.RATE) / bank.RATE
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * 1.4**g * t), bank.RATE)
            lines.append(f"{name},{genre},{genre}.{track:05},{track}")
    (args.data / "gtzan" / "tracks.csv").write_text("\n".join(lines) + "\n")
    args.variants, args.epochs, args.width, args.teacher = 1, 2, 0.1, None


def main():
    args = arguments()
    if args.smoke:
        smoke_data(args)
    if args.data is None:
        raise SystemExit("--data is missing: the folder that holds gtzan/ and homburg/")
    clips = args.work / "bank"
    print("bank:", bank.build(args.data, args.fold, clips, args.variants), "clips", flush=True)
    if args.teacher:
        from teacher import embed_all

        embed_all(args.teacher, sorted(clips.rglob("*.wav")), clips, args.work / "teacher" / "bank", bank.load)
        real = [args.data / "gtzan" / row["file"] for row in bank.tracks(args.data)]
        embed_all(args.teacher, real, args.data / "gtzan", args.work / "teacher" / "gtzan", bank.load)
    features(args, clips, args.work / "features" / "bank")
    features(args, args.data / "gtzan", args.work / "features" / "gtzan")
    net = train(args)
    evaluate(args, net)
    export(args, net)


if __name__ == "__main__":
    main()
