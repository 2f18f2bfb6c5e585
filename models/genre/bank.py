"""The bank: audio as a listener may hear it, made from the training tracks.

Each clip is a stretch of a track (or a mix of two), played faster or slower, through
some room, equaliser and noise. Everything is seeded by the clip's name.
"""

import csv
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import fftconvolve, resample_poly

RATE = 16_000
SECONDS = 9.6  # ten of the teacher's patches

GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
# Speed and pitch together, as numerator and denominator.
SPEEDS = [(1, 1), (1, 1), (20, 19), (19, 20), (10, 9), (9, 10), (7, 6), (6, 7)]


def tracks(data):
    """Rows of tracks.csv: file, genre, track, fold."""
    with open(Path(data) / "gtzan" / "tracks.csv", newline="") as file:
        return list(csv.DictReader(file))


def load(path):
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples.mean(1)
    if rate != RATE:
        divisor = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // divisor, rate // divisor).astype(np.float32)
    return samples


def stretch_of(samples, rng):
    """At most SECONDS, from anywhere."""
    length = int(SECONDS * RATE)
    start = rng.integers(0, max(1, len(samples) - length))
    return samples[start : start + length]


def equalised(samples, rng):
    """A smooth random curve of up to 9 dB, and sometimes no highs."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 30) / 30)
    gain_db = np.interp(octaves, np.linspace(0, 8, 6), rng.uniform(-9, 9, 6))
    if rng.random() < 0.2:
        cutoff = np.log2(rng.uniform(3_000, 7_000) / 30)
        gain_db -= 60 * np.clip(octaves - cutoff, 0, 1)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(samples)).astype(np.float32)


def in_a_room(samples, rng):
    seconds = rng.uniform(0.05, 0.5)
    t = np.arange(int(seconds * RATE)) / RATE
    response = rng.standard_normal(len(t)) * np.exp(-6.9 * t / seconds)
    response *= rng.uniform(0.05, 0.5) / np.sqrt((response**2).sum())
    response[0] = 1
    return fftconvolve(samples, response.astype(np.float32))[: len(samples)]


def with_noise(samples, rng):
    noise = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(len(samples)))
        / np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 20) ** rng.uniform(0, 0.7),
        len(samples),
    )
    level = np.sqrt((samples**2).mean() / (noise**2).mean() + 1e-12)
    return samples + noise * level * 10 ** (-rng.uniform(12, 45) / 20)


def augmented(samples, rng):
    up, down = SPEEDS[rng.integers(len(SPEEDS))]
    if up != down:
        samples = resample_poly(samples, down, up)
    samples = stretch_of(samples, rng)
    if rng.random() < 0.8:
        samples = equalised(samples, rng)
    if rng.random() < 0.4:
        samples = in_a_room(samples, rng)
    if rng.random() < 0.5:
        samples = with_noise(samples, rng)
    peak = np.abs(samples).max() + 1e-9
    return samples / peak * 10 ** (-rng.uniform(1, 30) / 20)


def seeded(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def build(data, fold, out, variants):
    """Writes the bank as WAV: out/GENRE/NAME.wav, out/unlabelled/NAME.wav; skips what is there."""
    train = [row for row in tracks(data) if int(row["fold"]) != fold]
    audio = {row["file"]: load(Path(data) / "gtzan" / row["file"]) for row in train}
    extra = sorted((Path(data) / "homburg").rglob("*.flac"))
    jobs = []
    for variant in range(variants):
        for row in train:
            # A short excerpt says less: fewer variants of it.
            if "short" in row["file"] and variant % 3:
                continue
            name = f"{Path(row['file']).stem}.{variant:02}"
            jobs.append((f"{row['genre']}/{name}", [audio[row["file"]]]))
            other = train[seeded("mix " + name).integers(len(train))]
            if variant % 2 == 0:
                jobs.append((f"unlabelled/{name}.mix", [audio[row["file"]], audio[other["file"]]]))
        if variant % 3 == 0:
            jobs += [(f"unlabelled/{path.stem}.{variant:02}", [path]) for path in extra]
    for name, parts in jobs:
        target = Path(out) / f"{name}.wav"
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        rng = seeded(name)
        parts = [augmented(load(p) if isinstance(p, Path) else p, rng) for p in parts]
        length = min(len(part) for part in parts)
        mixed = sum(part[:length] / (np.abs(part).max() + 1e-9) * rng.uniform(0.4, 1) for part in parts)
        mixed = mixed / (np.abs(mixed).max() + 1e-9) * 10 ** (-rng.uniform(1, 30) / 20)
        soundfile.write(target, mixed, RATE, subtype="PCM_16")
    return len(jobs)
