"""Music composed by chance in the manner of the genres, and played with General MIDI sounds.

    python compose.py --out music/composed --pieces 160

Function matching needs no good music, only music that differs as genres do: metre, swing,
drums, instruments, harmony, density. Each piece has a style's ranges to choose from, and now
and then an instrument of another. Needs fluidsynth and a General MIDI sound font.
"""

import argparse
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mido
import numpy as np

BEAT = 480  # ticks
DRUMS = {"k": 36, "s": 38, "r": 37, "c": 39, "h": 42, "o": 46, "d": 51, "t": 45, "b": 56, "m": 70}
MINOR, MAJOR, BLUE = [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 5, 7, 9, 11], [0, 3, 5, 6, 7, 10]

# Of a style: tempo; share of a beat before its second half (swing); scale; progressions as
# semitones and quality (M, m, 7) a bar; drums as 16 steps; bass and comping as 16 steps
# (1 root, 5 fifth, 3 third, 8 octave; x a chord, - an arpeggio note); General MIDI programs
# of bass, chords and lead; notes of the lead a bar.
STYLES = {
    "blues": {
        "tempo": (60, 130), "swing": 0.66, "scale": BLUE,
        "chords": ["0:7 0:7 0:7 0:7 5:7 5:7 0:7 0:7 7:7 5:7 0:7 7:7", "0:7 5:7 0:7 7:7"],
        "drums": ["k:x.......x....... s:....x.......x... h:x.x.x.x.x.x.x.x.", "k:x...x...x...x... s:....x.......x... d:x..xx..xx..xx..x", ""],
        "bass": ["1...3...5...3...", "1.1.5.5.1.1.5.5.", "1.......5......."], "comp": ["x.x.x.x.x.x.x.x.", "....x.......x...", "x...--..x...--.."],
        "programs": ([32, 33], [0, 24, 25, 26, 16, 22], [22, 27, 26, 25, 66, 0]), "lead": 6},
    "classical": {
        "tempo": (50, 150), "swing": 0.5, "scale": MAJOR,
        "chords": ["0:M 5:M 7:M 0:M", "0:M 9:m 5:M 7:M", "0:m 5:m 7:M 0:m", "0:m 8:M 3:M 7:M"], "drums": [""],
        "bass": ["1.......5.......", "1...............", "1...5...8...5..."], "comp": ["----------------", "-.-.-.-.-.-.-.-.", "x...............", ""],
        "programs": ([42, 43, 0, 6], [48, 0, 6, 46, 49, 19], [40, 73, 68, 71, 0, 60, 56, 41]), "lead": 8},
    "country": {
        "tempo": (80, 170), "swing": 0.52, "scale": MAJOR,
        "chords": ["0:M 0:M 5:M 0:M 7:M 7:M 0:M 0:M", "0:M 5:M 7:M 0:M", "0:M 7:M 9:m 5:M"],
        "drums": ["k:x.......x....... r:....x.......x... h:..x...x...x...x.", "k:x...x...x...x... s:..x...x...x...x.", "k:x.......x.x..... s:....x.......x... h:x.x.x.x.x.x.x.x.", ""],
        "bass": ["1...5...1...5...", "1.......5......."], "comp": ["..x...x...x...x.", "-.x.-.x.-.x.-.x.", "----------------"],
        "programs": ([32, 33], [25, 24, 105, 0], [110, 105, 25, 22, 27, 21]), "lead": 7},
    "disco": {
        "tempo": (108, 132), "swing": 0.5, "scale": MINOR,
        "chords": ["0:m 5:m 0:m 7:m", "0:m 10:M 8:M 7:M", "9:m 5:M 0:M 7:M", "0:m 0:m 5:M 5:M"],
        "drums": ["k:x...x...x...x... s:....x.......x... o:..x...x...x...x.", "k:x...x...x...x... c:....x.......x... h:xxxxxxxxxxxxxxxx o:..x...x...x...x.", "k:x...x...x...x... s:....x.......x..x b:x.x.x.x.x.x.x.x."],
        "bass": ["1.8.1.8.1.8.1.8.", "1..11.8.1..15.8.", "1...1..15...8..."], "comp": ["..x...x...x...x.", "x..x..x.x..x..x.", "x.xx.xx.x.xx.xx."],
        "programs": ([33, 36, 38, 39], [27, 48, 4, 61, 2], [48, 61, 53, 80, 11]), "lead": 5},
    "hiphop": {
        "tempo": (78, 105), "swing": 0.57, "scale": MINOR,
        "chords": ["0:m 0:m 0:m 0:m", "0:m 0:m 8:M 7:m", "0:m 5:m 0:m 3:M"],
        "drums": ["k:x..x...x..x..... s:....x.......x... h:x.x.x.x.x.x.x.x.", "k:x.....x.x...... c:....x.......x... h:x.xxx.x.x.xxx.x.", "k:x.x.......x..x.. s:....x.......x..x h:xxxxxxxxxxxxxxxx"],
        "bass": ["1.....1..1......", "1...............", "1..1......5.1..."], "comp": ["x...............", "", "x.....x.........", "-...-...-...-..."],
        "programs": ([33, 38, 39, 32], [4, 0, 48, 88, 11], [80, 73, 81, 11, 53]), "lead": 2},
    "jazz": {
        "tempo": (70, 220), "swing": 0.64, "scale": [0, 2, 3, 5, 7, 9, 10, 11],
        "chords": ["2:m 7:7 0:M 9:7", "0:M 9:m 2:m 7:7", "0:m 5:m 7:7 0:m", "4:m 9:7 2:m 7:7"],
        "drums": ["d:x...x.xxx...x.xx h:....x.......x...", "k:x..............x d:x...x.xxx...x.xx h:....x.......x...", ""],
        "bass": ["1...3...5...8...", "1...5...3...5...", "1.......5......."], "comp": ["...x..x.......x.", "x.....x.........", ""],
        "programs": ([32], [0, 26, 4, 11], [66, 56, 65, 57, 11, 0, 26, 71]), "lead": 10},
    "metal": {
        "tempo": (90, 200), "swing": 0.5, "scale": [0, 1, 3, 5, 7, 8, 10],
        "chords": ["0:5 0:5 1:5 0:5", "0:5 8:5 10:5 0:5", "0:5 3:5 6:5 5:5"],
        "drums": ["k:xxxxxxxxxxxxxxxx s:....x.......x... d:x...x...x...x...", "k:x.xxx.x.x.xxx.x. s:....x.......x... o:x...x...x...x...", "k:x.x.x.x.x.x.x.x. s:.x.x.x.x.x.x.x.x h:x.x.x.x.x.x.x.x."],
        "bass": ["1111111111111111", "1.111.111.111.11", "1.......1......."], "comp": ["xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx", "x.......x.x....."],
        "programs": ([34, 33], [30, 30, 29], [30, 29, 31]), "lead": 5},
    "pop": {
        "tempo": (80, 130), "swing": 0.5, "scale": MAJOR,
        "chords": ["0:M 7:M 9:m 5:M", "9:m 5:M 0:M 7:M", "0:M 9:m 5:M 7:M"],
        "drums": ["k:x.......x.x..... s:....x.......x... h:x.x.x.x.x.x.x.x.", "k:x...x...x...x... c:....x.......x... h:..x...x...x...x.", "k:x..x..x...x..... s:....x.......x... m:xxxxxxxxxxxxxxxx"],
        "bass": ["1.1.1.1.1.1.1.1.", "1.....1.1.....1.", "1..1..1...5.5..."], "comp": ["x...............", "x...x...x...x...", "--------", "x..x..x...x...x."],
        "programs": ([33, 38, 39, 35], [0, 88, 25, 50, 90, 5], [80, 53, 54, 81, 0, 62]), "lead": 5},
    "reggae": {
        "tempo": (66, 96), "swing": 0.56, "scale": MINOR,
        "chords": ["0:m 5:m 0:m 5:m", "0:M 7:M 9:m 5:M", "0:m 10:M 0:m 10:M"],
        "drums": ["k:........x....... r:........x....... h:x.x.x.x.x.x.x.x.", "k:x.......x....... r:....x.......x... h:x.xxx.x.x.xxx.x.", "k:x...x...x...x... r:........x....... h:..x...x...x...x."],
        "bass": ["1..1..5...1.3.5.", "..1.1.3...5.8...", "1.....1.5..1...."], "comp": ["....x.......x...", "....x.x.....x.x.", "..x...x...x...x."],
        "programs": ([33, 32, 35], [27, 16, 28, 0], [57, 66, 16, 53, 27]), "lead": 3},
    "rock": {
        "tempo": (85, 165), "swing": 0.5, "scale": [0, 2, 4, 5, 7, 9, 10],
        "chords": ["0:M 10:M 5:M 0:M", "0:5 3:5 5:5 0:5", "0:M 5:M 7:M 5:M", "9:m 7:M 5:M 7:M"],
        "drums": ["k:x.......x.x..... s:....x.......x... h:x.x.x.x.x.x.x.x.", "k:x.x...x.x....... s:....x.......x... o:x...x...x...x...", "k:x..x....x..x.... s:....x.......x... d:x.x.x.x.x.x.x.x."],
        "bass": ["1.1.1.1.1.1.1.1.", "1..1..1.5..5..8.", "1.......1......."], "comp": ["x.x.x.x.x.x.x.x.", "x.....x.x.......", "x..x..x.x...x.x."],
        "programs": ([33, 34], [29, 27, 30, 25, 18], [29, 30, 27, 53, 18]), "lead": 5},
    "electronic": {
        "tempo": (115, 175), "swing": 0.5, "scale": MINOR,
        "chords": ["0:m 0:m 0:m 0:m", "0:m 8:M 10:M 0:m", "0:m 3:M 10:M 5:m"],
        "drums": ["k:x...x...x...x... o:..x...x...x...x. c:....x.......x...", "k:x.....x...x..... s:....x..x.x..x..x h:xxxxxxxxxxxxxxxx"],
        "bass": ["..1...1...1...1.", "1.11.1.11.11.1.1", "1111111111111111"], "comp": ["----------------", "x.....x.....x...", "x..............."],
        "programs": ([38, 39, 87], [81, 89, 90, 94, 62], [80, 81, 84, 98, 87]), "lead": 7},
}
QUALITY = {"M": [0, 4, 7], "m": [0, 3, 7], "7": [0, 4, 7, 10], "5": [0, 7, 12]}


