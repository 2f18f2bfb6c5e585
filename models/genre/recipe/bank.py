"""The bank: clips of 9.6 s as they may reach a listener, with the teachers' embeddings.

A clip is a stretch of a recording, or of two at once, played faster or slower and through
an equaliser. The teachers hear it so. The student hears that, and two more versions of it
as a device in a room would (`rooms.heard`), and is to find in each what the teachers found
in the clean one. All is seeded by the clip's name: the same clips come out on every run.
"""

import csv
import os
import subprocess
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

import rooms

RATE = 16_000
LENGTH = 10 * 15_360  # 9.6 s: ten of YAMNet's patches
VERSIONS = 3
UNKNOWN = "unknown"
# Speed and pitch together, as numerator and denominator.
SPEEDS = [(1, 1), (20, 19), (19, 20), (10, 9), (9, 10), (7, 6), (6, 7)]


@dataclass(frozen=True)
class Clip:
    """The ingredients of one clip. `fold` is its tracks' fold, None for other recordings."""

    name: str
    label: str | None
    fold: int | None
    # Recordings played in sequence; two lists are mixed.
    sources: tuple


def seeded(*words):
    return np.random.default_rng(zlib.crc32(" ".join(map(str, words)).encode()))


def read_split(data, split):
    """The labelled excerpts: rows of the split file (file, genre, track, fold)."""
    with open(split or Path(data) / "tracks.csv", newline="") as file:
        return list(csv.DictReader(file))


def choice(rng, things):
    return things[rng.integers(len(things))]


def load(path, start_s=0.0, seconds=None):
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        file.seek(min(int(start_s * rate), max(0, file.frames - 1)))
        samples = file.read(-1 if seconds is None else int(seconds * rate), dtype="float32", always_2d=True)
    samples = samples.mean(1)
    if rate != RATE:
        divisor = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // divisor, rate // divisor).astype(np.float32)
    return samples


def audio_below(folder):
    kinds = {".flac", ".wav", ".ogg", ".mp3"}
    return sorted(p for p in Path(folder).rglob("*") if p.suffix in kinds) if folder else []


