"""Links the labelled clips into OUT/train/GENRE and OUT/held-out/GENRE, by track.

`sori quantize --calib OUT/train --eval OUT/held-out` and `sori eval OUT/held-out` then
see the clips that training saw, and those of tracks that it never heard.
"""

import argparse
from pathlib import Path

from bank import tracks

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", type=Path, required=True, help="folder with gtzan/, tracks.csv in it")
parser.add_argument("--fold", type=int, default=0, help="the fold that is held out")
parser.add_argument("--out", type=Path, required=True)
args = parser.parse_args()

for row in tracks(args.data):
    part = "held-out" if int(row["fold"]) == args.fold else "train"
    source = (args.data / "gtzan" / row["file"]).resolve()
    link = args.out / part / row["genre"] / source.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(source)