class Band:
    """Collects notes of several channels at musical times, and writes a MIDI file."""

    def __init__(self, tempo, swing):
        self.tempo, self.swing = tempo, swing
        self.events = []

    def at(self, bar, step):
        """Ticks of a sixteenth; those off the beat come late where it swings."""
        beat, part = divmod(step, 4)
        late = (self.swing - 0.5) * BEAT if part >= 2 else 0
        return round((bar * 4 + beat + part / 4) * BEAT + late)

    def note(self, rng, channel, pitch, bar, step, steps, velocity):
        start = max(0, self.at(bar, step) + round(rng.normal(0, 6)))
        velocity = int(np.clip(velocity + rng.normal(0, 6), 1, 127))
        pitch = int(np.clip(pitch, 0, 127))
        self.events.append((start, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
        end = start + max(20, round(steps * BEAT / 4))
        self.events.append((end, mido.Message("note_off", channel=channel, note=pitch)))

    def save(self, path, programs, levels):
        track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(self.tempo))])
        for channel, program in programs.items():
            track.append(mido.Message("program_change", channel=channel, program=program))
            track.append(mido.Message("control_change", channel=channel, control=7, value=levels[channel]))
        now = 0
        for time, message in sorted(self.events, key=lambda event: event[0]):
            track.append(message.copy(time=time - now))
            now = time
        mido.MidiFile(tracks=[track], ticks_per_beat=BEAT).save(path)


