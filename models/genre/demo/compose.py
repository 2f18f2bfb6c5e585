"""Composes the demo clips, one a genre, and renders them: GENRE.flac, 16 kHz, mono, 8.5 s.

Every note is written here or follows from the seeded generator, so a second run makes the
same audio. Rendered by fluidsynth with FluidR3_GM.sf2 (Frank Wen and contributors, MIT
licence; Debian's fluid-soundfont-gm), the clips are the project's own, to give away under
its licence.

    python compose.py [--out DIR] [--soundfont FILE] [GENRE ...]
"""

import argparse
from pathlib import Path

import soundfile

from studio import (
    CHINA, CLAP, CRASH, HAT, HIGH_CONGA, HIGH_TOM, KICK, LOW_CONGA, LOW_TOM, MID_TOM, OPEN, PEDAL, RATE,
    RIDE, SHAKER, SNARE, STICK, TAMBOURINE, Band, pitch, render, root, voice,
)  # fmt: skip

# General MIDI, counted from 0.
PIANO, BRIGHT_PIANO, RHODES, VIBES, ORGAN = 0, 1, 4, 11, 16
STEEL, JAZZ_GUITAR, CLEAN, MUTED, OVERDRIVE = 25, 26, 27, 28, 29
UPRIGHT, FINGER_BASS, PICK_BASS, SYNTH_BASS = 32, 33, 34, 38
VIOLIN, VIOLA, CELLO, STRINGS, OOHS = 40, 41, 42, 48, 53
BRASS, ALTO_SAX = 61, 65
WARM_PAD, FIDDLE = 89, 110
POWER_KIT, KIT_808, JAZZ_KIT = 16, 25, 32


def blues():
    """The last bars of a twelve-bar shuffle in A, with its turnaround."""
    band = Band("blues", bpm=112, swing=2 / 3, loose=0.007, drive=1.3)
    drums, bass = band.drums(), band.part(FINGER_BASS, 105, 15)
    rhythm, lead, organ = band.part(CLEAN, 78, 25), band.part(CLEAN, 105, 40), band.part(ORGAN, 95, 30)

    bars = ["E7", "D7", "A7", "A7", "A7"]
    for bar, chord in enumerate(bars):
        beat = 4 * bar
        drums.groove(beat, 0.5, {RIDE: "x-x-x-x-", KICK: "x...x..o", SNARE: "..Xg..X.", PEDAL: "..-...-."})
        low = root(chord, "E1")
        for step, interval in enumerate((0, 4, 7, 9)):
            bass.note(beat + step, low + interval, 0.9, 102)
        # The boogie figure: fifth, sixth, seventh over a pedal of the root.
        base = root(chord, "E2")
        for half, top in enumerate((7, 7, 9, 9, 10, 10, 9, 9)):
            rhythm.chord(beat + half / 2, [base, base + top], 0.42, 88 - 20 * (half % 2), strum=0.004)
        for off in (0.5, 2.5, 3.5):
            organ.chord(beat + off, voice(chord, "F#4"), 0.3, 70)
    drums.groove(14, 0.5, {SNARE: ".g-x", HIGH_TOM: "..x.", CRASH: "...."})
    drums.note(16, CRASH, 1, 95)

    lead.line(0.5, "G4/0.5 A4/0.5 B4/1^! E5/1~ D5/0.5 B4/0.5 A4/0.5^ G4/0.5 A4/1~!", 104)
    lead.line(8, "-/0.5 E4/0.5 G4/0.5 A4/0.5 C5/1^!~ A4/0.5 G4/0.5", 106)
    lead.line(12, "C5/0.5^ A4/0.5 G4/0.5 E4/0.5 D#4/0.5 D4/0.5 C#4/0.5^ A3/1.5~! E4/0.5 G4/0.5 A4/1.5^~", 108)
    return band


