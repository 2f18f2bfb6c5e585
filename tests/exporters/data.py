"""Windows of ten made-up classes, cheap to draw and not trivial to tell apart."""

import numpy as np

CLASSES = 10
CALIBRATION, EVALUATION = 64, 256


def audio(rng, count, rows=96, width=64, classes=CLASSES):
    """Spectrograms: a class is a spacing of harmonics and how fast they pulse.

    Level, noise, first harmonic, glide and onset are random, so that no single bin gives
    the class away.
    """
    labels = rng.integers(classes, size=count)
    spacing = np.array([5.0, 7.0, 10.0, 14.0, 20.0])[labels // 2]
    pulses = np.where(labels % 2 == 0, 3.0, 8.0) * rng.uniform(0.85, 1.15, count)
    first, onset = rng.uniform(0, 20, count), rng.uniform(0, 1, count)
    glide = rng.normal(0, 0.04, count)
    time, bin = np.arange(rows)[:, None], np.arange(width)[None, :]
    windows = np.empty((count, rows, width, 1), np.float32)
    for n in range(count):
        distance = (bin - first[n] - glide[n] * time) % spacing[n]
        distance = np.minimum(distance, spacing[n] - distance)
        envelope = 0.6 + 0.4 * np.sin(2 * np.pi * (pulses[n] * time / rows + onset[n]))
        partials = np.exp(-distance**2 / 2) * envelope * np.exp(-bin / width)
        noise = rng.uniform(0.1, 0.55) * rng.standard_normal((rows, width)) - bin / width / 2
        level = rng.uniform(0.7, 1.4)
        windows[n, :, :, 0] = level * (1.6 * partials + noise) - 0.3
    return windows, labels


def image(rng, count, rows=64, width=64, classes=CLASSES):
    """Gratings inside a random disc, in -1..1: a class is an angle and one of two wavelengths.

    Colours, contrast, noise, place and phase are random.
    """
    labels = rng.integers(classes, size=count)
    angle = np.pi * (labels // 2) / 5 + rng.normal(0, 0.06, count)
    wavelength = np.where(labels % 2 == 0, 6.0, 11.0) * rng.uniform(0.9, 1.1, count)
    y, x = np.mgrid[:rows, :width]
    windows = np.empty((count, rows, width, 3), np.float32)
    for n in range(count):
        phase = rng.uniform(0, 2 * np.pi)
        along = x * np.cos(angle[n]) + y * np.sin(angle[n])
        grating = np.sin(2 * np.pi * along / wavelength[n] + phase)
        centre = rng.uniform(0.35, 0.65, 2) * (rows, width)
        radius = rng.uniform(0.3, 0.5) * rows
        disc = np.hypot(y - centre[0], x - centre[1]) < radius
        ground, colour = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.3, 0.6, 3)
        noise = rng.uniform(0.1, 0.5) * rng.standard_normal((rows, width, 3))
        windows[n] = ground + (grating * disc)[..., None] * colour + noise
    return windows.clip(-1, 1), labels


def pixels(rng, count, **size):
    """The same images as cameras give them, 0 to 255."""
    windows, labels = image(rng, count, **size)
    return np.round(127.5 * (windows + 1)), labels


KINDS = {"audio": audio, "image": image, "pixels": pixels}


def write(folder, kind, seed):
    """Calibration and evaluation windows of a row, one .npy each."""
    for name, count, offset in [("calib", CALIBRATION, 1), ("eval", EVALUATION, 2)]:
        windows, labels = KINDS[kind](np.random.default_rng([seed, offset]), count)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for n, window in enumerate(windows):
            np.save(folder / name / f"{n:03}.npy", window)
        if name == "eval":
            np.save(folder / "labels.npy", labels)


def read(folder):
    return np.stack([np.load(path) for path in sorted(folder.glob("*.npy"))])
