"""Trains the genre network from audio to package, in one command:

    python recipe.py --data gtzan --music homburg more/music more/composed --speech more/speech \
        --yamnet yamnet.tflite --musicnn musicnn-0.1.0-py3-none-any.whl \
        --sori target/release/sori --work work

`--data` holds GENRE/track.* and a split file (tracks.csv: file, genre, track, fold). The
stages are the bank (audio and the teachers' words), features (from sori-dsp itself),
pretraining on what is in no fold, one network a fold, the network on everything, its
calibration by the folds, and the package. Each goes on where it stopped. `--smoke` runs
all of them on generated tones in less than a minute, without data or teachers.

Where PyTorch finds a GPU, networks hear audio made for every step (`live.py`) in place of the
bank. `--train-only` stops after them: the rest, which needs `sori` and no GPU, can run elsewhere on
the same `--work`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

import bank
import calibrate

HERE = Path(__file__).parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of labelled audio, GENRE/track.*")
    parser.add_argument("--split", type=Path, help="its split file (default: DATA/tracks.csv)")
    parser.add_argument("--music", type=Path, nargs="*", default=[], help="folders of unlabelled music")
    parser.add_argument("--speech", type=Path, nargs="*", default=[], help="folders of speech, which should be unknown")
    parser.add_argument("--yamnet", type=Path, help="yamnet.tflite, the first teacher")
    parser.add_argument("--musicnn", type=Path, help="wheel of musicnn 0.1.0, the second teacher")
    parser.add_argument("--sori", type=Path, help="the `sori` command")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--contract", type=Path, default=HERE.parent / "contract.toml")
    parser.add_argument("--width", type=float, default=0.65)
    parser.add_argument("--head", type=int, default=640)
    parser.add_argument("--context", type=float, default=10.24, help="seconds covered by the running mean")
    parser.add_argument("--rounds", type=int, default=12, help="clips generated from each labelled excerpt")
    parser.add_argument("--others", type=float, default=0.85, help="number of unlabelled clips, as a share of 5000")
    parser.add_argument("--pretrain", type=int, default=6000, help="pretraining steps, on recordings outside all folds")
    parser.add_argument("--steps", type=int, default=2600, help="steps of each fold's network and of the final one")
    parser.add_argument("--rate", type=float, default=6e-3)
    parser.add_argument("--batch", type=int, default=32, help="sequences of 3 s per step")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="parallel processes, with one thread each")
    parser.add_argument("--name", default="genre", help="name of the package")
    parser.add_argument("--calibration", type=int, default=160, help="number of clips to choose int8 ranges from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train-only", action="store_true", help="train the networks only, without packages")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if not (args.smoke or (args.data and args.music and args.yamnet and args.musicnn)):
        parser.error("--data, --music, --yamnet and --musicnn are needed, or --smoke")
    if not (args.sori or args.train_only):
        parser.error("--sori is needed")
    # Otherwise `./sori` would be searched as `sori` in PATH.
    if args.sori and args.sori.exists():
        args.sori = args.sori.resolve()
    return args


def progress(results, total, what):
    """Prints progress: a line that is overwritten on a terminal, or an occasional line in a log."""
    started = time.time()
    for done, result in enumerate(results, 1):
        left = (time.time() - started) / done * (total - done)
        line = f"{what}: {done} of {total}, {left / 60:.0f} min left"
        if sys.stderr.isatty():
            print(f"\r{line}  ", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done % max(1, total // 20) == 0 or done == total:
            print(line, file=sys.stderr, flush=True)
        yield result


def make_teachers(args, device="cpu"):
    from teachers import NoTeachers, Teachers

    return NoTeachers() if args.smoke else Teachers(args.yamnet, args.musicnn, device)


class Recipe:
    def __init__(self, args):
        self.args = args
        self.tracks = bank.read_split(args.data, args.split)
        self.genres = sorted({row["genre"] for row in self.tracks})
        self.labels = [*self.genres, bank.UNKNOWN]
        self.folds = sorted({int(row["fold"]) for row in self.tracks})
        self.music = [paths for folder in args.music if (paths := bank.audio_below(folder))]
        self.speech = [path for folder in args.speech for path in bank.audio_below(folder)]
        self.parts = {
            "more": bank.plan_more(self.music, self.speech, args.others),
            "tracks": bank.plan_tracks(self.tracks, args.data, args.rounds),
        }
        self.bank = args.work / "bank"
        self.features = args.work / "features"

    def setup(self):
        from train import Setup

        args = self.args
        return Setup(width=args.width, head=args.head, pool_s=args.context, seed=args.seed)

    def stage(self, steps, rate, **more):
        from train import Stage

        return Stage(steps, rate, self.args.batch, **more)

    def teachers(self, device):
        return make_teachers(self.args, device)

    def mel(self):
        """The front end's part of the contract."""
        return tomllib.loads(self.args.contract.read_text())["mel"]

    def make_bank(self, part, taught=True):
        """All its clips with the teachers' embeddings, or only the labelled ones."""
        clips, sori = self.parts[part], self.args.sori
        if not taught:
            clips = [clip for clip in clips if clip.label]
        teachers = partial(make_teachers, self.args) if taught else None
        bank.build(clips, self.bank / part, teachers, progress, rooms_count=4 if self.args.smoke else 200)
        bank.features(sori, self.args.contract, self.bank / part / "audio", self.features / part)
        if part == "tracks":
            bank.features(sori, self.args.contract, self.args.data, self.features / "excerpts")

    def read(self, *parts, labelled=False):
        from train import Clips

        clips = Clips(self.labels)
        for part in parts:
            of = [clip for clip in self.parts[part] if clip.label or not labelled]
            clips.read(of, self.bank / part, self.features / part)
        return clips.stacked()

    def excerpts(self):
        """(row of the split, feature rows) of the unchanged excerpts."""
        for row in self.tracks:
            yield row, np.load((self.features / "excerpts" / row["file"]).with_suffix(".npy"))

    def say(self, name):
        def log(step, steps, unexplained):
            shares = ", ".join(f"{100 * share:.1f} %" for share in unexplained)
            print(f"{name}: step {step} of {steps}, unexplained {shares}", file=sys.stderr, flush=True)
        return log

    def pretrain(self):
        """Trains one network on recordings outside all folds, with all processes."""
        from train import Ranks

        state = self.args.work / "pretrained.pt"
        common = Ranks.common(context(), self.args.jobs)
        ranks = [context().Process(target=self.pretrain_rank, args=(state, rank, common))
                 for rank in range(self.args.jobs)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            sys.exit("pretraining failed")

    def pretrain_rank(self, state, rank, common):
        from train import Ranks, Target, train

        args = self.args
        clips = self.read("more")
        indices = np.arange(len(clips.names))
        log = self.say("pretraining") if rank == 0 else lambda *_: None
        train(self.setup(), self.stage(args.pretrain, args.rate), clips, indices, Target(clips.teachers),
              state, log=log, ranks=Ranks(rank, *common))

    def network(self, fold):
        """Trains the network that never hears `fold`; None hears everything."""
        import torch
        from train import Target, train

        args, name = self.args, named(fold)
        clips = self.read("more", "tracks")
        indices = np.flatnonzero(clips.folds != fold) if fold is not None else np.arange(len(clips.names))
        # From recordings outside all folds, as in pretraining.
        free = clips.folds < 0
        target = Target({teacher: words[free] for teacher, words in clips.teachers.items()})
        start = torch.load(args.work / "pretrained.pt", weights_only=False)["student"]
        stage = self.stage(args.steps, 0.4 * args.rate, rooms=(0.5, 0.5))
        train(self.setup(), stage, clips, indices, target, self.state(fold), start, self.say(name))
        self.listen(fold)

    def listen(self, fold):
        """A trained network's outputs for all labelled clips."""
        import torch
        from train import Student

        torch.set_num_threads(1)
        setup, out = self.setup(), self.args.work / named(fold)
        learnt = torch.load(self.state(fold), weights_only=False)["student"]
        student = Student.of(setup, len(self.labels), learnt)
        outputs = calibrate.heard(setup, student, self.read("more", "tracks", labelled=True), self.excerpts())
        torch.save({"net": student.net.state_dict(), "regression": student.regression()}, out / "network.pt")
        partial = out / "outputs.partial.npz"
        np.savez(partial, **outputs)
        partial.rename(out / "outputs.npz")

    def state(self, fold):
        return self.args.work / named(fold) / "state.pt"

    def trained(self, fold):
        import torch

        state = self.state(fold)
        return state.exists() and torch.load(state, weights_only=False)["step"] >= self.args.steps

    def train(self):
        """Trains every network that is not trained yet."""
        import torch

        missing = [fold for fold in [*self.folds, None] if not self.trained(fold)]
        if not missing:
            return
        if torch.cuda.is_available():
            import live

            live.train(self, "cuda", progress)
            return
        self.make_bank("more")
        self.pretrain()
        self.make_bank("tracks")
        self.each(self.network, missing, "networks")

    def each(self, work, folds, what):
        # Each in its own process with one thread, independent of the others.
        with ProcessPoolExecutor(self.args.jobs, max_tasks_per_child=1, mp_context=context()) as pool:
            for _ in progress(pool.map(work, folds), len(folds), what):
                pass

    def run(self):
        self.train()
        if self.args.train_only:
            return
        for part in self.parts:
            self.make_bank(part, taught=False)
        folds = [*self.folds, None]
        silent = [fold for fold in folds if not (self.args.work / named(fold) / "outputs.npz").exists()]
        self.each(self.listen, silent, "listening")
        self.package()

    def package(self):
        """Fits each network's classifier, calibrates it by the folds, and writes ONNX and package."""
        import torch
        import export

        work, setup, genres = self.args.work, self.setup(), len(self.genres)
        states, heads, answers = {}, {}, {}
        for fold in [*self.folds, None]:
            states[fold] = torch.load(work / named(fold) / "network.pt", weights_only=False)
            outputs = np.load(work / named(fold) / "outputs.npz")
            head = calibrate.classifier(states[fold]["regression"], outputs, self.labels, fold, self.tracks)
            heads[fold] = head
            answers[fold] = [
                (self.genres.index(row["genre"]), outputs[row["file"]] @ head[0].T + head[1])
                for row in self.tracks if int(row["fold"]) == fold]
        for fold, state in states.items():
            # A fold's own tracks do not take part in its calibration.
            others = [answer for other in self.folds if other != fold for answer in answers[other]]
            found = calibrate.calibrate(genres, others)
            name = named(fold)
            contract = work / name / "contract.toml"
            contract.write_text(export.contract_text(
                self.args.contract, setup, self.args.name, self.labels, found["enter"]))
            (work / name / "calibration.json").write_text(json.dumps(found, indent=2) + "\n")
            network = work / f"{name}.onnx"
            head = calibrate.applied(heads[fold], genres, found)
            export.onnx(setup, len(self.labels), state["net"], head, contract.read_text(), network)
            self.quantize(name, network)

    def quantize(self, name, network):
        """The package, calibrated on rows that its network was trained on."""
        calibration = self.args.work / name / "calibration"
        fold = None if name == "all" else int(name.removeprefix("fold-"))
        parts = {clip.name: part for part, clips in self.parts.items() for clip in clips}
        heard = [clip for clips in self.parts.values() for clip in clips
                 if clip.label and (fold is None or clip.fold != fold)]
        rng = bank.seeded("calibration", name)
        calibration.mkdir(exist_ok=True)
        for index in rng.permutation(len(heard))[: self.args.calibration]:
            file = f"{heard[index].name}.{rng.integers(bank.VERSIONS)}.npy"
            link = calibration / file
            if not link.exists():
                link.symlink_to((self.features / parts[heard[index].name] / file).resolve())
        package = self.args.work / f"{name}.sori"
        command = [self.args.sori, "quantize", network, "--calib", calibration, "--out", package]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        print(f"{package}: {hashlib.sha256(package.read_bytes()).hexdigest()}", flush=True)


def smoke(args):
    """Two tones per genre and no teachers: enough to run every line."""
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
    args.music = args.speech = [args.data]
    args.rounds, args.others, args.width, args.head, args.pretrain, args.steps = 1, 0.01, 0.1, 32, 4, 4
    # After so few steps the weights are so large that a mean over ten seconds could overflow.
    args.batch, args.calibration, args.context = 4, 4, 2.56
    os.environ["SORI_COMPILE"] = "0"


def named(fold):
    return "all" if fold is None else f"fold-{fold}"


def context():
    """How processes start: with all that takes seconds to import already there, where the system can."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "train", "calibrate"])
    return context


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.smoke:
        smoke(args)
        import live

        # GPU training, run on the CPU and into a separate folder.
        elsewhere = argparse.Namespace(**{**vars(args), "work": args.work / "live", "pretrain": 1, "steps": 1})
        elsewhere.work.mkdir(exist_ok=True)
        live.train(Recipe(elsewhere), "cpu", progress)
    Recipe(args).run()


if __name__ == "__main__":
    main()