def classical():
    """A string quartet in G, andante: a melody, a running second voice, a bass that steps."""
    band = Band("classical", bpm=85, loose=0.012, room=0.75)
    first, second = band.part(VIOLIN, 100, 75), band.part(VIOLIN, 68, 75)
    viola, cello = band.part(VIOLA, 84, 75), band.part(CELLO, 100, 75)

    first.line(0, "G5/1.5~ F#5/0.25 E5/0.25 D5/1~ B4/1", 84, 1.0)
    first.line(4, "C5/0.5 E5/0.5 G5/1~ F#5/0.5 A5/0.5 C6/1~", 90, 1.0)
    first.line(8, "B5/0.75~! A5/0.25 G5/0.5 F#5/0.5 E5/0.5 C5/0.5 A4/1 G4/2~", 86, 1.0)
    second.line(0, "B4/0.5 D5/0.5 B4/0.5 D5/0.5 G4/0.5 B4/0.5 G4/0.5 D4/0.5", 74)
    second.line(4, "E4/0.5 G4/0.5 C5/0.5 E5/0.5 D5/0.5 C5/0.5 A4/0.5 D5/0.5", 76)
    second.line(8, "D5/0.5 G4/0.5 B4/0.5 D5/0.5 C5/0.5 E4/0.5 D4/0.5 F#4/0.5 D4/2", 74)
    viola.line(0, "D4/2~ D4/1 G4/1 G4/2~ A4/1 F#4/1 G4/1 B3/1 C4/1 C4/1 B3/2", 78, 1.0)
    cello.line(0, "G2/2~ B2/2~ C3/1 E3/1 D3/1 F#2/1 G2/1 E2/1 C3/1 D3/1 G2/2~", 86, 1.0)
    for part in (first, second, viola, cello):
        part.swell(0, 3, 88, 104)
        part.swell(3, 1, 104, 90)
        part.swell(4, 4, 90, 122)
        part.swell(8, 4, 120, 78)
    return band


def country():
    """A train beat in G under a fiddle that trades with a pedal steel."""
    band = Band("country", bpm=113, loose=0.006, drive=1.2, highs=3000)
    drums, bass = band.drums(0, 70), band.part(UPRIGHT, 100, 15)
    strum, fiddle = band.part(STEEL, 92, 25), band.part(FIDDLE, 105, 40)
    steel = band.part(JAZZ_GUITAR, 110, 55, 20)

    for bar, chord in enumerate(["G", "C", "G", "D7", "G"]):
        beat = 4 * bar
        drums.groove(beat, 0.25, {SNARE: "-gx--gx--gx--gxo", KICK: "x.......x......."})
        low = root(chord, "G1")
        fifth = -5 if low > pitch("A1") else 7
        for step, interval in enumerate((0, fifth, 0, fifth)):
            bass.note(beat + step, low + interval, 0.8, 98)
        for step in range(4):
            strum.note(beat + step, root(chord, "G2") + (7 if step % 2 else 0), 0.5, 86)
            strum.chord(beat + step + 0.5, voice(chord, "B3"), 0.4, 80, strum=0.008)
    fiddle.line(0, "B4/0.25 D5/0.25 G5/0.5! F#5/0.25 E5/0.25 D5/0.5^ B4/0.5 D5/0.5 E5/0.5 D5/0.5", 96)
    fiddle.line(4, "E5/1^~! C5/0.5 E5/0.5 G5/0.5 E5/0.5 C5/1~", 96)
    steel.bend(8, 0.5, -2, 0)
    steel.chord(8, [pitch("B4"), pitch("D5")], 1.4, 98)
    steel.chord(9.5, [pitch("G4"), pitch("B4")], 1.0, 92)
    steel.bend(10.5, 0.4, -2, 0)
    steel.chord(10.5, [pitch("A4"), pitch("D5")], 1.4, 96)
    fiddle.line(12, "A4/0.5^ D5/0.25 E5/0.25 F#5/0.5 A5/0.5 G5/0.25 F#5/0.25 E5/0.5 D5/0.5 C5/0.5", 98)
    fiddle.line(16, "B4/0.5 D5/0.5 G5/2^~!", 98)
    return band


