"""Trains Darkroom and keeps the time: `python -m bench.peers.darkroom RECIPE FOLDER`, in Darkroom's environment.

It runs `darkroom train`, which can be stopped and resumed as usual, and adds up the processor time of all parts. Unlike
the peers' time it includes reading the data, writing checkpoints and drawing sample grids. The time of a killed part is
lost, so stop a run for the comparison only with Ctrl-C or SIGTERM.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from bench.peers.train import CACHE
from darkroom.model.checkpoint import write_atomically
from darkroom.model.user_error import ending_in_one_line

CORE_SECONDS = "core_seconds.json"


def core_seconds(folder: Path) -> float:
    """Return the processor time of the run in a folder, over all its parts."""
    pieces: list[float] = json.loads((folder / CORE_SECONDS).read_text())
    return sum(pieces)


def main() -> int:
    """Run the command line; returns the exit status of `darkroom train`."""
    from darkroom.app.cli.train import run_training

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    kept = arguments.folder / CORE_SECONDS
    pieces = json.loads(kept.read_text()) if kept.exists() else []
    status = run_training(arguments.recipe, arguments.folder, CACHE, None, long=True)
    write_atomically(kept, (json.dumps([*pieces, round(time.process_time(), 1)]) + "\n").encode())
    return status


if __name__ == "__main__":
    with ending_in_one_line():
        sys.exit(main())
