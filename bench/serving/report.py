"""Writes the page of the comparison from its measurements. No number is typed."""

import math
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

MEASUREMENTS, PAGE = Path("bench/results/serving/measurements.jsonl"), Path("docs/performance.md")
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


CONDITIONS = ("machine", "code", "weights", "length of a load")
"""Fields of a record that say under which conditions it was measured."""

QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
TIMES = {
    (kind, name): Figure(f"{kind} {name}", _quantile(kind, share))
    for kind, *_ in MIX
    for name, share in QUANTILES.items()
}
THROUGHPUT = Figure("row-steps/s", row_steps_per_second, max, 0)
COMPARED = {TIMES["small", "p50"]: 1.0, TIMES["small", "p99"]: 1 / 16, TIMES["large", "p50"]: 1.3, THROUGHPUT: 1.3}
"""The figures of the comparison, with the goal for Darkroom's divided by the best peer's."""


def server_of(contender: str) -> str:
    """Return the server of a contender's name."""
    return contender.split(",")[0]


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


def pooled(records: Sequence[Json]) -> Json:
    """Return the record of one load that has the requests and the seconds of all rounds."""
    answered = [one for record in records for one in record["answered"]]
    return {"answered": answered, "seconds": sum(record["seconds"] for record in records)}


def missed(records: Sequence[Json]) -> str:
    """Return how many requests of all rounds were not answered."""
    return f"{sum(map(unanswered, records))} of {sum(len(record['answered']) for record in records)}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join([_row(heads), _row(["---"] * len(heads)), *map(_row, rows)])


def load_table(found: Loads) -> str:
    """Return the figures over the requests of all rounds together."""
    kinds = [f"{kind} {' / '.join(QUANTILES)}" for kind in SIZES]
    rows = []
    for (rate, contender), records in found.items():
        load = pooled(records)
        times = [" / ".join(f"{TIMES[kind, name].value(load):.2f}" for name in QUANTILES) for kind in SIZES]
        counts = " / ".join(str(len(seconds_of(load, kind))) for kind in SIZES)
        speed = f"{THROUGHPUT.value(load):.0f}"
        rows.append([f"{rate:g}", contender, str(len(records)), counts, *times, speed, missed(records)])
    heads = ["requests/s", "server", "rounds", f"answered: {' / '.join(SIZES)}", *kinds]
    return _table([*heads, THROUGHPUT.title, "not answered"], rows)


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


def comparable(found: Loads, rate: float) -> Loads:
    """Return the loads of a rate, without the arrangements of a server that ran in fewer rounds than its best one."""
    most: dict[str, int] = {}
    of_rate = {key: records for key, records in found.items() if key[0] == rate}
    for (_, contender), records in of_rate.items():
        most[server_of(contender)] = max(most.get(server_of(contender), 0), len(records))
    return {key: records for key, records in of_rate.items() if len(records) == most[server_of(key[1])]}


def comparison_table(found: Loads) -> str:
    """Return Darkroom's figures, divided by those of the peer that is best in that figure.

    A cell also says how many requests each of the two did not answer, if any: such a request counts in no figure.
    """
    rows = []
    for rate in dict.fromkeys(rate for rate, _ in found):
        of_rate = {who: records for (_, who), records in comparable(found, rate).items()}
        ours = next((records for who, records in of_rate.items() if server_of(who) == DARKROOM), None)
        peers = {who: records for who, records in of_rate.items() if server_of(who) != DARKROOM}
        if ours is None or not peers:
            continue
        cells = [_compared(figure, ours, peers) for figure in COMPARED]
        rows.append([f"{rate:g}", *cells])
    return _table(["requests/s", *(f"{figure.title} (goal {goal:.3g})" for figure, goal in COMPARED.items())], rows)


def _compared(figure: Figure, ours: Sequence[Json], peers: Mapping[str, Sequence[Json]]) -> str:
    values = {who: figure.value(pooled(records)) for who, records in peers.items()}
    by_value = {value: who for who, value in values.items() if not math.isnan(value)}
    if not by_value:
        return ""
    best = figure.best(by_value)
    peer = by_value[best]
    ratio = f"{figure.value(pooled(ours)) / best:.2f} ({peer})"
    if not any(map(unanswered, [*ours, *peers[peer]])):
        return ratio
    return f"{ratio}; not answered: {missed(ours)} ({DARKROOM}), {missed(peers[peer])} ({peer})"


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
    servers = list(dict.fromkeys(map(server_of, names)))
    for name in names:
        server = server_of(name)
        arrangement = [one for one in names if server_of(one) == server].index(name)
        look = {"color": f"C{servers.index(server)}", "marker": "o", "linestyle": ("-", "--")[arrangement % 2]}
        for panel, figure in zip(panels, (TIMES["small", "p99"], TIMES["large", "p50"]), strict=False):
            points = [(rate, figure.value(pooled(records))) for (rate, who), records in found.items() if who == name]
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
    told = {name: ", ".join(sorted({str(record[name]) for record in records})) for name in CONDITIONS}
    conditions = ". ".join(f"{name.capitalize()}: {value}" for name, value in told.items())
    pins = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    mix = ", ".join(
        f"{share:.0%} {kind} ({images} image{'s' * (images > 1)} in {steps} steps)"
        for kind, images, steps, share in MIX
    )
    return f"""# Performance under load

`python -m bench.serving` makes this page from its measurements.

Requests arrive at random times that do not depend on the answers: {mix}. Every step is guided by 2, and the sampler is
DDIM. All servers host the same weights, draw with Darkroom's network and sampler, and answer with the same images. They
take turns, each round in another order; a round has the same arrivals for all. The client, on the same machine, waits
for every answer.

A name such as "LitServe, 2x1" means two processes with one OpenMP thread each. Darkroom runs as it starts by itself.
Every peer runs both ways in the first round, and goes on in the one that drew most under the highest load. In all of
them, as in Darkroom, the network has all threads of its process and PyTorch's operations have one.
FastAPI draws one request at a time in each process. LitServe draws batches of at most 16 requests, BentoML of 16
images, and Ray Serve of 32 images, which is its least for this mix. The peers' programs are in `bench/serving/peers/`.

{conditions}. Packages: {", ".join(pins)}.

![Latency against load, and throughput against batch]({picture_name})

## Latency and throughput

Seconds from the planned arrival to the answer, and images times steps a second, of all rounds together. p99 of up
to a hundred requests is their maximum.

{load_table(found)}

## Darkroom against the best peer

Each cell has Darkroom's figure divided by that of the peer which is best in this figure, and its name. An arrangement
that ran in the first round only decides no cell. The goal for the large requests is for loads below capacity. The goal
for row-steps/s is for the load above capacity.

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