def disco():
    """Four on the floor in A minor: octave bass, open hats between, strings above."""
    band = Band("disco", bpm=114, loose=0.003, drive=1.8)
    drums, bass = band.drums(), band.part(FINGER_BASS, 112, 10)
    guitar, strings = band.part(MUTED, 88, 15), band.part(STRINGS, 92, 45)
    brass, keys = band.part(BRASS, 82, 35), band.part(RHODES, 76, 25)

    for bar, chord in enumerate(["Am7", "D9", "Fmaj7", "E7", "Am7"]):
        beat = 4 * bar
        drums.groove(beat, 0.25, {
            KICK: "X...X...X...X...", SNARE: "....X.......X...", CLAP: "....x.......x...",
            HAT: "o-..o-..o-..o-..", OPEN: "..x...x...x...x.", TAMBOURINE: "--o---o---o---o-",
            HIGH_CONGA: "...x..-....x..-.", LOW_CONGA: "......-x......-x",
        })  # fmt: skip
        low = root(chord, "E1")
        for half in range(8):
            bass.note(beat + half / 2, low + 12 * (half % 2), 0.4, 104)
        for sixteenth, stroke in enumerate("o.-o..o-.o-o..o-"):
            if stroke != ".":
                guitar.chord(beat + sixteenth / 4, voice(chord, "C4")[1:], 0.15, 90 if stroke == "o" else 66, 0.004)
        keys.chord(beat, voice(chord, "A3"), 1.4, 80)
        keys.chord(beat + 2.5, voice(chord, "A3"), 1.2, 78)
    strings.line(0, "E5/2 G5/1 A5/0.5 G5/0.5 F#5/2 A5/1 D5/1 E5/2 A5/1 C6/1 B5/1.5 G#5/0.5 B5/1 E6/1 A5/3", 100, 1.0)
    for beat, chord in ((2.5, "Am7"), (6.5, "D9"), (10.5, "Fmaj7"), (14.5, "E7")):
        brass.chord(beat, voice(chord, "E4"), 0.2, 104)
        brass.chord(beat + 0.75, voice(chord, "E4"), 0.5, 110)
    drums.groove(15, 0.25, {SNARE: "xxXX", HIGH_TOM: "x...", MID_TOM: "..x."})
    drums.note(16, CRASH, 1, 105)
    return band


def hiphop():
    """Boom-bap at 90: a swung 808, a deep bass with holes, two Rhodes chords."""
    band = Band("hiphop", bpm=90, swing=0.58, swing_unit=0.5, loose=0.004, drive=2.2)
    drums, bass = band.drums(KIT_808, 122, 8), band.part(SYNTH_BASS, 118, 0)
    keys, pluck = band.part(RHODES, 72, 20), band.part(VIBES, 80, 45)

    for bar in range(4):
        beat = 4 * bar
        fill = bar == 3
        drums.groove(beat, 0.25, {
            KICK: "X..x...x..X....." if bar % 2 == 0 else "X..x...x.xX..x..",
            SNARE: "....X.......X..g" if not fill else "....X..g.g..X.xX",
            CLAP: "....o.......o...",
            HAT: "XxXxXxXxXxXxXxXx", OPEN: "..............x.",
        })  # fmt: skip
        keys.chord(beat, voice("Dm9", "C4"), 1.2, 82, strum=0.006)
        keys.chord(beat + 1.75, voice("Dm9", "C4"), 0.4, 70)
        keys.chord(beat + 2.5, voice("Bbmaj7", "A3"), 1.3, 80, strum=0.006)
        bass.line(beat, "D2/0.6! -/0.15 D2/0.25 -/0.75 F2/0.25 C2/0.4 -/0.1 A#1/0.9! -/0.1 A1/0.25 C2/0.25", 112)
    for beat in (3, 7, 11):
        pluck.line(beat, "A5/0.25 G5/0.25 F5/0.5", 74)
    return band


def jazz():
    """A quartet over ii-V-I in B flat: alto, piano, upright, ride."""
    band = Band("jazz", bpm=198, swing=0.62, loose=0.01, room=0.45, highs=2500)
    drums, bass = band.drums(JAZZ_KIT, 120, 30), band.part(UPRIGHT, 85, 20)
    piano, sax = band.part(PIANO, 115, 35), band.part(ALTO_SAX, 120, 40)

    bars = ["Cm9", "F13", "Bbmaj9", "G7alt", "Cm9", "F13", "Bbmaj9"]
    walk = "C2 Eb2 G2 A2 F2 E2 Eb2 C2 Bb1 D2 F2 Ab2 G2 F2 D2 B1 C2 D2 Eb2 G2 F2 A2 C3 A2 Bb2 F2 D2 Bb1"
    for beat, name in enumerate(walk.split()):
        bass.note(beat, pitch(name), 0.92, 104 + 6 * (beat % 2))
    for bar, chord in enumerate(bars):
        beat = 4 * bar
        drums.groove(beat, 0.5, {RIDE: "x.X-x.X-", PEDAL: "..x...x.", KICK: "g...g..."})
        comp = ((0, 0.4), (1.5, 1.2)) if bar % 2 == 0 else ((0.5, 0.9), (2.5, 0.3))
        for off, beats in comp:
            piano.chord(beat + off, voice(chord, "D4"), beats, 76)
    drums.groove(0, 0.5, {SNARE: ".....g.. ...-...g ..g....- .g.-..g- ...g.... .-.g..-x"})
    sax.line(0.5, "G4/0.5 Bb4/0.5 D5/0.5 C5/0.5^ Eb5/0.5 D5/0.5! C5/0.5", 92)
    sax.line(4, "A4/0.5 C5/0.5 Eb5/0.5 G5/0.5! F5/1~ D5/0.5 C5/0.5", 94)
    sax.line(8, "-/0.5 D5/1.5^~! F5/0.5. C5/0.5 D5/0.5 Bb4/0.5", 94)
    sax.line(12, "B4/0.5 D5/0.5 F5/0.5 Ab5/0.5! G5/0.5 Eb5/0.5 D5/0.5 B4/0.5", 96)
    sax.line(16, "C5/0.5^ -/0.5 Eb5/0.5 G5/0.5 Bb5/1~! G5/0.5 Eb5/0.5", 98)
    sax.line(20, "F5/0.5 Gb5/0.5 D5/0.5 Eb5/0.5 C5/0.5 A4/0.5 F4/0.5 A4/0.5 Bb4/2.5^~!", 96)
    return band


