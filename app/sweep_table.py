"""A sweep's comparison: a row a job, and a group for each combination of values, over its seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.config import MOVED
from model.curve_point import CurvePoint
from store.job_views import BestCheckpoint
from store.tables import Job, JobStatus, Sweep


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
    """The comparison, in the order of the grid."""

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]


def build_table(
    sweep: Sweep,
    jobs: Sequence[Job],
    last: Mapping[int, CurvePoint],
    best: Mapping[int, BestCheckpoint],
) -> SweepTable:
    """The comparison of these jobs. last, best: by job."""
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
    return SweepTable(rows, _groups(rows))


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
    """The field's value; of a field that has moved since the sweep named it, at its place of now."""
    path = tuple(name.split("."))
    found = _at(recipe, path)
    return _at(recipe, MOVED[path]) if found is None and path in MOVED else found


def _at(recipe: Mapping[str, Any], path: Sequence[str]) -> Any:
    here: Any = recipe
    for part in path:
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
