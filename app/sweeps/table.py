"""A sweep's comparison: one table row for each job, and one group for each combination of values, over its seeds."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darkroom.model.config import MOVED
from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.job_views import BestCheckpoint
from darkroom.store.tables import Job, JobStatus, Sweep


@dataclass(frozen=True)
class SweepRow:
    """A job of the sweep. values: of the varied fields, in the fields' order. loss: from its newest curve point.

    other_protocol: `best` was measured by another protocol than most of the sweep's figures: do not compare them.
    """

    values: Mapping[str, Any]
    seed: int
    job_id: int
    model: str
    status: JobStatus
    images_done: int
    total_images: int
    loss: float | None
    best: BestCheckpoint | None
    other_protocol: bool
    link: str


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of `count` values. sd: with denominator count - 1; None for a single value."""

    count: int
    mean: float
    sd: float | None


@dataclass(frozen=True)
class SweepGroup:
    """The jobs with one combination of values. best: over the jobs' lowest figures of the metric.

    best is None where these figures have several protocols. other_protocol: as in SweepRow, for one of them or all.
    """

    values: Mapping[str, Any]
    job_ids: tuple[int, ...]
    loss: Spread | None
    best: Spread | None
    other_protocol: bool


def common_protocol(best: Iterable[BestCheckpoint]) -> str | None:
    """Return the digest of the protocol of most figures, of equally many the first one's; None without figures."""
    counted = Counter(one.protocol_digest for one in best)
    return max(counted, key=counted.__getitem__, default=None)


def sweep_rows(
    sweep: Sweep,
    jobs: Sequence[Job],
    last: Mapping[int, CurvePoint],
    best: Mapping[int, BestCheckpoint],
) -> list[SweepRow]:
    """Return one row for each job, in the same order. last, best: by job id."""
    common = common_protocol(best[job.id] for job in jobs if job.id in best)
    return [
        SweepRow(
            values={name: _field(job.configuration["recipe"], name) for name in sweep.fields},
            seed=job.configuration["recipe"]["training"]["seed"],
            job_id=job.id,
            model=job.model_name,
            status=job.status,
            images_done=job.images_done,
            total_images=job.total_images,
            loss=last[job.id].loss if job.id in last else None,
            best=best.get(job.id),
            other_protocol=job.id in best and best[job.id].protocol_digest != common,
            link=f"/v1/train-jobs/{job.id}",
        )
        for job in jobs
    ]


def label(values: Mapping[str, Any]) -> str:
    """Describe a combination in one line: the last part of each field's name, with its value."""
    return ", ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in values.items())


def sweep_groups(rows: Sequence[SweepRow]) -> list[SweepGroup]:
    """Group the rows by combination of values, in the order of the grid."""
    together: dict[str, list[SweepRow]] = {}
    for row in rows:
        together.setdefault(json.dumps(row.values), []).append(row)
    return [
        SweepGroup(
            values=runs[0].values,
            job_ids=tuple(run.job_id for run in runs),
            loss=_spread([run.loss for run in runs if run.loss is not None]),
            best=_spread_of([run.best for run in runs if run.best is not None]),
            other_protocol=any(run.other_protocol for run in runs),
        )
        for runs in together.values()
    ]


def _spread_of(best: Sequence[BestCheckpoint]) -> Spread | None:
    several = len({one.protocol_digest for one in best}) > 1
    return None if several else _spread([one.value for one in best])


def _spread(figures: Sequence[float]) -> Spread | None:
    if not figures:
        return None
    sd = statistics.stdev(figures) if len(figures) > 1 else None
    return Spread(len(figures), statistics.fmean(figures), sd)


def _field(recipe: Mapping[str, Any], name: str) -> Any:
    """Return the field's value. A field that has moved since the sweep was made is read at its new place."""
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