def metal():
    """Palm-muted gallops on a low E, double kick, power chords that fall by half steps."""
    band = Band("metal", bpm=168, loose=0.003, drive=3.0, room=0.2, highs=4000)
    drums, bass = band.drums(POWER_KIT, 112, 10), band.part(PICK_BASS, 96, 5)
    left, right = band.part(OVERDRIVE, 45, 5, amp=6.0), band.part(OVERDRIVE, 45, 5, amp=15.0)

    def power(beat, name, beats, velocity=116):
        low = pitch(name)
        left.chord(beat, [low, low + 7], beats, velocity, strum=0.002)
        right.chord(beat, [low, low + 7, low + 12], beats, velocity, strum=0.003, late=0.008)
        bass.note(beat, low - 12, beats, 108)

    for bar in range(7):
        beat = 4 * bar
        # Gallop: an eighth and two sixteenths.
        for step in (0, 0.5, 0.75, 1, 1.5, 1.75):
            power(beat + step, "E2", 0.2, 104)
        if bar % 2 == 0:
            power(beat + 2, "G2", 0.9)
            power(beat + 3, "F2", 0.9)
        else:
            power(beat + 2, "A#2", 0.9)
            power(beat + 3, "A2", 0.45)
            power(beat + 3.5, "F2", 0.45)
        drums.groove(beat, 0.25, {KICK: "x.xxx.xxx.xxx.xx", SNARE: "....X.......X...", CHINA: "x...x...x...x..."})
    drums.note(0, CRASH, 1, 110)
    drums.groove(14, 0.25, {SNARE: "XxXx....", HIGH_TOM: "....Xx..", LOW_TOM: "......Xx"})
    drums.note(16, CRASH, 1, 112)
    return band


def pop():
    """Four chords in C: piano and pads, a tune for voices, claps."""
    band = Band("pop", bpm=99, loose=0.003, drive=2.0)
    drums, bass = band.drums(KIT_808, 105, 15), band.part(SYNTH_BASS, 95, 5)
    piano, pad = band.part(BRIGHT_PIANO, 125, 30), band.part(WARM_PAD, 110, 50)
    lead, voices = band.part(OOHS, 120, 45), band.part(OOHS, 70, 50)

    for bar, chord in enumerate(["C", "G", "Am", "F", "C"]):
        beat = 4 * bar
        drums.groove(beat, 0.25, {
            KICK: "X.....x.X.x.....", SNARE: "....X.......X...", CLAP: "....x.......x...",
            SHAKER: "x-o-x-o-x-o-x-o-",
        })  # fmt: skip
        for half in range(8):
            bass.note(beat + half / 2, root(chord, "E1"), 0.4, 98)
        for off, beats in ((0, 0.7), (0.75, 0.7), (1.5, 0.9), (2.5, 0.45), (3, 0.9)):
            piano.chord(beat + off, voice(chord, "G3") + [root(chord, "C5")], beats, 92)
        pad.chord(beat, voice(chord, "E4"), 4, 84)
        voices.chord(beat, voice(chord, "C5"), 3.9, 84)
    lead.line(0, "E5/0.75 G5/0.75 E5/0.5 D5/0.5 C5/0.5 D5/1~ D5/0.75 B4/0.75 D5/1.5~ -/1", 92)
    lead.line(8, "C5/0.75 E5/0.75 A5/0.5 G5/0.5 E5/0.5 D5/1 C5/0.75 A4/0.75 C5/1.5~ D5/1 E5/3~", 94)
    drums.groove(15, 0.25, {SNARE: "x.xx", HIGH_TOM: "..x."})
    drums.note(16, CRASH, 1, 100)
    return band


