#!/usr/bin/env python3
"""Sets `sori classify` beside what one writes in Python: librosa's or NumPy's features, and ONNX Runtime.

    python3 -m venv peers && peers/bin/pip install -r requirements.txt
    cargo build --release
    peers/bin/python classify.py FOLDER [--threads N] [--rounds N]

All run over the same files in one process each, one after the other, and again: what is printed is the best
of the rounds, in seconds of sound per second, with Sori's ratio to each. Names are not compared: the scripts
normalize features otherwise than the network was trained on, which takes them no time.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SUFFIXES = {".wav", ".flac", ".mp3", ".ogg"}
RATE, FFT, HOP, BANDS, LOW, HIGH = 16_000, 1024, 256, 64, 60.0, 7600.0


def librosa_features(path):
    import librosa

    samples, _ = librosa.load(path, sr=RATE)
    mel = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=FFT, hop_length=HOP, n_mels=BANDS, fmin=LOW, fmax=HIGH, htk=True, center=False
    )
    return librosa.power_to_db(mel).T


def mel_filters():
    import numpy as np

    def hz(mel):
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)

    def mel(hz):
        return 2595.0 * np.log10(1.0 + hz / 700.0)

    edges = hz(np.linspace(mel(LOW), mel(HIGH), BANDS + 2))
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


def numpy_features(path, state={}):
    import numpy as np
    import soundfile
    from scipy.signal import resample_poly

    if not state:
        state["mel"], state["window"] = mel_filters(), np.hanning(FFT).astype(np.float32)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples.mean(1)
    if rate != RATE:
        divisor = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // divisor, rate // divisor)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP]
    spectrum = np.fft.rfft(frames * state["window"]).astype(np.complex64)
    power = spectrum.real**2 + spectrum.imag**2
    return 10.0 * np.log10(power @ state["mel"] + 1e-10)


def peer(features, threads, files):
    """In a process of its own: seconds that its work took, after everything is loaded."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        ROOT / "models/genre/genre.onnx", options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    features = {"librosa": librosa_features, "numpy": numpy_features}[features]

    def classify(path):
        rows = np.clip(features(path) / 40.0, -2.0, 2.0).astype(np.float32)
        return session.run(None, {name: rows[None, None]})[0].mean(0).argmax()

    # Lazy imports and tables are not counted.
    classify(files[0])
    began = time.perf_counter()
    if threads == 1:
        for path in files:
            classify(path)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(classify, files))
    print(time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sori", type=Path, default=ROOT / "target/release/sori")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    files = sorted(str(path) for path in args.folder.rglob("*") if path.suffix in SUFFIXES)
    if not files:
        sys.exit(f"{args.folder} has no audio files")
    if args.peer:
        return peer(args.peer, args.threads, files)

    import soundfile

    infos = [soundfile.info(path) for path in files]
    sound = sum(info.duration for info in infos)
    kinds = sorted({f"{info.samplerate} Hz, {info.channels} channels, {info.format}" for info in infos})
    threads = str(args.threads)
    environment = os.environ | {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")}
    sori = [args.sori, "classify", "--json", "--threads", threads, args.folder]

    def once(what):
        if what == "sori":
            # The whole process, its start included.
            began = time.perf_counter()
            subprocess.run(sori, check=True, stdout=subprocess.DEVNULL, env=environment)
            return time.perf_counter() - began
        command = [sys.executable, __file__, args.folder, "--threads", threads, "--peer", what]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)

    best = {what: float("inf") for what in ("sori", "librosa", "numpy")}
    for _ in range(args.rounds):
        for what in best:
            best[what] = min(best[what], once(what))
    print(f"{len(files)} files, {sound:.0f} s of sound: {'; '.join(kinds)}; {threads} threads")
    for what, seconds in best.items():
        ratio = "" if what == "sori" else f"   Sori is {seconds / best['sori']:.2f} times as fast"
        print(f"  {what:8} {seconds:7.3f} s, {sound / seconds:6.0f} x real time{ratio}")


if __name__ == "__main__":
    main()
