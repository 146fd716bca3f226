"""A sweep's comparison: a row a job, and a group for each combination of values, over its seeds."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from store.job_views import BestCheckpoint
from store.run_repository import MetricLine
from store.tables import Job, JobStatus, Sweep

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A job of the sweep. values: of the varied fields, in their order. loss: of its newest metrics."""

    job_id: int
    model: str
    values: Mapping[str, Any]
    seed: int
    status: JobStatus
    images_done: int
    total_images: int
    loss: float | None
    best: BestCheckpoint | None


@dataclass(frozen=True)
class Spread:
    """Of `count` figures. sd: with count - 1 in the denominator; None of a single one."""

    count: int
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Group:
    """The runs of one combination of values. best: over the runs' lowest values of the metric."""

    values: Mapping[str, Any]
    job_ids: tuple[int, ...]
    loss: Spread | None
    best: Spread | None


@dataclass(frozen=True)
class SweepTable:
    """The comparison. metric: what `best` is measured by; None while nothing was evaluated."""

    fields: tuple[str, ...]
    metric: str | None
    rows: tuple[Row, ...]
    groups: tuple[Group, ...]


def build_table(
    sweep: Sweep,
    jobs: Sequence[Job],
    last: Mapping[int, MetricLine],
    best: Mapping[int, BestCheckpoint],
    metric: str | None,
) -> SweepTable:
    """The comparison in the order of the grid."""
    rows = tuple(
        Row(
            job_id=job.id,
            model=job.model_name,
            values={name: _field(job.configuration["recipe"], name) for name in sweep.fields},
            seed=job.configuration["recipe"]["training"]["seed"],
            status=job.status,
            images_done=job.images_done,
            total_images=job.total_images,
            loss=last[job.id].loss if job.id in last else None,
            best=best.get(job.id),
        )
        for job in jobs
    )
    return SweepTable(tuple(sweep.fields), metric, rows, _groups(rows))


def sort_keys(fields: Sequence[str]) -> tuple[str, ...]:
    """What a table can be sorted by."""
    return ("job", "seed", "status", "loss", "best", *fields)


def sort_table(table: SweepTable, by: str, *, descending: bool) -> SweepTable:
    """Rows and groups in that order; those without a figure come last either way. by: one of `sort_keys`."""
    rows = _sorted(table.rows, lambda row: _row_key(row, by), descending=descending)
    groups = _sorted(table.groups, lambda group: _group_key(group, by), descending=descending)
    return SweepTable(table.fields, table.metric, rows, groups)


def label(values: Mapping[str, Any]) -> str:
    """A combination in a line: the fields' last names with their values."""
    return ", ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in values.items())


def _groups(rows: Sequence[Row]) -> tuple[Group, ...]:
    together: dict[str, list[Row]] = {}
    for row in rows:
        together.setdefault(json.dumps(row.values), []).append(row)
    return tuple(
        Group(
            values=runs[0].values,
            job_ids=tuple(run.job_id for run in runs),
            loss=_spread([run.loss for run in runs if run.loss is not None]),
            best=_spread([run.best.value for run in runs if run.best is not None]),
        )
        for runs in together.values()
    )


def _spread(figures: Sequence[float]) -> Spread | None:
    if not figures:
        return None
    sd = statistics.stdev(figures) if len(figures) > 1 else None
    return Spread(len(figures), statistics.fmean(figures), sd)


def _field(recipe: Mapping[str, Any], name: str) -> Any:
    here: Any = recipe
    for part in name.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def _row_key(row: Row, by: str) -> Any:
    match by:
        case "job":
            return row.job_id
        case "seed":
            return row.seed
        case "status":
            return row.status
        case "loss":
            return row.loss
        case "best":
            return row.best.value if row.best else None
        case field:
            return row.values[field]


def _group_key(group: Group, by: str) -> Any:
    match by:
        case "job" | "seed" | "status":  # what a group has several of
            return group.job_ids[0]
        case "loss":
            return group.loss.mean if group.loss else None
        case "best":
            return group.best.mean if group.best else None
        case field:
            return group.values[field]


def _sorted(items: Sequence[T], key: Callable[[T], Any], *, descending: bool) -> tuple[T, ...]:
    known = [item for item in items if key(item) is not None]
    known.sort(key=lambda item: _comparable(key(item)), reverse=descending)
    return (*known, *(item for item in items if key(item) is None))


def _comparable(value: Any) -> tuple[float, str]:
    """Numbers by size, before all else by its text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value, "") if number else (math.inf, json.dumps(value))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
