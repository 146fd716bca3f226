"""Compares all contenders by the results of `bench.peers.score`: `python -m bench.peers.table`.

The first table has each contender's network and sampler with the lowest distance, and the next tables everything that
was tried. Distances depend on the number of images, so a table compares results of one number only. The first uses the
largest number that all contenders have.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from bench.peers.score import RESULTS
from darkroom.model.checkpoint import write_atomically

Result = dict[str, Any]

FID = "fid-efficientnet-lite0"
GOAL_RATIO = 0.7
"""Goal for Darkroom's distance divided by the better peer's."""
DARKROOM = "Darkroom"

HEAD = (
    "| contender | network | parameters | images seen | core minutes | images per core second | sampler | FID "
    "| KID x 1000 | precision | recall | agreement |"
)
RULE = "| --- | --- |" + " ---: |" * 4 + " --- |" + " ---: |" * 5


def common_counts(results: Iterable[Result]) -> list[int]:
    """Return the numbers of images that all contenders have results for, largest first; raises ValueError if none."""
    counts: dict[str, set[int]] = {}
    for result in results:
        counts.setdefault(result["contender"], set()).add(result["images"])
    shared = set.intersection(*counts.values()) if counts else set()
    if not shared:
        raise ValueError(f"no number of images is common to all contenders: {counts}; score equal numbers")
    return sorted(shared, reverse=True)


def line(result: Result) -> str:
    """Return a line of the table."""
    figures, extractor = result["figures"], FID.removeprefix("fid-")
    minutes = result["train_seconds"] / 60.0
    cells = (
        f"{result['contender']} {result['version']}",
        str(result["network"]),
        f"{result['parameters']:,}",
        f"{result['images_seen']:,}",
        f"{minutes:.1f}",
        f"{result['images_seen'] / result['train_seconds']:.1f}",
        f"{result['sampler']}, {result['steps']} steps, guidance {result['guidance']:g}"
        + "".join(f", {setting} {result[setting]}" for setting in ("spacing", "threshold") if setting in result),
        f"{figures[FID]:.2f}",
        f"{1000.0 * figures[f'kid-{extractor}']:.2f}",
        f"{figures[f'precision-{extractor}']:.3f}",
        f"{figures[f'recall-{extractor}']:.3f}",
        f"{figures['agreement']:.1%}",
    )
    return "| " + " | ".join(cells) + " |"


def best(results: Iterable[Result]) -> list[Result]:
    """Return each contender's result with the lowest distance, the lowest first."""
    found: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: float(result["figures"][FID])):
        found.setdefault(result["contender"], result)
    return list(found.values())


def verdict(results: Sequence[Result]) -> str:
    """Compare Darkroom with the better peer. results: as `best` returns them."""
    ours = [result["figures"][FID] for result in results if result["contender"] == DARKROOM]
    theirs = [result for result in results if result["contender"] != DARKROOM]
    if not ours or not theirs:
        return "Darkroom and a peer are needed for a comparison."
    ratio = ours[0] / theirs[0]["figures"][FID]
    reached = "reached" if ratio <= GOAL_RATIO else "missed"
    return (
        f"Darkroom's distance is {ratio:.2f} times that of the better peer ({theirs[0]['contender']}); "
        f"the goal of at most {GOAL_RATIO:g} is {reached}."
    )


def table(results: Sequence[Result]) -> str:
    """Return Markdown: the best of each, the verdict, and all results. Raises ValueError like `common_counts`."""
    counts = common_counts(results)
    compared = {count: [result for result in results if result["images"] == count] for count in counts}
    lines = [
        f"The best of each with {counts[0]:,} images. FID is {FID}, against all training images. With few images it is "
        "too large, by about the same amount for all contenders, which brings their ratios nearer to 1. KID has no "
        "such bias.",
        "",
        *(HEAD, RULE, *map(line, best(compared[counts[0]]))),
    ]
    for count, tried in compared.items():
        tried = sorted(tried, key=lambda result: (result["contender"], result["figures"][FID]))
        lines += ["", f"All results with {count:,} images:", "", HEAD, RULE, *map(line, tried)]
        lines += ["", verdict(best(tried))]
    return "\n".join(lines)


def main() -> None:
    """Print the table, and keep it for docs/results.md."""
    try:
        text = table([json.loads(path.read_text()) for path in sorted(RESULTS.glob("*/*.json"))])
    except ValueError as error:
        sys.exit(str(error))
    print(text)
    write_atomically(RESULTS.with_suffix(".md"), f"{text}\n".encode())


if __name__ == "__main__":
    main()