def compose(style, rng, seconds, path):
    s = STYLES[style]
    pick = lambda options: options[rng.integers(len(options))]
    # Occasionally an instrument or a rhythm of another genre.
    other = lambda key: s[key] if rng.random() > 0.12 else STYLES[pick(list(STYLES))][key]
    tempo = rng.uniform(*s["tempo"])
    band = Band(tempo, s["swing"] + rng.uniform(-0.02, 0.02))
    bars = int(seconds * tempo / 240) + 1
    key, chords = rng.integers(12), pick(s["chords"]).split()
    scale, drums, bass, comp = s["scale"], pick(other("drums")), pick(s["bass"]), pick(s["comp"])
    programs = {channel: pick(other("programs")[channel]) for channel in range(3)}
    channels = {"bass": 0, "chords": 1, "lead": 2}
    melody, sung = int(rng.integers(0, 7)), 0
    riff = rng.random(16) < s["lead"] / 16
    for bar in range(bars):
        root, quality = chords[bar % len(chords)].split(":")
        root, tones = int(root), QUALITY[quality]
        fill = bar % 8 == 7 and drums
        for line in drums.split():
            name, steps = line.split(":")
            for step, hit in enumerate(steps):
                if hit == "x" and rng.random() > 0.03:
                    band.note(rng, 9, DRUMS[name], bar, step, 1, 100 if step % 4 == 0 else 82)
        if fill:
            for step in range(12, 16):
                band.note(rng, 9, int(rng.choice([38, 45, 47, 50])), bar, step, 1, 95)
        for step, what in enumerate(bass):
            if what != ".":
                offset = {"1": 0, "3": tones[1], "5": 7, "8": 12}[what]
                length = max(1, len(bass[step + 1 :]) - len(bass[step + 1 :].lstrip(".")) + 1)
                band.note(rng, channels["bass"], 36 + (key + root) % 12 + offset, bar, step, 0.9 * length, 95)
        for step, what in enumerate(comp):
            if what == "x":
                length = 1 + len(comp[step + 1 :]) - len(comp[step + 1 :].lstrip("."))
                for tone in tones:
                    band.note(rng, channels["chords"], 48 + (key + root) % 12 + tone, bar, step, 0.8 * min(length, 8), 78)
            elif what == "-":
                band.note(rng, channels["chords"], 60 + (key + root) % 12 + tones[step % len(tones)], bar, step, 1.5, 74)
        if rng.random() < 0.3:
            riff = rng.random(16) < s["lead"] / 16
        if (bar // 4) % 3 != 2:
            for step in np.flatnonzero(riff):
                melody = int(np.clip(melody + rng.integers(-2, 3), -4, 12))
                octave, degree = divmod(melody, len(scale))
                later = np.flatnonzero(riff[step + 1 :])
                length = later[0] + 1 if len(later) else 16 - step
                sung = 67 + key % 12 - 6 + 12 * octave + scale[degree]
                band.note(rng, channels["lead"], sung, bar, int(step), 0.9 * min(length, 6), 92)
    levels = {channel: int(rng.integers(70, 120)) for channel in range(3)}
    band.save(path, programs, levels)


def play(job):
    number, out, soundfont, seconds = job
    style = list(STYLES)[number % len(STYLES)]
    target = out / f"{style}.{number:04}.wav"
    if target.exists():
        return
    midi, partial = target.with_suffix(".mid"), target.with_suffix(".partial")
    compose(style, np.random.default_rng([7, number]), seconds, midi)
    command = ["fluidsynth", "-niq", "-g", "0.6", "-r", "16000", "-T", "wav", "-F", partial, soundfont, midi]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    midi.unlink()
    partial.rename(target)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--soundfont", type=Path, default=Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [(number, args.out, args.soundfont, args.seconds) for number in range(args.pieces)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(play, jobs))


if __name__ == "__main__":
    main()
