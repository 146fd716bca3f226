"""/sweeps: submits grids of train jobs and compares them."""

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field, StrictStr
from sqlalchemy.orm import Session

from darkroom.app.dependencies.callers import CallerHere, require_promotion, require_room
from darkroom.app.dependencies.deletion import DryRun, delete, deletion_answers
from darkroom.app.dependencies.idempotency import IdempotencyKey, created_before, note_created
from darkroom.app.dependencies.paging import LARGEST_ID, BeforeId, Limit
from darkroom.app.dependencies.services import ServicesHere, require_json
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.problems import Problem, documented, invalid, pointer_part
from darkroom.app.http.storable import require_storable
from darkroom.app.sweeps.table import SweepGroup, SweepRow, common_protocol, label, sweep_groups, sweep_rows
from darkroom.app.train_jobs.schemas import TrainFields
from darkroom.app.train_jobs.service import (
    Change,
    TrainingPlan,
    make_plan,
    make_work,
    parse_change,
    queue_work,
    require_agreement,
)
from darkroom.model.config import MOVED
from darkroom.store.audit_repository import record
from darkroom.store.deletion import delete_sweep
from darkroom.store.idempotency import SWEEPS
from darkroom.store.job_forms import TrainWork
from darkroom.store.job_views import best_figures, last_curve_points, measured
from darkroom.store.sweep_repository import cancel_sweep, count_jobs, create_sweep, get_sweep, list_sweeps, sweep_jobs
from darkroom.store.tables import Job, JobStatus, Sweep

router = APIRouter(tags=["sweeps"])

MOST_JOBS = 256
LONGEST_PREFIX = 59

SweepId = Annotated[int, DIGITS, Path(ge=1, le=LARGEST_ID)]
Seeds = Annotated[list[Annotated[int, Field(strict=True, ge=0, lt=2**63)]], Field(min_length=1, max_length=MOST_JOBS)]


class SweepRequest(TrainFields):
    """A grid of train jobs: one for each combination of the fields' values and each seed.

    `model` is a prefix: the jobs train the models PREFIX-01, PREFIX-02, ...
    """

    name: StrictStr = Field(min_length=1, max_length=200)
    grid: dict[StrictStr, Annotated[list[Any], Field(min_length=1, max_length=MOST_JOBS)]] = Field(
        {}, max_length=20, description='values to try, by dotted field name: {"optimizer.learning_rate": [1e-4, 3e-4]}'
    )
    seeds: Seeds | None = Field(None, description="values of training.seed; default: the recipe's")


class SweepAnswer(BaseModel):
    """A sweep in a list."""

    id: int
    name: str
    fields: list[str] = Field(description="the varied fields")
    jobs: dict[JobStatus, int] = Field(description="the number of jobs with each status")
    created_at: datetime
    links: dict[str, str]


class SweepsAnswer(BaseModel):
    """One page of sweeps."""

    sweeps: list[SweepAnswer]
    next_before: int | None = Field(description="pass as `before` for the next page; null on the last")


class SweepDetailAnswer(SweepAnswer):
    """A sweep with its comparison. metric: the metric of `best`. protocol: the digest of most of these figures'."""

    configuration: dict[str, Any] = Field(description="the request that created the sweep")
    metric: str | None
    protocol: str | None
    expected_seconds: float | None = Field(
        description="of training, of all jobs one after another, as estimated when they were submitted; null where "
        "nobody knew the speed"
    )
    metrics: list[str] = Field(description="all metrics for which its checkpoints have figures")
    rows: Sequence[SweepRow]
    groups: Sequence[SweepGroup]


Metric = Annotated[
    str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="default: the first of `metrics`")
]


