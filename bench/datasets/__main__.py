"""Builds data sets as class folders: `python -m bench.datasets OUT [NAME ...]`.

Writes OUT/NAME/{train,test}/CLASS/*.png. The clip art needs Debian's package `openclipart-png`. The same libraries
always give the same bytes.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.datasets.clipart import clipart, topics
from bench.datasets.digits import digits
from bench.datasets.letters import letters
from bench.datasets.textures import textures
from recipes.make_emoji import MakeEmojiError, Picture, table, write_folders

THINGS = ("animals", "food", "people", "plants", "tools", "transportation")
SIGNS = tuple(f"signs_and_symbols/{name}" for name in ("clocks", "flags", "led", "map_symbols", "weather"))
CLIPART_NOTICE = "Open Clip Art Library, dedicated to the public domain (Debian's package openclipart-png)."

SETS: dict[str, tuple[Callable[[], Iterator[Picture]], str]] = {
    "clipart-a": (lambda: clipart(topics(*THINGS), side=64), CLIPART_NOTICE),
    "clipart-b": (lambda: clipart(topics(*SIGNS), side=48), CLIPART_NOTICE),
    "digits": (digits, "Optical recognition of handwritten digits, E. Alpaydin and C. Kaynak, as in scikit-learn."),
    "letters": (letters, "Drawn with the fonts that Matplotlib brings: DejaVu, STIX, Computer Modern."),
    "textures": (textures, "Computed by Darkroom's bench/datasets/textures.py."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.datasets", description=(__doc__ or "").split(":")[0] + ".")
    parser.add_argument("out", type=Path, help="the folder that gets a folder for each data set")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(SETS)}")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.names if name not in SETS]:
        parser.error(f"no data set is called {', '.join(unknown)}; choose from {', '.join(SETS)}")
    for name in arguments.names or SETS:
        began = time.monotonic()
        draw, notice = SETS[name]
        try:
            counts = write_folders(arguments.out / name, draw(), f"{notice}\n")
        except (FileNotFoundError, MakeEmojiError) as error:
            parser.error(str(error))
        print(f"{name}: {time.monotonic() - began:.1f} s\n{table(counts)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
