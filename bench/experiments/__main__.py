"""Runs each cell of experiments once: `python -m bench.experiments NAME ... [--jobs 2]`. A rerun continues."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.experiments import ablations, guidance, guides, learned_variance, search, table1
from bench.experiments.cell import run_alone

MODULES = (table1, ablations, learned_variance, guidance, guides, search)
EXPERIMENTS = {module.EXPERIMENT: module.cells for module in MODULES}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.experiments", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("experiments", nargs="+", choices=sorted(EXPERIMENTS), metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes, with one thread each")
    parser.add_argument("--only", nargs="+", metavar="CELL", help="run these cells with all their seeds; default: all")
    arguments = parser.parse_args(argv)
    cells = [cell for name in arguments.experiments for cell in EXPERIMENTS[name]()]
    cells.sort(key=lambda cell: cell.seed)  # the first seed of all experiments before the second
    names = dict.fromkeys(cell.name for cell in cells)
    if unknown := [name for name in arguments.only or () if name not in names]:
        parser.error(f"no cell is called {', '.join(unknown)}; they are {', '.join(names)}")
    cells = [cell for cell in cells if not arguments.only or cell.name in arguments.only]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        for number, line in enumerate(pool.map(run_alone, cells), 1):
            print(f"{number}/{len(cells)} {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