@router.post(
    "/sweeps",
    status_code=202,
    dependencies=[Depends(require_json)],
    responses=documented(400, 409, 410, 413, 415, 422, 500, 503),
)
def submit(
    body: SweepRequest,
    response: Response,
    services: ServicesHere,
    caller: CallerHere,
    idempotency_key: IdempotencyKey = None,
) -> SweepDetailAnswer:
    """Check every combination, then queue all of them or none."""
    require_storable(body)
    require_promotion(services, caller, body.promote)
    combinations = _combinations(body)
    with services.transaction() as session:
        known = created_before(session, SWEEPS, idempotency_key, body)
        if known is None:
            require_room(session, services, caller, len(combinations))
            plan = make_plan(session, services.settings.recipes_folder, body, caller.owner)
            works = require_agreement(session, _works(plan, combinations), body)
            row = create_sweep(session, body.name, body.model_dump(mode="json"), list(body.grid), caller.key_id)
            for work in works:
                services.gate.require_right(caller, priority=body.priority, devices=work.recipe.training.devices)
                queue_work(session, plan, work, sweep_id=row.id, caller=caller)
            facts = {"name": body.name, "jobs": len(works)}
            record(session, caller.actor, "sweep.created", f"sweeps/{row.id}", facts)
            note_created(session, SWEEPS, idempotency_key, row.id)
        else:
            row = get_sweep(session, known, caller.owner)
        answer = _detail(session, row, None)
    if known is None:
        services.hint([row.job_id for row in answer.rows])
    response.headers["Location"] = answer.links["self"]
    return answer


@router.get("/sweeps", responses=documented(422, 500, 503))
def sweeps(
    services: ServicesHere,
    caller: CallerHere,
    before: BeforeId = None,
    limit: Limit = 50,
) -> SweepsAnswer:
    """Sweeps that the caller may use, newest first."""
    with services.transaction() as session:
        rows = list_sweeps(session, before, limit + 1, caller.owner)
        page = rows[:limit]
        counts = count_jobs(session, [row.id for row in page])
        return SweepsAnswer(
            sweeps=[SweepAnswer(**_members(row, counts[row.id])) for row in page],
            next_before=page[-1].id if len(rows) > limit else None,
        )


@router.get("/sweeps/{sweep_id}", responses=documented(404, 422, 500, 503))
def sweep(sweep_id: SweepId, services: ServicesHere, caller: CallerHere, metric: Metric = None) -> SweepDetailAnswer:
    """One sweep with its comparison."""
    with services.transaction() as session:
        return _detail(session, get_sweep(session, sweep_id, caller.owner), metric)


@router.delete(
    "/sweeps/{sweep_id}",
    status_code=204,
    response_class=Response,
    responses=deletion_answers(),
)
def remove(
    sweep_id: SweepId,
    services: ServicesHere,
    caller: CallerHere,
    force: Annotated[bool, Query(description="delete its ended jobs, too")] = False,
    dry_run: DryRun = False,
) -> Response:
    """Delete a sweep and its jobs, like DELETE /v1/train-jobs/{job_id} for each. Their models stay.

    The answer is 409 without `force`, or if a job is unfinished or marked; `dependents` lists the jobs.
    """

    def work(session: Session) -> None:
        delete_sweep(session, caller.actor, sweep_id, force=force and not dry_run, owner=caller.owner)

    return delete(services, dry_run, work)


@router.post("/sweeps/{sweep_id}/cancel", status_code=202, responses=documented(404, 409, 422, 500, 503))
def cancel(sweep_id: SweepId, services: ServicesHere, caller: CallerHere) -> SweepDetailAnswer:
    """Cancel the sweep's unfinished jobs, like POST /v1/train-jobs/{job_id}/cancel for each.

    The answer is 409 when all of them have ended.
    """
    with services.transaction() as session:
        row = cancel_sweep(session, sweep_id, caller.owner)
        record(session, caller.actor, "sweep.cancelled", f"sweeps/{sweep_id}")
        session.flush()
        return _detail(session, row, None)


