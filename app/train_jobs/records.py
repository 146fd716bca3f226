"""The routes for what a train job has stored so far: checkpoints, evaluations, sample grids, training curves, log."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.paging import LARGEST_ID
from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.http.accept import choose
from darkroom.app.http.digits import DIGITS
from darkroom.app.http.file_answer import FileRequestHere, artifact_answer, documented_file
from darkroom.app.http.problems import Problem, documented
from darkroom.app.model_registry.schemas import VersionFigure
from darkroom.app.train_jobs.routes import JobId
from darkroom.app.train_jobs.service import get_train_job
from darkroom.store.figure_repository import job_figures
from darkroom.store.run_repository import job_checkpoints, job_curve, job_samples, log_after
from darkroom.store.tables import JobSamples

router = APIRouter(tags=["training"])

LARGEST_NUMBER = 2**31 - 1
_READ = documented(404, 422, 500, 503)


class SavedCheckpoint(BaseModel):
    """A model version that the job saved. reference: its name in requests, NAME@NUMBER."""

    images_seen: int
    version: int
    digest: str
    reference: str
    size_bytes: int
    metrics: dict[str, float]
    weights_kept: bool = Field(description="the weights are stored: it can draw images, and a job can begin with it")
    state_kept: bool = Field(description="the training state is stored: a job can continue from it")
    best: bool
    created_at: datetime


class CheckpointsAnswer(BaseModel):
    """Checkpoints, newest first."""

    checkpoints: list[SavedCheckpoint]


class FigureAnswer(VersionFigure):
    """A checkpoint's figure.

    protocol: everything besides the weights that determines the figure. Only figures with equal protocols can be
    compared. protocol_string: the same in one line, without settings that have no effect.
    """

    images_seen: int
    version: int
    protocol: dict[str, Any]
    seconds: float
    created_at: datetime


class EvaluationsAnswer(BaseModel):
    """Figures in the order of images seen."""

    evaluations: list[FigureAnswer]


class SamplesLink(BaseModel):
    """A sample grid. picture: address of the PNG."""

    images_seen: int
    picture: str
    created_at: datetime


class SamplesAnswer(BaseModel):
    """Sample grids, oldest first."""

    samples: list[SamplesLink]


class MetricsAnswer(BaseModel):
    """The training curves as columns of equal length.

    Each value is a mean over one stretch of the job; all stretches are equally long. images_seen: the stretch's end.
    """

    images_seen: list[int]
    loss: list[float]
    gradient_norm: list[float]
    learning_rate: list[float]
    images_per_second: list[float]
    memory_bytes: list[int]


class LogLineAnswer(BaseModel):
    """A line that the training process wrote."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    attempt: int
    line: str
    created_at: datetime


class LogAnswer(BaseModel):
    """Lines in order. next_after: pass it as `after` to get the lines that follow."""

    lines: list[LogLineAnswer]
    next_after: int


@router.get("/train-jobs/{job_id}/checkpoints", responses=_READ)
def checkpoints(job_id: JobId, services: ServicesHere, caller: CallerHere) -> CheckpointsAnswer:
    """The checkpoints that the job has saved."""
    with services.transaction() as session:
        job = get_train_job(session, job_id, caller.owner)
        return CheckpointsAnswer(
            checkpoints=[
                SavedCheckpoint(
                    images_seen=saved.images_seen,
                    version=row.version,
                    digest=row.digest,
                    reference=f"{job.model_name}@{row.version}",
                    size_bytes=row.size_bytes,
                    metrics=row.metrics,
                    weights_kept=row.artifact_digest is not None,
                    state_kept=saved.state_digest is not None,
                    best=row.id == job.best_checkpoint_id,
                    created_at=saved.created_at,
                )
                for saved, row in job_checkpoints(session, job_id)
            ]
        )


@router.get("/train-jobs/{job_id}/evaluations", responses=_READ)
def evaluations(job_id: JobId, services: ServicesHere, caller: CallerHere) -> EvaluationsAnswer:
    """The figures of the job's checkpoints."""
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        return EvaluationsAnswer(
            evaluations=[
                FigureAnswer(images_seen=images_seen, version=version, created_at=row.created_at, **row.figure.plain())
                for images_seen, version, row in job_figures(session, "evaluation", job_id)
            ]
        )


@router.get("/train-jobs/{job_id}/samples", responses=_READ)
def samples(job_id: JobId, services: ServicesHere, caller: CallerHere) -> SamplesAnswer:
    """The sample grids that the job has drawn."""
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        return SamplesAnswer(
            samples=[
                SamplesLink(
                    images_seen=row.images_seen,
                    picture=f"/v1/train-jobs/{job_id}/samples/{row.images_seen}",
                    created_at=row.created_at,
                )
                for row in job_samples(session, job_id)
            ]
        )


@router.get(
    "/train-jobs/{job_id}/samples/{images_seen}",
    response_class=Response,
    responses=_READ | documented_file("The sample grid", "image/png"),
)
def picture(
    job_id: JobId,
    images_seen: Annotated[int, DIGITS, Path(ge=0, le=LARGEST_ID)],
    services: ServicesHere,
    caller: CallerHere,
    asked: FileRequestHere,
) -> Response:
    """A sample grid as PNG, with one line for each class."""
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        row = session.get(JobSamples, (job_id, images_seen))
        if row is None:
            raise Problem(404, "no-such-samples", f"job {job_id} has no sample grid at {images_seen} images")
    return artifact_answer(services.store, row.digest, asked, "image/png")


@router.get("/train-jobs/{job_id}/metrics", responses=_READ)
def metrics(
    job_id: JobId,
    services: ServicesHere,
    caller: CallerHere,
    points: Annotated[int, DIGITS, Query(ge=1, le=5000)] = 200,
) -> MetricsAnswer:
    """The training curves, in at most `points` points."""
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        lines = job_curve(session, job_id, points)
    return MetricsAnswer(**{name: [getattr(line, name) for line in lines] for name in MetricsAnswer.model_fields})


@router.get(
    "/train-jobs/{job_id}/logs",
    response_class=JSONResponse,
    responses=documented(404, 406, 422, 500, 503)
    | {200: {"model": LogAnswer, "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def logs(
    job_id: JobId,
    request: Request,
    services: ServicesHere,
    caller: CallerHere,
    after: Annotated[int, DIGITS, Query(ge=0, le=LARGEST_NUMBER, description="the number of the last line seen")] = 0,
    limit: Annotated[int, DIGITS, Query(ge=1, le=5000)] = 500,
) -> Response:
    """Log lines as JSON or, if Accept asks for it, as plain text (with the header Darkroom-Next-After)."""
    media = choose(request.headers.get("accept", ""), ("application/json", "text/plain"))
    if media is None:
        raise Problem(406, "not-acceptable", "Accept must allow application/json or text/plain")
    with services.transaction() as session:
        get_train_job(session, job_id, caller.owner)
        rows = log_after(session, job_id, after, limit)
    next_after = rows[-1].number if rows else after
    headers = {"Darkroom-Next-After": str(next_after), "Vary": "Accept"}
    if media == "text/plain":
        return PlainTextResponse("".join(f"{row.line}\n" for row in rows), headers=headers)
    answer = LogAnswer(lines=[LogLineAnswer.model_validate(row) for row in rows], next_after=next_after)
    return Response(answer.model_dump_json(), media_type=media, headers=headers)
