"""A small studio: parts that play into a MIDI file, and the way from that file to a clip."""

import re
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import soundfile
from scipy.signal import butter, resample_poly, sosfilt

RATE = 16_000
RENDER_RATE = 48_000  # three times RATE, so that the synthesiser's aliases can be filtered away
SECONDS = 8.5
PEAK = 10 ** (-6 / 20)
TICKS = 10_000  # a MIDI file at 60 quarters a minute: a tick is 0.1 ms, whatever the piece's tempo

KICK, STICK, SNARE, CLAP = 36, 37, 38, 39
LOW_TOM, MID_TOM, HIGH_TOM = 45, 47, 50
HAT, PEDAL, OPEN = 42, 44, 46
CRASH, RIDE, CHINA = 49, 51, 52
TAMBOURINE, SHAKER = 54, 82
HIGH_CONGA, LOW_CONGA = 63, 64

STROKES = {"X": 118, "x": 100, "o": 80, "-": 60, "g": 38}
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
CHORDS = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "9": (2, 4, 7, 10),
    "13": (2, 4, 9, 10),
    "m9": (2, 3, 7, 10),
    "maj9": (2, 4, 7, 11),
    "7alt": (1, 4, 8, 10),
    "5": (0, 7),
}


def pitch(name):
    """The MIDI number of a name such as C4 (60), F#2 or Bb3."""
    letter, accidental, octave = re.fullmatch(r"([A-G])([#b]?)(-?\d)", name).groups()
    return STEPS[letter] + {"#": 1, "b": -1, "": 0}[accidental] + 12 * (int(octave) + 1)


def root(chord, low):
    """The lowest pitch not under `low` that is the root of a chord such as F#m7."""
    return _above(_split(chord)[0], pitch(low))


def voice(chord, low):
    """A chord in the octave above `low`; with one `low`, neighbours move by small steps."""
    base, quality = _split(chord)
    return sorted(_above(base + step, pitch(low)) for step in CHORDS[quality])


def _split(chord):
    letter, accidental, quality = re.fullmatch(r"([A-G])([#b]?)(.*)", chord).groups()
    return STEPS[letter] + {"#": 1, "b": -1, "": 0}[accidental], quality


def _above(pitch_class, low):
    return low + (pitch_class - low) % 12


@dataclass
class Note:
    pitch: int
    on: float
    off: float
    velocity: int


class Band:
    """Players who share a tempo, a swing and a room.

    `swing` is where the off-beat falls between two beats of length `swing_unit`: 0.5 is
    straight, 2/3 is a triplet. `drive` squeezes the mix as a loud master does.
    """

    def __init__(self, name, bpm, swing=0.5, swing_unit=1.0, loose=0.005, drive=1.0, room=0.3, highs=None):
        self.name, self.bpm = name, bpm
        self.swing, self.swing_unit, self.loose = swing, swing_unit, loose
        self.drive, self.room, self.highs = drive, room, highs
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.parts = []

    def part(self, program, volume=100, reverb=30, chorus=0, amp=0.0):
        """`amp` is a guitar amplifier's gain; 0 plays straight into the desk."""
        # Channel 9 is the drums'.
        melodic = sum(part.channel != 9 for part in self.parts)
        return self._join(melodic + (melodic >= 9), program, volume, reverb, chorus, amp)

    def drums(self, kit=0, volume=100, reverb=20):
        return self._join(9, kit, volume, reverb)

    def _join(self, channel, program, volume, reverb, chorus=0, amp=0.0):
        part = Part(self, channel, amp)
        part.at(0.0, mido.Message("program_change", channel=channel, program=program))
        # Everything stays in the middle: the clip is mono.
        for control, value in ((7, volume), (10, 64), (91, reverb), (93, chorus)):
            part.control(0.0, control, value)
        self.parts.append(part)
        return part

    def seconds(self, beat):
        unit, within = divmod(beat / self.swing_unit, 1.0)
        if within < 0.5:
            within *= 2 * self.swing
        else:
            within = self.swing + (within - 0.5) * 2 * (1 - self.swing)
        return (unit + within) * self.swing_unit * 60 / self.bpm

    def midi(self, amp=0.0):
        """The parts that play through this amplifier."""
        file = mido.MidiFile(ticks_per_beat=TICKS)
        for part in (part for part in self.parts if part.amp == amp):
            track = mido.MidiTrack()
            track.append(mido.MetaMessage("set_tempo", tempo=1_000_000))
            now = 0
            for tick, message in part.messages():
                track.append(message.copy(time=tick - now))
                now = tick
            file.tracks.append(track)
        return file


