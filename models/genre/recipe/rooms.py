"""Simulates what lies between a loudspeaker and the samples: room, microphone, noise, level.

Everything works on 16 kHz mono and takes its chance from a generator, so that a seed
gives the same room each time.
"""

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

RATE = 16_000
SOUND_M_PER_S = 343.0


def image_source(rng, distance=None):
    """A rectangular room's impulse response by the image-source method (Allen and Berkley,
    1979), low and high frequencies with absorptions of their own, without the travel time.

    `distance` in metres between loudspeaker and microphone; a random one otherwise.
    """
    size = rng.uniform([2.5, 2.5, 2.2], [8.0, 6.0, 3.4])
    reverberation_s = rng.uniform(0.15, 0.7)
    distance = distance or rng.uniform(0.3, 3.5)
    source = rng.uniform(0.15, 0.85, 3) * size
    for _ in range(100):
        direction = rng.standard_normal(3)
        microphone = source + direction * distance / np.linalg.norm(direction)
        if np.all((microphone > 0.2) & (microphone < size - 0.2)):
            break
    else:
        microphone = np.clip(microphone, 0.2, size - 0.2)
    length_s = min(reverberation_s, 0.5)
    reach = length_s * SOUND_M_PER_S
    orders = [np.arange(-int(reach / (2 * s)) - 1, int(reach / (2 * s)) + 2) for s in size]
    axes = []  # along each axis, of every image: its offset and how many walls it met
    for axis in range(3):
        even = 2 * orders[axis] * size[axis] + source[axis] - microphone[axis]
        odd = 2 * orders[axis] * size[axis] - source[axis] - microphone[axis]
        walls = np.concatenate([2 * np.abs(orders[axis]), np.abs(orders[axis]) + np.abs(orders[axis] - 1)])
        axes.append((np.concatenate([even, odd]) ** 2, walls))
    squared = axes[0][0][:, None, None] + axes[1][0][None, :, None] + axes[2][0][None, None, :]
    walls = axes[0][1][:, None, None] + axes[1][1][None, :, None] + axes[2][1][None, None, :]
    near = squared < reach**2
    path, walls = np.sqrt(squared[near]), walls[near]
    # Sabine's absorption for the reverberation time; furniture and air take more of the highs.
    surface = 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    absorbed = min(0.161 * np.prod(size) / (surface * reverberation_s), 0.9)
    direct = np.linalg.norm(source - microphone)
    at = np.round((path - direct) / SOUND_M_PER_S * RATE).astype(int)
    response = 0.0
    for band, absorption in [("lowpass", absorbed), ("highpass", min(1.6 * absorbed, 0.95))]:
        gains = np.sqrt(1 - absorption) ** walls / np.maximum(path, 0.1)
        part = np.bincount(at, gains, minlength=int(length_s * RATE) + 1)
        response = response + sosfilt(butter(1, 1500, band, fs=RATE, output="sos"), part)
    return (response / np.sqrt((response**2).sum())).astype(np.float32)


def microphone(samples, rng):
    """A MEMS microphone's lower corner, and that of a small loudspeaker before it."""
    if rng.random() < 0.7:
        samples = sosfilt(butter(2, rng.uniform(60, 250), "highpass", fs=RATE, output="sos"), samples)
    return sosfilt(butter(1, 60, "highpass", fs=RATE, output="sos"), samples)


def noise(length, rng):
    """Stationary noise, white to brown, occasionally with mains hum; rms 1."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hz = np.fft.rfftfreq(length, 1 / RATE)
    samples = np.fft.irfft(spectrum / np.maximum(hz, 30) ** rng.uniform(0, 1), length)
    samples /= np.sqrt((samples**2).mean()) + 1e-12
    if rng.random() < 0.3:
        base = rng.choice([50, 60])
        t = np.arange(length) / RATE
        hum = sum(np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) / k for k in range(1, 6))
        samples = samples + hum * rng.uniform(0.2, 1)
    return samples / (np.sqrt((samples**2).mean()) + 1e-12)


def with_noise(samples, snr_db, rng):
    rms = np.sqrt((samples**2).mean())
    return samples + noise(len(samples), rng) * rms * 10 ** (-snr_db / 20)


def equalised(samples, rng, most_db):
    """A smooth random curve over eight octaves."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 30) / 30)
    gain_db = np.interp(octaves, np.linspace(0, 8, 6), rng.uniform(-most_db, most_db, 6))
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(samples))


def heard(samples, rng, rooms, way):
    """What a device might record of this, from a file played into it (way 0) over a good
    loudspeaker (1) to a loud night in a tiled kitchen (2); peak between 0 and -50 dBFS."""
    if way > 0:
        samples = equalised(samples, rng, 6)
    if way > 1:
        samples = fftconvolve(samples, rooms[rng.integers(len(rooms))])[: len(samples)]
    if way > 0:
        samples = microphone(samples, rng)
        samples = with_noise(samples, rng.uniform(5, 30) if way > 1 else rng.uniform(20, 50), rng)
    samples = samples / (np.abs(samples).max() + 1e-9)
    if rng.random() < 0.1:
        samples = np.clip(samples * rng.uniform(1, 4), -1, 1)
    return (samples * 10 ** (-rng.uniform(0, 50) / 20)).astype(np.float32)
