"""Measures the Fréchet distance of every sampler at every step count, for a table, a plot and the weights file.

python -m bench.frontier CHECKPOINT [--out FOLDER] [--images N] [--guidance W] [--samplers NAME ...] [--steps N ...]
                         [--spacing NAME] [--write FILE]

Each figure is written to FOLDER/frontier.jsonl at once. A rerun measures only those that are missing there and in the
weights file itself.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from bench.judge import CACHE_PATH, RECIPE_PATH, positive, with_overrides
from darkroom.model.checkpoint import CheckpointError, load_checkpoint, write_atomically
from darkroom.model.config import FRONTIER_SAMPLERS, EvaluationConfig, RecipeError, SpacingName, load_recipe
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.figure import Figure
from darkroom.model.metrics.evaluation import EvaluationError, FolderReferences
from darkroom.model.metrics.extractor import MetricsUnavailable
from darkroom.model.metrics.frontier import WITHIN, Frontier, FrontierPoint, choose, efficient, frontiers
from darkroom.model.metrics.frontier_measurement import STEPS, frontier_cells, measure_frontier, with_evaluations

MARKERS = "osX"
"""A plot has ten colours; the eleventh line begins again with the next marker."""


def read_cells(path: Path, weights: str) -> list[Figure]:
    """Return the figures measured with these weights, [] when there is no such file; a line cut short is left out."""
    if not path.exists():
        return []
    cells = []
    for line in path.read_text().splitlines():
        try:
            cells.append(_cell(**json.loads(line)))
        except (ValueError, TypeError):
            print(f"{path}: left out a line that is no figure; it is measured again", file=sys.stderr)
    return [figure for measured, figure in cells if measured == weights]


def append_cell(path: Path, weights: str, figure: Figure) -> None:
    """Add a line to the results file: the figure, and the digest of the weights that it was measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    lines.append(json.dumps({"weights": weights, **asdict(figure)}))
    write_atomically(path, "".join(line + "\n" for line in lines).encode())


def _cell(weights: str, **figure: Any) -> tuple[str, Figure]:
    return weights, Figure(**figure)


def point_name(point: FrontierPoint) -> str:
    """Name a point by its sampler and those settings that are not the usual ones."""
    parts: list[str] = [point.sampler]
    parts += [point.spacing] * (point.spacing != "trailing")
    parts += [f"eta {point.eta:g}"] * (point.sampler == "ddim" and point.eta > 0.0)
    parts += [point.variance] * (point.sampler == "ddpm" and point.variance == "beta")
    return " ".join(parts)


def _rows(frontier: Frontier) -> dict[str, list[FrontierPoint]]:
    by_name = sorted(frontier.points, key=lambda point: (point_name(point), point.steps))
    return {name: list(points) for name, points in groupby(by_name, key=point_name)}


def frontier_table(frontier: Frontier) -> str:
    """A Markdown table, one line per sampler and one column per step count, and the point that each quality picks."""
    counts = sorted({point.steps for point in frontier.points})
    best = set(efficient(frontier.points))
    lines = [
        "| steps | " + " | ".join(map(str, counts)) + " |",
        "| --- |" + " ---: |" * len(counts),
    ]
    for name, points in _rows(frontier).items():
        found = {point.steps: point for point in points}
        cells = [
            ""
            if count not in found
            else f"**{found[count].value:.2f}**"
            if found[count] in best
            else f"{found[count].value:.2f}"
            for count in counts
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("\nBold: no other point is better at the same cost or less.\n")
    for quality in WITHIN:
        chosen = choose(frontier.points, quality)
        lines.append(
            f"* {quality}: {point_name(chosen)}, {chosen.steps} steps, {chosen.network_evaluations} network "
            f"evaluations per image, {frontier.metric} {chosen.value:.2f}"
        )
    return "\n".join(lines)


def frontier_picture(frontier: Frontier, title: str) -> bytes:
    """Plot the distance against the number of steps, one curve per sampler, as PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(_rows(frontier).items()):
        steps, values = [p.steps for p in points], [p.value for p in points]
        look = {"color": f"C{number % 10}", "marker": MARKERS[number // 10 % len(MARKERS)]}
        axes.plot(steps, values, **look, markersize=4, label=name)
    counts = sorted({point.steps for point in frontier.points})
    axes.set(xscale="log", xlabel="steps", ylabel=frontier.metric, title=title)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _measure(arguments: argparse.Namespace) -> Iterable[str]:
    checkpoint = load_checkpoint(arguments.checkpoint)
    recipe = checkpoint.header.recipe or load_recipe(arguments.recipe)
    dataset = load_dataset(recipe.dataset, cache=arguments.cache)
    denoiser = checkpoint.denoiser(torch.device(arguments.device))
    wanted = {"guidance": arguments.guidance, "spacing": arguments.spacing}
    sampling = with_overrides(checkpoint.header.sampling, wanted)
    cells = frontier_cells(sampling, arguments.samplers, arguments.steps, checkpoint.header.model.schedule)
    config = EvaluationConfig(
        every_images=1, images=arguments.images, seed=arguments.seed, batch_images=arguments.batch_images
    )
    results = arguments.out / "frontier.jsonl"
    stored = checkpoint.header.evaluations
    known = [*stored, *read_cells(results, checkpoint.digest)]
    measured = measure_frontier(
        denoiser,
        checkpoint.digest,
        dataset,
        config,
        cells,
        FolderReferences(arguments.cache / "references"),
        known=known,
        split=recipe.dataset.split,
    )
    for one in measured:
        append_cell(results, checkpoint.digest, one)
        told = f"{one.protocol['sampler']}, {one.protocol['steps']} steps: {one.metric} {one.value:.2f}"
        print(f"{told} ({one.seconds:.0f} s)", file=sys.stderr)
    found = read_cells(results, checkpoint.digest)
    for number, frontier in enumerate(frontiers([*stored, *found], checkpoint.header.model.schedule)):
        title = f"{checkpoint.header.name}, guidance {frontier.guidance:g}, {frontier.images:,} images"
        picture = arguments.out / f"frontier-{number}.png"
        write_atomically(picture, frontier_picture(frontier, title))
        yield f"{title}: {frontier.metric} by sampler and steps ({picture})\n\n{frontier_table(frontier)}\n"
    if arguments.write is not None:
        write_atomically(arguments.write, with_evaluations(checkpoint, found))
        yield f"written with {len(found)} evaluations more: {arguments.write}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.frontier", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path(".darkroom/bench/frontier"), help="results, pictures")
    parser.add_argument("--images", type=positive, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-images", type=positive, default=64)
    parser.add_argument("--guidance", type=float, help="default: the checkpoint's")
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(FRONTIER_SAMPLERS))
    parser.add_argument("--steps", nargs="+", type=positive, default=list(STEPS))
    parser.add_argument("--spacing", choices=get_args(SpacingName), help="default: the checkpoint's")
    parser.add_argument("--recipe", type=Path, default=RECIPE_PATH, help="recipe, if the file has none")
    parser.add_argument("--cache", type=Path, default=CACHE_PATH)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", type=Path, metavar="FILE", help="weights file to write with all figures")
    arguments = parser.parse_args(argv)
    try:
        for text in _measure(arguments):
            print(text)
    except (
        CheckpointError,
        DatasetError,
        EvaluationError,
        MetricsUnavailable,
        OSError,
        RecipeError,
        ValidationError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
