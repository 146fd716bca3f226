"""Writes the page of the comparison from its measurements. No number is typed."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from bench.pictures.origin import write_picture
from bench.scheduling import MIX, SIZES, quantile
from bench.serving.contenders import DARKROOM, REQUIREMENTS
from darkroom.model.checkpoint import write_atomically

Json = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure of a load. value: from its record. best: the better of several, min or max."""

    title: str
    value: Callable[[Json], float]
    best: Callable[[Iterable[float]], float] = min
    digits: int = 2


def seconds_of(record: Json, kind: str) -> list[float]:
    """Return the seconds of the answered requests of a kind."""
    return [seconds for one, status, seconds, _ in record["answered"] if one == kind and status == 200]


def row_steps_per_second(record: Json) -> float:
    """Return images times steps of the answered requests, for each second until the last answer."""
    done = (SIZES[kind] for kind, status, *_ in record["answered"] if status == 200)
    return sum(images * steps for images, steps in done) / record["seconds"]


def _quantile(kind: str, share: float) -> Callable[[Json], float]:
    return lambda record: quantile(seconds_of(record, kind), share)


QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
TIMES = {
    (kind, name): Figure(f"{kind} {name}", _quantile(kind, share))
    for kind, *_ in MIX
    for name, share in QUANTILES.items()
}
THROUGHPUT = Figure("row-steps/s", row_steps_per_second, max, 0)
COMPARED = {TIMES["small", "p50"]: 1.0, TIMES["small", "p99"]: 1 / 16, TIMES["large", "p50"]: 1.3, THROUGHPUT: 1.3}
"""The figures of the comparison, with the goal for Darkroom's divided by the best peer's."""


def unanswered(record: Json) -> int:
    """Return the requests that got another status than 200, or no answer."""
    return sum(status != 200 for _, status, *_ in record["answered"])


Loads = Mapping[tuple[float, str], Sequence[Json]]
"""Records of loads by rate and contender, one of each round."""


def loads(records: Iterable[Json]) -> Loads:
    """Return the records of loads, in the order of their rates."""
    found: dict[tuple[float, str], list[Json]] = {}
    for record in records:
        if "rate" in record:
            found.setdefault((record["rate"], record["contender"]), []).append(record)
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def median(figure: Figure, records: Iterable[Json]) -> float:
    """Return the median of a figure over the rounds."""
    return statistics.median(map(figure.value, records))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join([_row(heads), _row(["---"] * len(heads)), *map(_row, rows)])


def load_table(found: Loads) -> str:
    """Return the medians over the rounds."""
    kinds = [f"{kind} {' / '.join(QUANTILES)}" for kind in SIZES]
    rows = []
    for (rate, contender), records in found.items():
        times = [" / ".join(f"{median(TIMES[kind, name], records):.2f}" for name in QUANTILES) for kind in SIZES]
        missed = f"{sum(map(unanswered, records))} of {sum(len(record['answered']) for record in records)}"
        rows.append([f"{rate:g}", contender, *times, f"{median(THROUGHPUT, records):.0f}", missed])
    return _table(["requests/s", "server", *kinds, THROUGHPUT.title, "not answered"], rows)


def spread_table(found: Loads) -> str:
    """Return the lowest and the highest round."""
    rows = []
    for (rate, contender), records in found.items():
        cells = []
        for figure in COMPARED:
            values = list(map(figure.value, records))
            cells.append(f"{min(values):.{figure.digits}f} to {max(values):.{figure.digits}f}")
        rows.append([f"{rate:g}", contender, str(len(records)), *cells])
    return _table(["requests/s", "server", "rounds", *(figure.title for figure in COMPARED)], rows)


def comparison_table(found: Loads) -> str:
    """Return Darkroom's medians, divided by those of the peer that is best in that figure."""
    rows = []
    for rate in dict.fromkeys(rate for rate, _ in found):
        ours = next((r for (one, who), r in found.items() if one == rate and who.startswith(DARKROOM)), None)
        peers = {who: r for (one, who), r in found.items() if one == rate and not who.startswith(DARKROOM)}
        if ours is None or not peers:
            continue
        cells = []
        for figure in COMPARED:
            theirs = {median(figure, records): who for who, records in peers.items()}
            best = figure.best(theirs)
            cells.append(f"{median(figure, ours) / best:.2f} ({theirs[best]})")
        rows.append([f"{rate:g}", *cells])
    return _table(["requests/s", *(f"{figure.title} (goal {goal:.3g})" for figure, goal in COMPARED.items())], rows)


Alone = Mapping[str, Mapping[int, float]]


