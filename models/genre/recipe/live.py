"""Training on a GPU: every batch is newly generated audio, and nothing is heard twice.

The bank (`bank.py`) is what a processor can make in a while. A GPU makes the same kinds of
clips, of the same recordings, faster than it learns from them: stretches of recordings at some
speed through some equaliser, two at once now and then; what both teachers make of them; and
what a device in a room makes of them, down to the feature rows. The folds' networks learn side
by side from the same batches, each without the clips of its own fold.

All chance comes from the number of the step, as in `train.py`.
"""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np
import torch

import bank
import musicnn
import rooms
import yamnet
from bank import LENGTH, RATE, SPEEDS
from train import FEATURE_SCALE, ROOT, TEACHERS, Target, Trainer, shares

PARTS = 3  # short recordings that are played one after the other
# Spans of a clip that a teacher hears whole.
KNOWN = {"yamnet": LENGTH // yamnet.PATCH, "musicnn": LENGTH // musicnn.WINDOW}
TAPS, PHASES = 8, 512
TRANSFORM = 163_840  # a clip and half a second of room, and few prime factors


@dataclass(frozen=True)
class Sizes:
    """The composition of a batch, in clips, and the amount of other data generated with it."""

    # Of each fold's tracks, and two of them at once.
    track: int = 6
    tracks: int = 3
    # Of all else: one piece of music, two at once, speech over music, and what is unknown.
    pretraining: dict = field(default_factory=lambda: dict(one=37, two=12, over=3, speech=8, noise=3, tones=1))
    beside: dict = field(default_factory=lambda: dict(one=10, two=4, over=1, speech=3, noise=1, tones=1))
    # Batches that the teachers' components are found from.
    target: int = 24
    rooms: int = 256


SMOKE = Sizes(1, 1, dict(one=2, two=1, over=1, speech=1, noise=1, tones=1),
              dict(one=1, two=1, over=1, speech=1, noise=1, tones=1), target=1, rooms=2)


class Pool:
    """Every recording in the GPU's memory."""

    def __init__(self, paths, stretches, device):
        """`stretches` of each path; a slower or faster version is a recording of its own."""
        self.offsets, self.lengths, self.versions = [], [], []
        parts, at = [], 0
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for versions in pool.map(bank.recording, paths, stretches, chunksize=4):
                first = len(self.offsets)
                for samples in versions:
                    self.offsets.append(at)
                    self.lengths.append(len(samples))
                    # It goes on with its beginning, as far as an interpolation reaches.
                    parts.append(np.concatenate([samples, np.resize(samples, TAPS)]))
                    at += len(parts[-1])
                self.versions.append(range(first, len(self.offsets)))
        self.offsets, self.lengths = np.array(self.offsets), np.array(self.lengths)
        self.samples = torch.from_numpy(np.concatenate(parts)).to(device)


@dataclass
class Voices:
    """The recordings played: by voice and part, version, first sample and speed."""

    version: np.ndarray
    start: np.ndarray
    speed: np.ndarray


class Sources:
    """The sources of a batch: recordings by fold, collection and kind."""

    def __init__(self, recipe, device):
        data = recipe.args.data
        tracks = [(data / row["file"], row) for row in recipe.tracks]
        paths = [path for path, _ in tracks] + [p for collection in recipe.music for p in collection] + recipe.speech
        # Each labelled one both slower and faster; of the others, every fourth one either.
        either = [(0.88, 1.13)] * len(tracks)
        either += [[(0.88,), (), (1.13,), ()][i % 4] for i in range(len(paths) - len(tracks))]
        self.pool = Pool(paths, either, device)
        number = {path: i for i, path in enumerate(paths)}
        self.music = [[number[p] for p in collection] for collection in recipe.music]
        self.speech = [number[p] for p in recipe.speech]
        self.long, self.short = {}, {}
        for path, row in tracks:
            fold, short = int(row["fold"]), ".short" in row["file"]
            if short:
                self.short.setdefault(fold, {}).setdefault(row["genre"], []).append(number[path])
            else:
                self.long.setdefault(fold, []).append(number[path])

    def track(self, rng, fold):
        """Numbers of a long excerpt, or of three short ones of a genre."""
        long, short = self.long.get(fold, []), self.short.get(fold, {})
        counts = np.array([len(long), *(len(of) / PARTS for of in short.values())])
        which = rng.choice(len(counts), p=counts / counts.sum())
        if which == 0:
            return [bank.choice(rng, long)]
        of = list(short.values())[which - 1]
        return list(rng.permutation(of)[:PARTS]) if len(of) >= PARTS else [bank.choice(rng, of) for _ in range(PARTS)]

    def some(self, rng):
        return [bank.choice(rng, bank.choice(rng, self.music))]

    def voices(self, rng, all_recordings):
        version = np.zeros((len(all_recordings), PARTS), int)
        start = np.zeros_like(version)
        speed = np.ones(len(all_recordings))
        for voice, numbers in enumerate(all_recordings):
            up, down = SPEEDS[rng.integers(len(SPEEDS))]
            speed[voice] = up / down
            one = len(numbers) == 1
            for part, number in enumerate(numbers):
                versions = self.pool.versions[number]
                # As it is in half of the cases.
                changed = len(versions) > 1 and rng.random() < 0.5
                chosen = versions[rng.integers(1, len(versions)) if changed else 0]
                needed = LENGTH / len(numbers) * 1.5
                first = int(rng.uniform(0, max(0.0, self.pool.lengths[chosen] - needed)))
                for p in range(PARTS) if one else [part]:
                    version[voice, p] = chosen
                    start[voice, p] = first + (p * (LENGTH // PARTS) * speed[voice] if one else 0)
        return Voices(version, start, speed)


class Studio:
    """Plays, records and listens: a batch's clips, features and embeddings, on the GPU."""

    def __init__(self, recipe, sources, teachers, sizes, device):
        self.sources, self.teachers, self.sizes, self.device = sources, teachers, sizes, device
        self.folds = recipe.folds
        phases = np.arange(PHASES)[:, None] / PHASES
        t = np.arange(TAPS)[None] - (TAPS // 2 - 1) - phases
        taps = np.sinc(t) * np.sinc(t / (TAPS // 2)) * (np.abs(t) < TAPS // 2)
        self.taps = self.tensor(taps / taps.sum(1, keepdims=True))
        self.offsets = torch.from_numpy(sources.pool.offsets).to(device)
        self.lengths = torch.from_numpy(sources.pool.lengths).to(device)
        self.curves = {length: self.tensor(self.octaves(length)) for length in [LENGTH, TRANSFORM]}
        self.hz = {length: self.tensor(np.fft.rfftfreq(length, 1 / RATE)) for length in [LENGTH, TRANSFORM]}
        rng = bank.seeded("rooms")
        responses = [rooms.image_source(rng) for _ in range(sizes.rooms)]
        reach = TRANSFORM - LENGTH
        padded = np.stack([np.pad(r[:reach], (0, reach - len(r[:reach]))) for r in responses])
        self.rooms = torch.fft.rfft(self.tensor(padded), TRANSFORM)
        self.mel = LogMel(recipe.mel(), device)

    def tensor(self, values):
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=self.device)

    @staticmethod
    def octaves(length):
        """[6, bins]: what each of six points of a curve over eight octaves says of every bin."""
        octaves = np.log2(np.maximum(np.fft.rfftfreq(length, 1 / RATE), 30) / 30)
        points = np.linspace(0, 8, 6)
        return np.stack([np.interp(octaves, points, row) for row in np.eye(6)])

    def equaliser(self, rng, count, most_db, length):
        gains_db = self.tensor(rng.uniform(-most_db, most_db, (count, 6)))
        return 10 ** (gains_db @ self.curves[length] / 20)

    def played(self, rng, voices):
        """[voices, LENGTH], each peak 1."""
        pool, count = self.sources.pool, len(voices.speed)
        version = torch.from_numpy(voices.version).to(self.device)
        length = LENGTH // PARTS
        local = torch.arange(length, device=self.device)[None] * self.tensor(voices.speed)[:, None]
        whole = local.floor()
        phase = ((local - whole) * PHASES).round().int()
        at = torch.from_numpy(voices.start).to(self.device)[:, :, None] + whole.long()[:, None]
        at = at % self.lengths[version][:, :, None] + self.offsets[version][:, :, None]
        # The last phase is the next sample's first.
        carry = phase == PHASES
        at += carry[:, None]
        phase = phase.masked_fill(carry, 0)
        samples = 0
        for tap in range(TAPS):
            samples = samples + pool.samples[at + tap].float() * self.taps[:, tap][phase][:, None]
        samples = samples.view(count, LENGTH)
        spectrum = torch.fft.rfft(samples) * self.equaliser(rng, count, 5, LENGTH)
        samples = torch.fft.irfft(spectrum, LENGTH).view(count, PARTS, length)
        peaks = samples.abs().amax(2, keepdim=True)
        one = torch.from_numpy((voices.version == voices.version[:, :1]).all(1)).to(self.device)
        peaks = torch.where(one[:, None, None], peaks.amax(1, keepdim=True), peaks)
        return (samples / (peaks + 1e-3)).view(count, LENGTH)

    def noise(self, rng, count, generator):
        """Stationary noise, white to brown, with now and then a hum of the mains: rms 1."""
        bins = LENGTH // 2 + 1
        real, imaginary = torch.randn((2, count, bins), generator=generator, device=self.device)
        slope = self.tensor(rng.uniform(0, 1, count))[:, None]
        spectrum = torch.complex(real, imaginary) / self.hz[LENGTH].clamp(min=30) ** slope
        samples = rms_one(torch.fft.irfft(spectrum, LENGTH))
        t = torch.arange(LENGTH, device=self.device) / RATE
        base = self.tensor(rng.choice([50, 60], count))[:, None]
        strength = self.tensor(rng.uniform(0.2, 1, count) * (rng.random(count) < 0.3))[:, None]
        for k in range(1, 6):
            phase = self.tensor(rng.uniform(0, 6, count))[:, None]
            samples = samples + strength / k * torch.sin(2 * np.pi * k * base * t + phase)
        return rms_one(samples)

    def tones(self, rng, count):
        """A few steady or beeping sines: an appliance, a test signal (`bank.tones`)."""
        t = torch.arange(LENGTH, device=self.device) / RATE
        samples = 0
        for sine in range(3):
            hz, phase, beep_hz, open_for, strength = (
                self.tensor(rng.uniform(low, high, count))[:, None]
                for low, high in [(80, 6000), (0, 6), (0.3, 4), (0.1, 0.9), (0.1, 1)])
            there, beeps = (self.tensor(rng.random(count) < p)[:, None] for p in [1 if sine == 0 else 0.5, 0.5])
            gate = torch.where(beeps > 0, ((t * beep_hz) % 1 < open_for).float(), 1.0)
            samples = samples + there * strength * gate * torch.sin(2 * np.pi * hz * t + phase)
        return samples

    def clips(self, rng, of_tracks, generator):
        """[clips, LENGTH] as the teachers hear them: of each fold's tracks, then of all else."""
        sources = self.sources
        others = self.sizes.beside if of_tracks else self.sizes.pretraining
        first, second = [], []  # recordings of each clip; and (clip, recordings) of what is mixed in

        def add(recordings, mixed=None):
            if mixed is not None:
                second.append((len(first), mixed))
            first.append(recordings)

        for fold in self.folds if of_tracks else []:
            for _ in range(self.sizes.track):
                add(sources.track(rng, fold))
            for _ in range(self.sizes.tracks):
                add(sources.track(rng, fold), sources.track(rng, fold))
        for _ in range(others["one"]):
            add(sources.some(rng))
        for _ in range(others["two"]):
            add(sources.some(rng), sources.some(rng))
        for _ in range(others["over"]):
            add(sources.some(rng), [bank.choice(rng, sources.speech)])
        for _ in range(others["speech"]):
            add([bank.choice(rng, sources.speech)])
        played = self.played(rng, sources.voices(rng, first + [mixed for _, mixed in second]))
        clips, mixed = played[: len(first)].clone(), played[len(first) :]
        where = torch.tensor([at for at, _ in second], device=self.device)
        clips[where] += mixed * self.tensor(rng.uniform(0.4, 1, len(second)))[:, None]
        clips = torch.cat([clips, self.noise(rng, others["noise"], generator), self.tones(rng, others["tones"])])
        return clips / clips.abs().amax(1, keepdim=True).clamp(min=1e-6)

    def high_pass(self, rng, count):
        """A microphone's lower corner, and that of a small loudspeaker before it (`rooms.microphone`)."""
        warped = torch.tan(np.pi * self.hz[TRANSFORM] / RATE)

        def s(hz):
            # At half the rate the tangent is infinite, and a high-pass 1.
            return 1j * (warped / torch.tan(np.pi * hz / RATE)).clamp(max=1e6)

        first = s(torch.full((1, 1), 60.0, device=self.device))
        response = first / (1 + first)
        corner = self.tensor(rng.uniform(60, 250, count))[:, None]
        second = s(corner) ** 2
        second = second / (second + 2**0.5 * s(corner) + 1)
        has = torch.from_numpy(rng.random(count) < 0.7).to(self.device)[:, None]
        return response * torch.where(has, second, torch.ones_like(second))

    def heard(self, rng, clips, roomy, generator):
        """What a device might record of each; cf. `rooms.heard`. The level does not matter: the
        front end takes it away."""
        count = len(clips)
        far = rng.random(count) < roomy
        room = far & (rng.random(count) < 0.5)
        far_here, room_here = (torch.from_numpy(x).to(self.device)[:, None] for x in [far, room])
        one = torch.ones((), device=self.device)
        response = torch.where(far_here, self.equaliser(rng, count, 6, TRANSFORM) * self.high_pass(rng, count), one)
        chosen = self.rooms[torch.from_numpy(rng.integers(0, len(self.rooms), count)).to(self.device)]
        response = response * torch.where(room_here, chosen, one)
        samples = torch.fft.irfft(torch.fft.rfft(clips, TRANSFORM) * response, TRANSFORM)[:, :LENGTH]
        snr_db = np.where(room, rng.uniform(5, 30, count), rng.uniform(20, 50, count))
        strength = self.tensor(np.where(far, 10 ** (-snr_db / 20), 0))[:, None]
        rms = samples.square().mean(1, keepdim=True).sqrt()
        samples = samples + strength * rms * self.noise(rng, count, generator)
        samples = samples / (samples.abs().amax(1, keepdim=True) + 1e-9)
        loud = np.where(rng.random(count) < 0.1, rng.uniform(1, 4, count), 1)
        return (samples * self.tensor(loud)[:, None]).clamp(-1, 1)

    @torch.no_grad()
    def batch(self, step, seed, of_tracks, roomy):
        """Features [clips, 1, rows, bands] and teachers' words of a step."""
        rng = np.random.default_rng([seed, step, of_tracks])
        generator = torch.Generator(self.device).manual_seed(2 * step + of_tracks + (seed << 32))
        clips = self.clips(rng, of_tracks, generator)
        # Neither has a level normalisation of its own.
        words = self.teachers(0.5 * clips)
        features = self.mel(self.heard(rng, clips, roomy, generator))
        # SpecAugment: some bands are lost, and now and then a moment.
        for clip in range(len(clips)):
            band = rng.integers(0, features.shape[2])
            features[clip, :, band : band + rng.integers(0, features.shape[2] // 8 + 1)] = -128
            if rng.random() < 0.5:
                at = rng.integers(0, features.shape[1])
                features[clip, at : at + rng.integers(0, 16)] = -128
        return features[:, None] * FEATURE_SCALE, words


def rms_one(samples):
    return samples / (samples.square().mean(1, keepdim=True).sqrt() + 1e-12)


class LogMel:
    """sori-dsp's front end in single precision: at most a step of the feature off, now and then."""

    def __init__(self, mel, device):
        fft, window, bands = mel["fft"], mel["window_samples"], mel["bands"]
        self.hop = mel["hop_samples"]
        self.window = torch.hann_window(window, device=device)

        def to_mel(hz):
            return 2595 * np.log10(1 + hz / 700)

        edges = np.linspace(to_mel(mel["low_hz"]), to_mel(mel["high_hz"]), bands + 2)
        edges = 700 * (10 ** (edges / 2595) - 1) * fft / mel["sample_rate_hz"]
        bins = np.arange(fft // 2 + 1)
        left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        filters = np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)))
        for band in np.flatnonzero(filters.max(1) <= 1e-3):
            filters[band, round(edges[band + 1])] = 1
        self.filters = torch.from_numpy(filters).float().to(device)
        self.sine = float((self.window.sum() / 2) ** 2)
        self.per_log2 = 255 * 10 * np.log10(2) / mel["range_db"]
        self.release = mel["release_db_per_s"] * self.hop / mel["sample_rate_hz"] / (10 * np.log10(2))
        self.floor = mel["reference_floor_db"] / (10 * np.log10(2))

    def __call__(self, samples):
        """[clips, rows, bands] of [clips, samples], whole numbers from -128 to 127."""
        frames = samples.unfold(-1, len(self.window), self.hop) * self.window
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()
        logs = torch.log2((power @ self.filters.T / self.sine).clamp(min=1e-30))
        # The reference falls by the release a row, and each row may raise it.
        fall = self.release * torch.arange(logs.shape[1], device=logs.device)
        reference = (logs.amax(2) + fall).cummax(1).values - fall
        steps = (logs - reference.clamp(min=self.floor)[:, :, None]) * self.per_log2
        return (127 + (steps + 0.5).floor()).clamp(-128, 127)


class Lesson:
    """How whole clips are regressed: their spans, and the outputs that each is the mean of."""

    def __init__(self, setup, target, rows, device):
        self.outputs = rows // setup.rows_per_output
        self.rows = self.outputs * setup.rows_per_output
        found = {name: shares(setup, name, 0, self.outputs, KNOWN[name]) for name in TEACHERS}
        self.spans = {name: spans for name, (spans, _) in found.items()}
        self.shares = {name: torch.from_numpy(weights).to(device) for name, (_, weights) in found.items()}
        self.bases = {name: [torch.from_numpy(part).float().to(device) for part in basis]
                      for name, basis in target.bases.items()}
        self.weights = {}

    def of(self, count):
        """The weights of so many clips, {teacher: [clips · spans, clips · outputs]}."""
        if count not in self.weights:
            self.weights[count] = {name: torch.block_diag(*[of] * count) for name, of in self.shares.items()}
        return self.weights[count]

    def components(self, words):
        """What is regressed, {teacher: [clips, spans, DIMS]}."""
        return {name: (ROOT[name](words[name][:, spans].float()) - self.bases[name][0]) @ self.bases[name][1]
                for name, spans in self.spans.items()}


class GraphTrainer(Trainer):
    """A step of a small network is a thousand small kernels: recorded once, they are played at
    once. Inputs keep their shapes."""

    EAGER = 3  # steps before the recording: what is made once, is made in them

    def __init__(self, *arguments, pool):
        super().__init__(*arguments)
        self.pool, self.graph, self.done = pool, None, 0

    def update(self, x, weights, words, average):
        if self.done < self.EAGER:
            self.done += 1
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                result = super().update(x, weights, words, average)
            torch.cuda.current_stream().wait_stream(stream)
            return result
        if self.graph is None:
            self.x, self.words = x.clone(), {name: w.clone() for name, w in words.items()}
            self.student.zero_grad()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=self.pool, capture_error_mode="thread_local"):
                self.result = super().update(self.x, weights, self.words, average)
        self.x.copy_(x)
        for name, w in words.items():
            self.words[name].copy_(w)
        self.graph.replay()
        return self.result.clone()


class Ahead:
    """Generates the next batch, in its own thread and stream, while the current one is trained on."""

    ALONE = 8  # first steps: nothing else runs while graphs are recorded

    def __init__(self, make, steps):
        self.make, self.steps = make, steps
        self.stream = torch.cuda.Stream()

    def made(self, step):
        with torch.cuda.stream(self.stream):
            x, words = self.make(step)
            return x, words, self.stream.record_event()

    def __iter__(self):
        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(self.made, 0)
            for step in range(self.steps):
                x, words, event = following.result()
                if step + 1 < self.steps:
                    following = thread.submit(self.made, step + 1)
                    if step < self.ALONE:
                        following.result()
                here = torch.cuda.current_stream()
                here.wait_event(event)
                for tensor in [x, *words.values()]:
                    tensor.record_stream(here)
                yield step, x, words


class Live:
    """The recipe's training, on a device."""

    def __init__(self, recipe, device, progress):
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True
        # The same sums in the same order, whatever else runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.recipe, self.device, self.progress = recipe, device, progress
        self.sizes = SMOKE if recipe.args.smoke else Sizes()
        self.studio = Studio(recipe, Sources(recipe, device), recipe.teachers(device), self.sizes, device)
        # The components of what the teachers say of clips without a label.
        steps = [1_000_000 + number for number in range(self.sizes.target)]
        heard = [self.studio.batch(step, recipe.args.seed, False, 0.0) for step in steps]
        self.target = Target({name: np.concatenate([w[name].float().cpu().numpy() for _, w in heard])
                              for name in TEACHERS})
        self.lesson = Lesson(recipe.setup(), self.target, heard[0][0].shape[2], device)
        self.on_gpu = device == "cuda"

    def trainer(self, stage, start=None):
        of = (self.recipe.setup(), stage, len(self.recipe.labels), self.target, start, self.device)
        return GraphTrainer(*of, pool=self.pool) if self.on_gpu else Trainer(*of)

    def batches(self, stage, of_tracks, what):
        """(step, features, what is regressed) of every step."""
        def make(step):
            x, words = self.studio.batch(step, self.recipe.args.seed, of_tracks, stage.roomy(step))
            return x[:, :, : self.lesson.rows], self.lesson.components(words)

        every = Ahead(make, stage.steps) if self.on_gpu else ((step, *make(step)) for step in range(stage.steps))
        return self.progress(every, stage.steps, what)

    def learn(self, trainer, step, x, words):
        flat = {name: w.flatten(0, 1) for name, w in words.items()}
        trainer.step(step, x, self.lesson.of(len(x)), flat)

    def tell(self, step, stage, trainers):
        if (step + 1) % 500 == 0 or step + 1 == stage.steps:
            for name, trainer in trainers.items():
                self.recipe.say(name)(step + 1, stage.steps, trainer.said())

    def pretrain(self, stage, path):
        self.pool = torch.cuda.graph_pool_handle() if self.on_gpu else None
        trainer = self.trainer(stage)
        for step, x, words in self.batches(stage, False, "pretraining"):
            self.learn(trainer, step, x, words)
            self.tell(step, stage, {"pretraining": trainer})
        trainer.save(path, stage.steps)

    def networks(self, stage, start, paths):
        """One per fold and one of everything; `paths` by fold, None being the last."""
        folds = self.recipe.folds
        self.pool = torch.cuda.graph_pool_handle() if self.on_gpu else None
        trainers = {fold: self.trainer(stage, start) for fold in paths}
        names = {path.parent.name: trainers[fold] for fold, path in paths.items()}
        # The clips of a fold lie together.
        each = self.sizes.track + self.sizes.tracks
        own = {fold: range(at * each, (at + 1) * each) for at, fold in enumerate(folds)}
        heard = {}
        for step, x, words in self.batches(stage, True, "networks"):
            heard = heard or {
                fold: torch.tensor([clip for clip in range(len(x)) if clip not in own.get(fold, [])], device=self.device)
                for fold in paths}
            for fold, trainer in trainers.items():
                self.learn(trainer, step, x[heard[fold]], {name: w[heard[fold]] for name, w in words.items()})
            self.tell(step, stage, names)
        for fold, path in paths.items():
            trainers[fold].save(path, stage.steps)


def train(recipe, device, progress):
    """Writes pretrained.pt, then state.pt of every network."""
    args, live = recipe.args, Live(recipe, device, progress)
    pretrained = args.work / "pretrained.pt"
    if not pretrained.exists():
        live.pretrain(recipe.stage(args.pretrain, args.rate), pretrained)
    start = torch.load(pretrained, weights_only=False)["student"]
    stage = recipe.stage(args.steps, 0.4 * args.rate, rooms=(0.5, 0.5))
    live.networks(stage, start, {fold: recipe.state(fold) for fold in [*recipe.folds, None]})
