"""Trains the genre network from audio to package, in one command:

    python recipe.py --data gtzan --music music --speech speech --yamnet yamnet.tflite \
        --musicnn musicnn-0.1.0-py3-none-any.whl --sori target/release/sori --work work

`--data` holds GENRE/track.* and a split file (tracks.csv: file, genre, track, fold). The
stages are the bank (audio and the teachers' words), features (from sori-dsp itself),
pretraining on what is in no fold, one network a fold, the network on everything, its
calibration by the folds, and the package. Each goes on where it stopped. `--smoke` runs
all of them on generated tones in less than a minute, without data or teachers.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

import bank
from calibrate import applied, calibrate, refit

HERE = Path(__file__).parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of GENRE/track.*, the labelled audio")
    parser.add_argument("--split", type=Path, help="its split file; default: DATA/tracks.csv")
    parser.add_argument("--music", type=Path, nargs="*", default=[], help="folders of more music, without labels")
    parser.add_argument("--speech", type=Path, nargs="*", default=[], help="folders of speech, to be unknown")
    parser.add_argument("--yamnet", type=Path, help="yamnet.tflite, a teacher")
    parser.add_argument("--musicnn", type=Path, help="the wheel of musicnn 0.1.0, a teacher")
    parser.add_argument("--sori", type=Path, required=True, help="the `sori` command")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--contract", type=Path, default=HERE.parent / "contract.toml")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--head", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=7, help="clips made of each labelled excerpt")
    parser.add_argument("--others", type=float, default=0.85, help="share of 2400 clips of more music, 740 not music")
    parser.add_argument("--pretrain", type=int, default=3000, help="steps on what is in no fold")
    parser.add_argument("--steps", type=int, default=2400, help="steps of each fold's network, and of the last")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="networks trained at once, a thread each")
    parser.add_argument("--name", default="genre", help="what the package calls itself")
    parser.add_argument("--calibration", type=int, default=160, help="clips to choose int8 ranges by")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop-after", choices=["bank", "pretrain", "folds"], help="do no more than that")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if not (args.smoke or (args.data and args.yamnet and args.musicnn)):
        parser.error("--data, --yamnet and --musicnn are needed, or --smoke")
    return args


def progress(results, total, what):
    """A line that is overwritten on a terminal, and one now and then in a log."""
    started = time.time()
    for done, result in enumerate(results, 1):
        left = (time.time() - started) / done * (total - done)
        line = f"{what}: {done} of {total}, {left / 60:.0f} min left"
        if sys.stderr.isatty():
            print(f"\r{line}  ", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done % max(1, total // 20) == 0 or done == total:
            print(line, file=sys.stderr, flush=True)
        yield result


class NoTeachers:
    """Stands in for them in the smoke run: what a clip's spectrum says."""

    def __call__(self, samples):
        def words(hop, dims):
            return np.stack([
                np.log(np.abs(np.fft.rfft(samples[at : at + hop], 2 * dims))[1 : dims + 1] + 1e-3)
                for at in range(0, len(samples) - hop + 1, hop)
            ]).astype(np.float16)
        return {"yamnet": words(15_360, 1024), "musicnn": words(47_872, 200)}


def make_teachers(args):
    if args.smoke:
        return NoTeachers()
    from teachers import Teachers

    return Teachers(args.yamnet, args.musicnn)