class Part:
    def __init__(self, band, channel, amp):
        self.band, self.channel, self.amp = band, channel, amp
        self.notes, self.others = [], []

    def at(self, seconds, message):
        self.others.append((round(seconds * TICKS), message))

    def control(self, seconds, control, value):
        value = int(np.clip(value, 0, 127))
        self.at(seconds, mido.Message("control_change", channel=self.channel, control=control, value=value))

    def note(self, beat, pitch_, beats, velocity=90, late=0.0):
        """`late` in seconds: behind the beat, or ahead of it where negative."""
        rng, band = self.band.rng, self.band
        slip = rng.normal(0, band.loose) + late
        on = max(0.0, band.seconds(beat) + slip)
        off = max(on + 0.03, band.seconds(beat + beats) + slip)
        velocity = int(np.clip(round(velocity + rng.normal(0, 4)), 1, 127))
        self.notes.append(Note(pitch_, on, off, velocity))

    def chord(self, beat, pitches, beats, velocity=85, strum=0.0, late=0.0):
        """A `strum` is the seconds from string to string, downwards; upwards where negative."""
        order = pitches if strum >= 0 else pitches[::-1]
        for string, pitch_ in enumerate(order):
            self.note(beat, pitch_, beats, velocity, late + string * abs(strum))

    def line(self, beat, text, velocity=90, legato=0.95, late=0.0):
        """Plays NAME/BEATS words; `-/1` rests. Marks: `!` accent, `?` soft, `^` a scoop from
        below, `~` vibrato, `.` short."""
        for word in text.split():
            name, beats, marks = re.fullmatch(r"([A-G][#b]?\d|-)/([\d.]*\d)([!?^~.]*)", word).groups()
            beats = float(beats)
            if name != "-":
                loudness = velocity + 14 * ("!" in marks) - 18 * ("?" in marks)
                if "^" in marks:
                    self.bend(beat, min(0.4, beats / 2), -1.0, 0.0)
                if "~" in marks:
                    self.vibrato(beat, beats)
                self.note(beat, pitch(name), beats * (0.45 if "." in marks else legato), loudness, late)
            beat += beats
        return beat

    def bend(self, beat, beats, start, end):
        """Slides from `start` to `end` semitones (within the usual range of two)."""
        for share in np.linspace(0, 1, 12):
            value = int(np.clip((start + share * (end - start)) / 2 * 8191, -8192, 8191))
            seconds = self.band.seconds(beat + share * beats) - (0.004 if share == 0 else 0)
            self.at(max(0.0, seconds), mido.Message("pitchwheel", channel=self.channel, pitch=value))

    def vibrato(self, beat, beats):
        # A player's vibrato comes late in a note.
        self.control(self.band.seconds(beat + 0.35 * beats), 1, 70)
        self.control(self.band.seconds(beat + beats), 1, 0)

    def swell(self, beat, beats, start, end):
        for share in np.linspace(0, 1, max(2, int(beats * 8))):
            self.control(self.band.seconds(beat + share * beats), 11, start + share * (end - start))

    def groove(self, beat, step, lines, times=1):
        """Strokes as text, one character every `step` beats: X x o - g from loud to ghost."""
        for drum, strokes in lines.items():
            strokes = strokes.replace(" ", "") * times
            for index, stroke in enumerate(strokes):
                if stroke in STROKES:
                    self.note(beat + index * step, drum, step, STROKES[stroke])

    def messages(self):
        events = [(tick, 1, message) for tick, message in self.others]
        by_pitch = {}
        for note in sorted(self.notes, key=lambda note: note.on):
            previous = by_pitch.get(note.pitch)
            # Or the late end of the one would cut the other short.
            if previous and previous.off > note.on:
                previous.off = note.on
            by_pitch[note.pitch] = note
        for note in self.notes:
            on, off = (
                mido.Message(kind, channel=self.channel, note=note.pitch, velocity=velocity)
                for kind, velocity in (("note_on", note.velocity), ("note_off", 0))
            )
            events.append((round(note.on * TICKS), 2, on))
            events.append((round(note.off * TICKS), 0, off))
        events.sort(key=lambda event: event[:2])
        return [(tick, message) for tick, _, message in events]


def render(band, soundfont):
    """The clip: mono, RATE, SECONDS long, as 16-bit numbers."""
    amps = sorted({part.amp for part in band.parts})
    stems = [amplify(play(band.midi(amp), soundfont, band.room), amp) for amp in amps]
    mix = np.zeros(max(map(len, stems)))
    for stem in stems:
        mix[: len(stem)] += stem
    return master(mix, band)


def play(midi, soundfont, room):
    with tempfile.TemporaryDirectory() as folder:
        score, wave = Path(folder, "piece.mid"), Path(folder, "piece.wav")
        midi.save(score)
        command = ["fluidsynth", "-ni", "-q", "-r", str(RENDER_RATE), "-g", "0.4", "-T", "wav", "-O", "float"]
        command += ["-o", f"synth.reverb.room-size={room}", "-o", "synth.cpu-cores=1"]
        command += ["-F", str(wave), str(soundfont), str(score)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        samples, _ = soundfile.read(wave)
    return samples.mean(axis=1)


def amplify(samples, gain):
    """Overdrive of the whole stem: the strings of a chord distort one another, which a
    soundfont, distorting note by note, cannot do. Then a loudspeaker cabinet."""
    if not gain:
        return samples
    tight = butter(1, 150, "highpass", fs=RENDER_RATE, output="sos")
    cabinet = butter(4, [75, 4500], "bandpass", fs=RENDER_RATE, output="sos")
    level = np.abs(samples).max()
    samples = np.tanh(gain * sosfilt(tight, samples) / level + 0.1) - np.tanh(0.1)
    return sosfilt(cabinet, samples) * level


def master(samples, band):
    samples = resample_poly(samples, 1, RENDER_RATE // RATE)
    samples = sosfilt(butter(2, 35, "highpass", fs=RATE, output="sos"), samples)
    if band.highs:
        samples = sosfilt(butter(1, band.highs, "lowpass", fs=RATE, output="sos"), samples)
    samples /= np.abs(samples).max()
    samples = np.tanh(band.drive * samples)
    # The first sound starts the clip: a listener's window should not open on silence.
    start = np.argmax(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[start : start + round(SECONDS * RATE)]
    assert len(samples) == round(SECONDS * RATE), f"{band.name} ends too early"
    fade = round(0.35 * RATE)
    samples[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    samples *= PEAK / np.abs(samples).max()
    return np.round(samples * 32767).astype(np.int16)
