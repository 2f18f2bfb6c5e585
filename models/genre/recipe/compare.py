"""Compares networks in one table: widths, bands, hops, context, causal or symmetric.

    python compare.py TABLE.md --comparison-steps 1500 [the options of recipe.py]

Each network hears the bank's unlabelled music alone, for as many steps of the same batches,
so that it has never heard a track of any fold. Of the excerpts it is asked how much of the
variance of the teachers' words it explains, and a logistic regression on what it makes of
them is cross-validated over the folds, by track, beside the teachers' own embeddings.
Parameters, MACs and memory are those of the package.
"""

import dataclasses
import json
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import bank
import recipe

# Differences from the recipe's own network.
NETWORKS = {
    "the recipe's": {},
    "symmetric": {"causal": False},
    "width 0.35": {"width": 0.35},
    "width 0.5": {"width": 0.5},
    "width 0.75": {"width": 0.75},
    "width 1.0, head 1280": {"width": 1.0, "head": 1280},
    "40 bands": {"bands": 40},
    "hop 10 ms": {"hop_s": 0.010},
    "hop 32 ms": {"hop_s": 0.032},
}
CONTEXTS_S = [1.024, 3.072, 5.12, 10.24, 20.48]
HEAD_C = 0.03
TEACHERS_C = {"yamnet": 0.01, "musicnn": 0.01, "both": 0.003}


def front_end(run, setup):
    """The folder with rows of that front end, of the bank's music and of the excerpts."""
    import export

    if (setup.bands, setup.hop_s) == (run.setup().bands, run.setup().hop_s):
        return run.features
    folder = run.args.work / "compare" / f"{setup.bands}-bands-{1000 * setup.hop_s:.0f}-ms"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "contract.toml"
    path.write_text(export.contract_text(run.args.contract, setup, "comparison", run.genres, 0.3))
    bank.features(run.args.sori, path, run.bank / "more" / "audio", folder / "more")
    bank.features(run.args.sori, path, run.args.data, folder / "excerpts")
    return folder


def by_track(run, embedded, c):
    """Share of correct tracks with their fold held out, overall and by fold, %."""
    labels = np.array([run.genres.index(row["genre"]) for row in run.tracks])
    folds = np.array([int(row["fold"]) for row in run.tracks])
    sums = {}
    for fold in run.folds:
        learnt = folds != fold
        mean, scale = embedded[learnt].mean(0), embedded[learnt].std(0) + 0.05
        fitted = LogisticRegression(C=c, max_iter=1000).fit((embedded[learnt] - mean) / scale, labels[learnt])
        said = fitted.predict_proba((embedded[~learnt] - mean) / scale)
        for row, label, p in zip(np.array(run.tracks)[~learnt], labels[~learnt], said):
            sums.setdefault(row["track"], [fold, label, 0.0])[2] += p
    right = [(fold, label == p.argmax()) for fold, label, p in sums.values()]
    each = [100 * float(np.mean([r for f, r in right if f == fold])) for fold in run.folds]
    return 100 * float(np.mean([r for _, r in right])), each


def teachers(run):
    """The teachers' embeddings of each excerpt: {name: [[spans, dims], …]}."""
    from teachers import of_clip

    path = run.args.work / "compare" / "teachers.pickle"
    if not path.exists():
        asked = recipe.make_teachers(run.args)
        words = [of_clip(asked, bank.load(run.args.data / row["file"])) for row in run.tracks]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps({name: [w[name].astype(np.float32) for w in words] for name in words[0]}))
    return pickle.loads(path.read_bytes())


def teachers_rows(run):
    """The teachers' own rows of the table."""
    means = {name: np.stack([w.mean(0) for w in words]) for name, words in teachers(run).items()}
    means["both"] = np.hstack([np.sqrt(np.maximum(means["yamnet"], 0)), means["musicnn"]])
    for name, c in TEACHERS_C.items():
        accuracy, folds = by_track(run, means[name], c)
        yield {"name": f"teacher: {name}", "accuracy": accuracy, "folds": folds}