def plan_tracks(tracks, data, rounds):
    """Clips of the labelled excerpts: each once per round, and mixed pairs within a fold."""
    clips = []
    for turn in range(rounds):
        groups = {}
        for row in tracks:
            groups.setdefault((row["genre"], int(row["fold"])), []).append(row)
        for (genre, fold), rows in groups.items():
            order = seeded("order", turn, genre, fold).permutation(len(rows))
            # Short excerpts of a genre are played in sequence, three per clip.
            short = [Path(data) / rows[i]["file"] for i in order if ".short" in rows[i]["file"]]
            long = [Path(data) / rows[i]["file"] for i in order if ".short" not in rows[i]["file"]]
            parts = [(path,) for path in long] + [tuple(short[i : i + 3]) for i in range(0, len(short), 3)]
            for number, sources in enumerate(parts):
                clips.append(Clip(f"{genre}.{fold}.{turn}.{number:02}", genre, fold, (sources,)))
        # Two mixed tracks have no label, but teach much. Never across folds.
        for fold in sorted({fold for _, fold in groups}):
            own = [clip for clip in clips if clip.fold == fold and clip.label and f".{turn}." in clip.name]
            rng = seeded("mix", turn, fold)
            for number in range(len(own) // 2):
                a, b = rng.choice(len(own), 2, replace=False)
                sources = (own[a].sources[0], own[b].sources[0])
                clips.append(Clip(f"mixed.{fold}.{turn}.{number:02}", None, fold, sources))
    return clips


def plan_more(music, speech, share=1.0):
    """Clips of recordings outside all folds. `music` has one list per collection; `speech` should be unknown."""
    clips = []

    def every(kind, paths, label, count):
        for number in range(count):
            clips.append(Clip(f"{kind}.{number:05}", label, None, ((paths[number % len(paths)],),)))

    # The same amount of each collection, whatever its size; then mixed pairs, and speech over
    # music.
    music = [paths for paths in music if paths]
    for number, paths in enumerate(music):
        every(f"music{number}", paths, None, int(1000 * share))
    rng = seeded("two at once")
    some = lambda: (choice(rng, choice(rng, music)),)
    if music:
        for number in range(int(1000 * share)):
            clips.append(Clip(f"both.{number:05}", None, None, (some(), some())))
    if music and speech:
        for number in range(int(200 * share)):
            clips.append(Clip(f"over.{number:05}", None, None, (some(), (choice(rng, speech),))))
    if speech:
        every("speech", speech, UNKNOWN, int(400 * share))
    every("noise", ["noise"], UNKNOWN, int(160 * share))
    every("tones", ["tones"], UNKNOWN, int(80 * share))
    return clips


def tones(rng):
    """A few steady or beeping sines: an appliance, a test signal."""
    t = np.arange(LENGTH) / RATE
    samples = np.zeros(LENGTH)
    for _ in range(rng.integers(1, 4)):
        tone = np.sin(2 * np.pi * rng.uniform(80, 6000) * t + rng.uniform(0, 6))
        if rng.random() < 0.5:
            tone *= (t * rng.uniform(0.3, 4)) % 1 < rng.uniform(0.1, 0.9)
        samples += tone * rng.uniform(0.1, 1)
    return samples


def stretched(samples, factor):
    """Slower (above 1) or faster at the same pitch: overlapping windows, each placed where
    it continues the last one best (WSOLA, Verhelst and Roelands 1993)."""
    window, hop, search = 1024, 512, 256
    shape = np.hanning(window)
    out = np.zeros(int(len(samples) * factor) + window)
    weight = np.zeros(len(out))
    source = np.pad(samples, (search, 2 * window + search))
    natural = source[search : search + window]
    for at in range(0, len(out) - window, hop):
        centre = int(at / factor)
        if centre + 2 * search + window + hop > len(source):
            break
        region = source[centre : centre + 2 * search + window]
        best = int(np.correlate(region, natural, "valid").argmax())
        out[at : at + window] += region[best : best + window] * shape
        weight[at : at + window] += shape
        natural = source[centre + best + hop : centre + best + hop + window]
        if len(natural) < window:
            break
    filled = weight > 0.1
    return (out[filled] / weight[filled]).astype(np.float32)


def played(source, rng, parts):
    """A stretch of one recording, at some speed and pitch."""
    if source == "noise":
        return rooms.noise(LENGTH, rng)
    if source == "tones":
        return tones(rng)
    up, down = SPEEDS[rng.integers(len(SPEEDS))]
    factor = rng.choice([1, 1, 0.88, 1.13])
    needed_s = LENGTH / RATE / parts * 1.5
    total_s = soundfile.info(source).duration
    samples = load(source, rng.uniform(0, max(0.0, total_s - needed_s)), needed_s)
    if up != down:
        samples = resample_poly(samples, down, up)
    if factor != 1:
        samples = stretched(samples, factor)
    samples = rooms.equalised(samples, rng, 5)
    return samples / (np.abs(samples).max() + 1e-9)


def clean(clip, rng):
    """The clip as the teachers hear it."""
    total = np.zeros(LENGTH)
    for number, sources in enumerate(clip.sources):
        length = LENGTH // len(sources)
        parts = [np.resize(played(source, rng, len(sources)), length) for source in sources]
        part = np.resize(np.concatenate(parts), LENGTH)
        total += part * (1 if number == 0 else rng.uniform(0.4, 1))
    return (total / (np.abs(total).max() + 1e-9)).astype(np.float32)


def recording(path, stretches):
    """A recording as 16 bits, and again slower or faster at the same pitch."""
    samples = load(path)
    samples = samples / (np.abs(samples).max() + 1e-9)
    versions = [samples, *(stretched(samples, factor) for factor in stretches)]
    return [np.round(np.clip(x, -1, 1) * 32_767).astype(np.int16) for x in versions]


_worker = {}


def _start(make_teachers, rooms_count):
    import torch

    torch.set_num_threads(1)
    if make_teachers:
        from teachers import of_clip

        _worker["words"] = partial(of_clip, make_teachers())
    rng = seeded("rooms")
    _worker["rooms"] = [rooms.image_source(rng) for _ in range(rooms_count)]


def _make(clip, out):
    target = out / "teachers" / f"{clip.name}.npz"
    if target.exists():
        return
    rng = seeded(clip.name)
    samples = clean(clip, rng)
    for version in range(VERSIONS):
        path = out / "audio" / f"{clip.name}.{version}.wav"
        # 24 bits: at -50 dBFS, 16 would leave eight.
        soundfile.write(path, rooms.heard(samples, rng, _worker["rooms"], version), RATE, subtype="PCM_24")
    unfinished = target.with_suffix(".partial.npz")
    np.savez(unfinished, **(_worker["words"](samples) if "words" in _worker else {}))
    unfinished.rename(target)


def build(clips, out, make_teachers, progress, rooms_count=200):
    """Writes OUT/audio/NAME.VERSION.wav and OUT/teachers/NAME.npz for each clip; skips what is there."""
    for folder in ["audio", "teachers"]:
        (out / folder).mkdir(parents=True, exist_ok=True)
    missing = [clip for clip in clips if not (out / "teachers" / f"{clip.name}.npz").exists()]
    if not missing:
        return
    with ProcessPoolExecutor(os.cpu_count(), initializer=_start, initargs=(make_teachers, rooms_count)) as pool:
        for _ in progress(pool.map(_make, missing, [out] * len(missing), chunksize=8), len(missing), "bank"):
            pass


def features(sori, contract, source, out):
    """Int8 rows of every file below a folder, from `sori features`: the device's own code."""
    done = out / "done"
    if not done.exists():
        command = [sori, "features", "--contract", contract, "--out", out, source]
        subprocess.run([str(part) for part in command], check=True)
        done.touch()