def _combinations(body: SweepRequest) -> list[tuple[Change, ...]]:
    """Return the grid's combinations. The last field varies faster than those before it, and seeds vary fastest.

    Raises Problem.
    """
    if not body.grid and not body.seeds:
        raise invalid([("/grid", "nothing varies: give values of a field here, or give seeds")])
    columns = {
        f"/grid/{pointer_part(name)}": [
            parse_change(name, value, f"/grid/{pointer_part(name)}/{place}") for place, value in enumerate(values)
        ]
        for name, values in body.grid.items()
    }
    if body.seeds is not None:
        columns["/seeds"] = [
            Change(("training", "seed"), seed, f"/seeds/{place}") for place, seed in enumerate(body.seeds)
        ]
    _require_apart(columns)
    count = 1
    for column in columns.values():
        count *= len(column)
    if count > MOST_JOBS:
        raise invalid([("/grid", f"has {count} combinations; at most {MOST_JOBS} are allowed")])
    return list(itertools.product(*columns.values()))


def _require_apart(columns: Mapping[str, list[Change]]) -> None:
    """Raise Problem if a field has a value twice, or if one field is a part of another."""
    for pointer, column in columns.items():
        texts = [json.dumps(one.value, sort_keys=True) for one in column]
        if len(set(texts)) < len(texts):
            raise invalid([(pointer, "contains a value twice")])
    paths = {pointer: MOVED.get(column[0].path, column[0].path) for pointer, column in columns.items()}
    for (_, one), (pointer, other) in itertools.permutations(paths.items(), 2):
        if other[: len(one)] == one:
            raise invalid([(pointer, f"is set by {'.'.join(one)} too; leave one out")])


def _works(plan: TrainingPlan, combinations: list[tuple[Change, ...]]) -> list[TrainWork]:
    """Return each combination's work. Raises Problem, which names the combination."""
    if len(plan.name) > LONGEST_PREFIX:
        detail = f"{plan.name!r} is longer than {LONGEST_PREFIX} characters; numbers are appended to it"
        raise invalid([("/model", detail)])
    digits = max(2, len(str(len(combinations))))
    works = []
    for number, combination in enumerate(combinations, 1):
        try:
            works.append(make_work(plan, name=f"{plan.name}-{number:0{digits}d}", more=combination))
        except Problem as fault:
            named = label({one.name: one.value for one in combination})
            raise Problem(
                fault.status, fault.kind, f"combination {number} ({named}): {fault.detail}", **fault.extra
            ) from fault
    return works


def _detail(session: Session, row: Sweep, metric: str | None) -> SweepDetailAnswer:
    """Return the sweep with its comparison by this metric, else by the first one measured. Raises Problem."""
    jobs = sweep_jobs(session, row.id)
    job_ids = [job.id for job in jobs]
    metrics = list(measured(session, job_ids))
    if metric is not None and metric not in metrics:
        raise invalid([("metric", f"was not measured; choose from: {', '.join(metrics) or 'none'}")])
    chosen = metric or (metrics[0] if metrics else None)
    best = best_figures(session, job_ids, chosen) if chosen else {}
    rows = sweep_rows(row, jobs, last_curve_points(session, job_ids), best)
    return SweepDetailAnswer(
        **_members(row, count_jobs(session, [row.id])[row.id]),
        configuration=row.configuration,
        metric=chosen,
        protocol=common_protocol(best.values()),
        expected_seconds=_expected_seconds(jobs),
        metrics=metrics,
        rows=rows,
        groups=sweep_groups(rows),
    )


def _expected_seconds(jobs: Sequence[Job]) -> float | None:
    seconds: list[Any] = [job.configuration.get("expected_seconds") for job in jobs]
    return None if None in seconds else sum(seconds)


def _members(row: Sweep, jobs: Mapping[JobStatus, int]) -> dict[str, Any]:
    here = f"/v1/sweeps/{row.id}"
    return {
        "id": row.id,
        "name": row.name,
        "fields": row.fields,
        "jobs": jobs,
        "created_at": row.created_at,
        "links": {"self": here},
    }