def network(run, steps, name):
    """Trains one network; returns its row of the table."""
    from train import Clips, Stage, Target, full, pooled, train

    setup = dataclasses.replace(run.setup(), **NETWORKS[name])
    out = run.args.work / "compare" / name.replace(" ", "-").replace(",", "")
    if (out / "row.json").exists():
        return json.loads((out / "row.json").read_text())
    rows_at = front_end(run, setup)
    clips = Clips(run.labels)
    clips.read(run.parts["more"], run.bank / "more", rows_at / "more")
    clips.stacked()
    indices = np.arange(len(clips.names))
    target = Target(clips.teachers)
    stage = Stage(steps, run.args.rate, run.args.batch // 2)
    student = train(setup, stage, clips, indices, target, out / "state.pt", log=run.say(name))
    student.eval()
    weight, bias = student.regression()
    row = {"name": name}
    for seconds in CONTEXTS_S if not NETWORKS[name] else [setup.pool_s]:
        heard_for = dataclasses.replace(setup, pool_s=seconds)
        outputs = []
        for excerpt in run.tracks:
            rows = np.load((rows_at / "excerpts" / excerpt["file"]).with_suffix(".npy"))
            outputs.append(full(heard_for, pooled(heard_for, student, rows)).mean(0).numpy())
        said = np.stack(outputs) @ weight.T + bias
        accuracy, folds = by_track(run, said, HEAD_C)
        row.setdefault("contexts", {})[str(seconds)] = accuracy
        if seconds == setup.pool_s:
            row |= {"accuracy": accuracy, "folds": folds, "explained": explained(run, target, said)}
    row |= packaged(run, setup, student, rows_at, name, out)
    (out / "row.json").write_text(json.dumps(row))
    return row


def explained(run, target, said):
    """Explained share of the variance of each teacher's embeddings of the excerpts, %."""
    shares, at = [], 0
    for name, words in teachers(run).items():
        truth = np.stack([target.components(name, w).mean(0) for w in words])
        error = np.square(said[:, at : at + truth.shape[1]] - truth).sum()
        shares.append(100 * (1 - float(error / np.square(truth - truth.mean(0)).sum())))
        at += truth.shape[1]
    return shares


def packaged(run, setup, student, rows_at, name, out):
    """The network's cost on a device, from its package; the classifier's weights do not matter."""
    import export

    contract = export.contract_text(run.args.contract, setup, name, run.genres, 0.3)
    head = (np.eye(len(run.genres), setup.head, dtype=np.float32), np.zeros(len(run.genres), np.float32))
    export.onnx(setup, len(run.genres), student.net.state_dict(), head, contract, out / "network.onnx")
    calibration = out / "calibration"
    calibration.mkdir(exist_ok=True)
    for excerpt in run.tracks[::20]:
        link = calibration / Path(excerpt["file"]).with_suffix(".npy").name
        if not link.exists():
            link.symlink_to((rows_at / "excerpts" / excerpt["file"]).with_suffix(".npy").resolve())
    package = out / "network.sori"
    command = [run.args.sori, "quantize", out / "network.onnx", "--calib", calibration, "--out", package]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    command = [run.args.sori, "inspect", package, "--json"]
    found = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout)
    return {"parameters": found["parameters"], "macs_per_second": found["macs_per_second"],
            "arena": found["memory"]["arena"][0]["bytes"]}


def table(rows):
    lines = ["| Network | Explained of YAMNet, musicnn, % | Tracks right, % | by fold | Parameters | MMAC/s | Arena, bytes |",
             "|---" * 7 + "|"]
    for row in rows:
        explained = ", ".join(f"{share:.1f}" for share in row.get("explained", [])) or "–"
        cost = ["–"] * 3
        if "parameters" in row:
            cost = [f"{row['parameters']:,}", f"{row['macs_per_second'] / 1e6:.1f}", f"{row['arena']:,}"]
        folds = ", ".join(f"{share:.1f}" for share in row["folds"])
        lines.append(f"| {row['name']} | {explained} | {row['accuracy']:.1f} | {folds} | " + " | ".join(cost).replace(",", " ") + " |")
    contexts = next(row["contexts"] for row in rows if len(row.get("contexts", {})) > 1)
    lines += ["", "| Running mean over | " + " | ".join(f"{float(s):.0f} s" for s in contexts) + " |", "|---" * (len(contexts) + 1) + "|"]
    lines += ["| Tracks right, % | " + " | ".join(f"{share:.1f}" for share in contexts.values()) + " |"]
    return "\n".join(lines) + "\n"


def main():
    out, steps = Path(sys.argv[1]), int(sys.argv[3])
    del sys.argv[1:4]
    run = recipe.Recipe(recipe.arguments())
    rows = list(teachers_rows(run))
    with ProcessPoolExecutor(run.args.jobs, max_tasks_per_child=1, mp_context=recipe.context()) as pool:
        rows += pool.map(network, [run] * len(NETWORKS), [steps] * len(NETWORKS), NETWORKS)
    out.write_text(table(rows))
    print(out.read_text())


if __name__ == "__main__":
    main()