def alone(records: Iterable[Json]) -> Alone:
    """Return the median row-steps per second of single requests on an idle server, by contender and images."""
    found: dict[str, dict[int, list[float]]] = {}
    for record in records:
        if "images" in record:
            of_images = found.setdefault(record["contender"], {}).setdefault(record["images"], [])
            of_images += [record["images"] * record["steps"] / seconds for seconds in record["alone"]]
    return {who: {images: statistics.median(v) for images, v in sorted(by.items())} for who, by in found.items()}


def alone_table(found: Alone) -> str:
    """Return row-steps per second by the images of a request."""
    sizes = sorted({images for of_images in found.values() for images in of_images})
    rows = [[who, *(f"{by[size]:.0f}" if size in by else "" for size in sizes)] for who, by in found.items()]
    return _table(["server", *(f"n = {size}" for size in sizes)], rows)


def picture(found: Loads, found_alone: Alone) -> bytes:
    """Plot latency against load, and throughput against batch, as PNG bytes."""
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(13, 4.5), dpi=100, layout="constrained")
    panels = plot.subplots(1, 3)
    names = list(dict.fromkeys([*(who for _, who in found), *found_alone]))
    servers = list(dict.fromkeys(name.split(",")[0] for name in names))
    for name in names:
        server = name.split(",")[0]
        arrangement = [one for one in names if one.split(",")[0] == server].index(name)
        look = {"color": f"C{servers.index(server)}", "marker": "o", "linestyle": ("-", "--")[arrangement % 2]}
        for panel, figure in zip(panels, (TIMES["small", "p99"], TIMES["large", "p50"]), strict=False):
            points = [(rate, median(figure, records)) for (rate, who), records in found.items() if who == name]
            panel.plot([rate for rate, _ in points], [value for _, value in points], **look, markersize=4)
            panel.set(yscale="log", xlabel="requests/s", ylabel=f"{figure.title}, seconds")
        by = found_alone.get(name, {})
        panels[2].plot(list(by), list(by.values()), **look, markersize=4, label=name)
    panels[2].set(xscale="log", xlabel="images of a single request", ylabel=THROUGHPUT.title)
    sizes = sorted({images for by in found_alone.values() for images in by})
    panels[2].set_xticks(sizes, list(map(str, sizes)))
    panels[2].minorticks_off()
    for panel in panels:
        panel.grid(alpha=0.3)
    plot.legend(loc="outside right upper")
    buffer = BytesIO()
    plot.savefig(buffer, format="png")
    return buffer.getvalue()


def page(records: Sequence[Json], picture_name: str) -> str:
    """Return the page in Markdown."""
    found, found_alone = loads(records), alone(records)
    lengths = sorted({record["length"] for of_cell in found.values() for record in of_cell})
    pins = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    length = " or ".join(f"{one:g}" for one in lengths)
    mix = ", ".join(
        f"{share:.0%} {kind} ({images} image{'s' * (images > 1)} in {steps} steps)"
        for kind, images, steps, share in MIX
    )
    return f"""# Performance under load

`python -m bench.serving` makes this page from its measurements.

Requests arrive at random times that do not depend on the answers: {mix}. Every step is guided by 2, and the sampler is
DDIM. All servers host the same weights, draw with Darkroom's network and sampler, and answer with the same images. They
take turns; a round has the same arrivals for all. A load lasts {length} seconds, and the client, on the same machine,
waits for every answer.

A name such as "LitServe, 2x1" means two processes with one OpenMP thread each. Darkroom runs as it starts by itself.
Every peer runs both ways in the first round, and goes on in the one that drew most under the highest load.
FastAPI draws one request at a time in each process. LitServe draws batches of at most 16 requests, BentoML of 16
images, and Ray Serve of 32 images, which is its least for this mix. The peers' programs are in `bench/serving/peers/`.

Machine: {"; ".join(sorted({record["machine"] for record in records}))}. Packages: {", ".join(pins)}.

![Latency against load, and throughput against batch]({picture_name})

## Latency and throughput

Seconds from the planned arrival to the answer, and images times steps a second: the medians of the rounds.

{load_table(found)}

## Darkroom against the best peer

Each cell has Darkroom's figure divided by that of the peer which is best in this figure, and its name. The goal for the
large requests is for loads below capacity. The goal for row-steps/s is for the load above capacity.

{comparison_table(found)}

## The lowest and the highest round

{spread_table(found)}

## Throughput against batch

Images times steps a second of a single request on an idle server, in ten steps.

{alone_table(found_alone)}
"""


def write_page(records: Sequence[Json], source: Path, path: Path) -> None:
    """Write the page, and its picture beside it. source: the file of the measurements."""
    shown = path.with_suffix(".png")
    write_picture(shown, picture(loads(records), alone(records)), [source])
    write_atomically(path, page(records, shown.name).encode())
