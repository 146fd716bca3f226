"""All contenders side by side, from the results of `bench.peers.score`: `python -m bench.peers.table`.

Each contender stands with the network and sampler of its lowest distance; all others that were tried follow. Distances
depend on the number of images, so only results of one number are compared: the best by the largest that all have.
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
"""Darkroom's distance over the better peer's: at most this."""
DARKROOM = "Darkroom"

HEAD = (
    "| contender | network | parameters | images seen | core minutes | images a core second | sampler | FID "
    "| KID x 1000 | precision | recall | agreement |"
)
RULE = "| --- | --- |" + " ---: |" * 4 + " --- |" + " ---: |" * 5


def common_counts(results: Iterable[Result]) -> list[int]:
    """Numbers of images that all contenders were measured with, most first. Raises ValueError when there is none."""
    counts: dict[str, set[int]] = {}
    for result in results:
        counts.setdefault(result["contender"], set()).add(result["images"])
    shared = set.intersection(*counts.values()) if counts else set()
    if not shared:
        raise ValueError(f"no number of images is common to all contenders: {counts}")
    return sorted(shared, reverse=True)


def line(result: Result) -> str:
    """A row of the table."""
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
    """Each contender's result of the lowest distance, the lowest first."""
    found: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: float(result["figures"][FID])):
        found.setdefault(result["contender"], result)
    return list(found.values())


def verdict(results: Sequence[Result]) -> str:
    """Darkroom against the better peer. results: as `best` gives them."""
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
    """Markdown: the best of each, the verdict, and everything that was tried. Raises ValueError as `common_counts`."""
    counts = common_counts(results)
    compared = {count: [result for result in results if result["images"] == count] for count in counts}
    lines = [
        f"The best of each with {counts[0]:,} images; FID is {FID}, against all training images. Of few images it is "
        "too large by about the same for all, which brings ratios nearer to 1; KID is not.",
        "",
        *(HEAD, RULE, *map(line, best(compared[counts[0]]))),
    ]
    for count, tried in compared.items():
        tried = sorted(tried, key=lambda result: (result["contender"], result["figures"][FID]))
        lines += ["", f"All that was tried with {count:,} images:", "", HEAD, RULE, *map(line, tried)]
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
