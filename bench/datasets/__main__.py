"""Builds data sets as class folders: `python -m bench.datasets OUT [NAME ...]`.

Writes OUT/NAME/{train,test}/CLASS/*.png. The clip art needs Debian's package `openclipart-png`. The same libraries
always give the same bytes.
"""

import argparse
import string
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.datasets.clipart import clipart, largest, topics
from bench.datasets.digits import digits
from bench.datasets.letters import letters
from bench.datasets.photos import photos
from bench.datasets.textures import textures
from recipes.make_emoji import MakeEmojiError, Picture, table, write_folders

PLACES = ("buildings", "education", "electronics", "geography", "office", "special")
THINGS = ("animals", "food", "people", "plants", "tools", "transportation")
SIGNS = tuple(f"signs_and_symbols/{name}" for name in ("clocks", "flags", "led", "map_symbols", "weather"))
CLIPART_NOTICE = "Open Clip Art Library, dedicated to the public domain (Debian's package openclipart-png)."

LETTERS_NOTICE = "Drawn with the fonts that Matplotlib brings: DejaVu, STIX, Computer Modern."
Draw = Callable[[], Iterator[Picture]]

SETS: dict[str, tuple[Draw, str]] = {
    "clipart-a": (lambda: clipart(topics(*THINGS), side=64), CLIPART_NOTICE),
    "clipart-b": (lambda: clipart(topics(*SIGNS), side=48), CLIPART_NOTICE),
    "digits": (digits, "Optical recognition of handwritten digits, E. Alpaydin and C. Kaynak, as in scikit-learn."),
    "letters": (letters, LETTERS_NOTICE),
    "textures": (textures, "Computed by Darkroom's bench/datasets/textures.py."),
}
"""The sets on which plans are judged."""

MORE: dict[str, tuple[Draw, str]] = {
    "icons": (lambda: clipart(largest("computer/icons"), side=48), CLIPART_NOTICE),
    "places": (lambda: clipart(topics(*PLACES), side=48), CLIPART_NOTICE),
    "recreation": (lambda: clipart(largest("recreation", least=15), side=48), CLIPART_NOTICE),
    "shapes": (lambda: clipart(largest("shapes"), side=48), CLIPART_NOTICE),
    "lowercase": (lambda: letters(string.ascii_lowercase, 4), LETTERS_NOTICE),
    "numerals": (lambda: letters(string.digits, 10, coloured=True), LETTERS_NOTICE),
    "photos": (photos, "Sample images of scikit-learn (CC BY) and Matplotlib (public domain)."),
}
"""More sets, whose runs teach the forecast what other people's pictures may be like."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.datasets", description=(__doc__ or "").split(":")[0] + ".")
    parser.add_argument("out", type=Path, help="the folder that gets a folder for each data set")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(SETS)}; also {', '.join(MORE)}")
    arguments = parser.parse_args(argv)
    known = SETS | MORE
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no data set is called {', '.join(unknown)}; choose from {', '.join(known)}")
    for name in arguments.names or SETS:
        began = time.monotonic()
        draw, notice = known[name]
        try:
            counts = write_folders(arguments.out / name, draw(), f"{notice}\n")
        except (FileNotFoundError, MakeEmojiError) as error:
            parser.error(str(error))
        print(f"{name}: {time.monotonic() - began:.1f} s\n{table(counts)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