def reggae():
    """One drop at 85 in A minor: skank off the beat, organ bubble, a bass that rests."""
    band = Band("reggae", bpm=85, swing=0.55, swing_unit=0.5, loose=0.006, room=0.5)
    drums, bass = band.drums(KIT_808, 100, 25), band.part(UPRIGHT, 127, 0)
    guitar, piano = band.part(MUTED, 100, 40), band.part(PIANO, 100, 30)
    organ = band.part(ORGAN, 62, 25)

    for bar, chords in enumerate((("Am", "G"), ("F", "G"), ("Am", "G"), ("F", "G"))):
        beat = 4 * bar
        drums.groove(beat, 0.25, {
            KICK: "....X.......X...", STICK: "....x..-....x.-.", HAT: "x-o-x-o-x-o-x-oo",
        })  # fmt: skip
        for step in range(4):
            chord = chords[step // 2]
            guitar.chord(beat + step + 0.5, voice(chord, "A3"), 0.16, 96, strum=0.005)
            piano.chord(beat + step + 0.5, voice(chord, "C4"), 0.18, 88)
            for sixteenth in (0.25, 0.5, 0.75):
                organ.chord(beat + step + sixteenth, voice(chord, "E4"), 0.15, 70 if sixteenth != 0.5 else 88)
    for beat in (0, 8):
        bass.line(beat, "-/0.5 A1/0.5 A1/0.5. C2/0.25 E2/0.25 G1/0.75 -/0.25 B1/0.5 D2/0.5", 114)
        bass.line(beat + 4, "-/0.5 F1/0.5 F1/0.5. A1/0.25 C2/0.25 G1/0.75 -/0.25 G1/0.25 B1/0.25 G1/0.5", 114)
    drums.note(0, CRASH, 1, 70)
    return band


def rock():
    """Driving eighths in E, open hats, a lead that answers."""
    band = Band("rock", bpm=127, loose=0.005, drive=1.5)
    drums, bass = band.drums(POWER_KIT, 120, 25), band.part(PICK_BASS, 102, 10)
    rhythm, acoustic = band.part(STEEL, 65, 10, amp=20.0), band.part(STEEL, 100, 20)
    lead = band.part(OVERDRIVE, 105, 40)

    for bar, chords in enumerate((("E5", "E5"), ("G5", "A5"), ("E5", "E5"), ("D5", "A5"), ("E5", "E5"), ("G5", "A5"))):
        beat = 4 * bar
        drums.groove(beat, 0.5, {KICK: "X..xX.x.", SNARE: "..X...X.", OPEN: "xoxoxoxo"})
        for half in range(8):
            chord = chords[half // 4]
            low = root(chord, "E2")
            accent = half in (0, 3, 6)
            rhythm.chord(beat + half / 2, [low, low + 7, low + 12], 0.46, 106 if accent else 88, strum=0.004)
            acoustic.chord(beat + half / 2, [low, low + 7], 0.44, 100 if accent else 84, strum=0.003, late=0.006)
            bass.note(beat + half / 2, low - 12, 0.45, 104)
    lead.line(6, "B4/0.5 D5/0.5 E5/1^!~", 104)
    lead.line(9, "G5/0.5^! E5/0.5 D5/0.5 B4/0.5 A4/0.5^ G4/0.5 E4/2~", 106)
    drums.groove(14, 0.25, {SNARE: "X.Xx..x.", HIGH_TOM: "....Xx..", LOW_TOM: "......Xx"})
    drums.note(0, CRASH, 1, 110)
    drums.note(16, CRASH, 1, 112)
    lead.line(16, "B4/0.5 E5/0.5 G5/1.5^!~ E5/0.5 D5/1~", 108)
    return band


PIECES = [blues, classical, country, disco, hiphop, jazz, metal, pop, reggae, rock]


def main():
    pieces = {piece.__name__: piece for piece in PIECES}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("genres", nargs="*", metavar="GENRE", help=f"of {', '.join(pieces)}; all if none is named")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--soundfont", type=Path, default=Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"))
    args = parser.parse_args()
    if unknown := set(args.genres) - set(pieces):
        parser.error(f"no piece for {', '.join(sorted(unknown))}")
    args.out.mkdir(parents=True, exist_ok=True)
    for genre in args.genres or pieces:
        samples = render(pieces[genre](), args.soundfont)
        soundfile.write(args.out / f"{genre}.flac", samples, RATE, "PCM_16", compression_level=1.0)


if __name__ == "__main__":
    main()