class Recipe:
    def __init__(self, args):
        self.args = args
        self.tracks = bank.read_split(args.data, args.split)
        self.genres = sorted({row["genre"] for row in self.tracks})
        self.labels = [*self.genres, bank.UNKNOWN]
        self.folds = sorted({int(row["fold"]) for row in self.tracks})
        music = [path for folder in args.music for path in bank.audio_below(folder)]
        speech = [path for folder in args.speech for path in bank.audio_below(folder)]
        self.clips = bank.plan(self.tracks, args.data, args.rounds, music, speech, args.others)
        self.bank = args.work / "bank"
        self.features = args.work / "features"

    def setup(self):
        from train import Setup

        return Setup(width=self.args.width, head=self.args.head, seed=self.args.seed)

    def make_bank(self):
        bank.build(self.clips, self.bank, partial(make_teachers, self.args), progress,
                   rooms_count=4 if self.args.smoke else 200)
        bank.features(self.args.sori, self.args.contract, self.bank / "audio", self.features / "bank")
        bank.features(self.args.sori, self.args.contract, self.args.data, self.features / "excerpts")

    def read(self):
        from train import Clips

        return Clips.read(self.clips, self.bank, self.features / "bank", self.labels)

    def excerpts(self, held):
        """(row of the split, feature rows) of the unchanged excerpts for which `held(fold)`."""
        for row in self.tracks:
            if held(int(row["fold"])):
                yield row, np.load((self.features / "excerpts" / row["file"]).with_suffix(".npy"))

    def say(self, name):
        def log(step, steps, loss):
            print(f"{name}: step {step} of {steps}, loss {loss:.4f}", file=sys.stderr, flush=True)
        return log

    def pretrain(self):
        from train import train

        state = self.args.work / "pretrained.pt"
        clips = self.read()
        indices = np.flatnonzero(clips.folds < 0)
        train(self.setup(), clips, indices, self.args.pretrain, state, log=self.say("pretraining"),
              threads=self.args.jobs)

    def network(self, fold):
        """Trains the network that never hears `fold`; None hears everything."""
        import torch
        from train import train

        name = "all" if fold is None else f"fold-{fold}"
        out = self.args.work / name
        if (out / "outputs.npz").exists():
            return name
        clips = self.read()
        indices = np.flatnonzero(clips.folds != fold) if fold is not None else np.arange(len(clips.names))
        pretrained = self.args.work / "pretrained.pt"
        start = torch.load(pretrained, weights_only=False)["student"] if pretrained.exists() else None
        student, _ = train(self.setup(), clips, indices, self.args.steps, out / "state.pt", start,
                           self.say(name))
        torch.set_num_threads(1)
        refit(self, student, clips, indices, fold, out)
        return name

    def run(self):
        args = self.args
        self.make_bank()
        if args.stop_after == "bank":
            return
        # Each network in a process of its own: a thread each, whatever the others do.
        with ProcessPoolExecutor(args.jobs, max_tasks_per_child=1, mp_context=context()) as pool:
            if args.music:
                pool.submit(self.pretrain).result()
            if args.stop_after == "pretrain":
                return
            jobs = [*self.folds, None] if args.stop_after != "folds" else self.folds
            for name in progress(pool.map(self.network, jobs), len(jobs), "networks"):
                pass
        if args.stop_after == "folds":
            return
        self.package()

    def held_out(self, fold):
        """{file: (genre, outputs)} of the excerpts that a fold's network never heard."""
        outputs = np.load(self.args.work / f"fold-{fold}" / "outputs.npz")
        return {row["file"]: (row["genre"], outputs[row["file"]]) for row in self.tracks if row["file"] in outputs}

    def package(self):
        """Calibrates by the folds; writes ONNX and package of each network."""
        import torch
        import export

        work, setup = self.args.work, self.setup()
        states = {name: torch.load(work / name / "network.pt", weights_only=False)
                  for name in [*(f"fold-{fold}" for fold in self.folds), "all"]}
        held_out = [self.held_out(fold) for fold in self.folds]
        everything = calibrate(self, [states[f"fold-{f}"] for f in self.folds], held_out)
        (work / "calibration.json").write_text(json.dumps(everything, indent=2) + "\n")
        for name, state in states.items():
            found = everything
            if name != "all":
                # A fold's own tracks have no say in how it is calibrated.
                others = [n for n, fold in enumerate(self.folds) if f"fold-{fold}" != name]
                if others:
                    found = calibrate(self, [states[f"fold-{self.folds[n]}"] for n in others],
                                      [held_out[n] for n in others])
            contract = work / name / "contract.toml"
            contract.write_text(export.contract_text(
                self.args.contract, self.args.name, self.labels, found["enter"], setup.pool_rows, 622))
            network = work / f"{name}.onnx"
            export.onnx(setup, len(self.labels), state, applied(self, state, found), contract.read_text(), network)
            self.quantize(name, network)

    def quantize(self, name, network):
        """The package, calibrated on rows that its network was trained on."""
        calibration = self.args.work / name / "calibration"
        fold = None if name == "all" else int(name.removeprefix("fold-"))
        heard = [clip for clip in self.clips if fold is None or clip.fold != fold]
        rng = bank.seeded("calibration", name)
        calibration.mkdir(exist_ok=True)
        for index in rng.permutation(len(heard))[: self.args.calibration]:
            file = f"{heard[index].name}.{rng.integers(bank.VERSIONS)}.npy"
            link = calibration / file
            if not link.exists():
                link.symlink_to((self.features / "bank" / file).resolve())
        package = self.args.work / f"{name}.sori"
        command = [self.args.sori, "quantize", network, "--calib", calibration, "--out", package]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        print(f"{package}: {hashlib.sha256(package.read_bytes()).hexdigest()}", flush=True)


def smoke(args):
    """Two tones a genre and no teachers: enough to run every line."""
    import soundfile

    args.data = args.work / "tones"
    lines = ["file,genre,track,fold"]
    for g, genre in enumerate(["blues", "jazz", "rock"]):
        for track in range(2):
            name = f"{genre}/{genre}.{track:05}.long.flac"
            path = args.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            t = np.arange(5 * bank.RATE) / bank.RATE
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * 2**g * t), bank.RATE)
            lines.append(f"{name},{genre},{genre}.{track:05},{track}")
    args.split = args.work / "tracks.csv"
    args.split.write_text("\n".join(lines) + "\n")
    args.music = [args.data]
    args.rounds, args.others, args.width, args.head, args.pretrain, args.steps = 1, 0.03, 0.1, 32, 4, 8
    args.calibration = 4
    os.environ["SORI_COMPILE"] = "0"


def context():
    import multiprocessing

    return multiprocessing.get_context("spawn")


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.smoke:
        smoke(args)
    Recipe(args).run()


if __name__ == "__main__":
    main()
