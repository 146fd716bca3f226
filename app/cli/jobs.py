"""`darkroom jobs`: lists, submits, watches and changes train jobs. Prints names as plain text, never as markup."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from darkroom.app.cli import asking
from darkroom.app.cli.asking import DryRun, Force, Off, Url, ask_service
from darkroom.app.cli.assignments import assignments
from darkroom.app.cli.terminal import open_console, plain_table, say

JOBS = "/v1/train-jobs"
LOG_LINES_AT_ONCE = 1000
PATIENCE_SECONDS = 600.0
"""For so long `submit` waits for a worker's speed. A worker that has jobs, or does not measure, may never tell it."""

jobs_cli = typer.Typer(help="Training jobs of a running service.", invoke_without_command=True)

JobId = Annotated[int, typer.Argument(min=1, help="the job's number")]


@jobs_cli.callback()
def jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="only jobs with this status")] = None,
    model: Annotated[str | None, typer.Option(help="only jobs that train this model")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    url: Url = None,
) -> None:
    """Training jobs. Without a command, prints a table of the newest."""
    if context.invoked_subcommand is not None:
        return
    filters = {"status": status, "model": model, "limit": limit}
    asked = {name: value for name, value in filters.items() if value is not None}
    found = ask_service(url, "GET", JOBS, params=asked)["jobs"]
    open_console().print(_table(found) if found else "No jobs.")


@jobs_cli.command()
def submit(
    recipe: Annotated[
        str | None,
        typer.Argument(help="the name of a recipe of the service, or a local YAML file; left out with --minutes"),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="time for a training whose recipe the service plans from the data set")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="a registered data set")] = None,
    model: Annotated[
        str | None, typer.Option(help="the model's name; default: the recipe's, or with --minutes the data set's")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="changes a field of the recipe by dotted name; the value is JSON or text",
        ),
    ] = None,
    priority: Annotated[int, typer.Option(help="jobs of higher priority run first")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    promote: Annotated[
        bool | None,
        typer.Option(
            help="serve the best checkpoint at the end (needs a key with the scope admin); default: only with --minutes"
        ),
    ] = None,
    long: Annotated[bool, typer.Option("--long", help="allow a job that would run for more than a day")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="then watch the job")] = False,
    url: Url = None,
) -> None:
    """Queue a training job by a recipe, or one that is planned from --dataset and --minutes alone.

    darkroom jobs submit digits --set training.total_images=200000 --set 'model={"unet":{"dropout":0.1}}'
    """
    from darkroom.model.config import SettingsError, load_recipe
    from darkroom.model.training.curve_point import duration

    if recipe is None and minutes is None:
        raise SettingsError("say what to train: a recipe's name, or --dataset and --minutes for a planned one")
    local = recipe is not None and Path(recipe).suffix in (".yaml", ".yml")
    fields = {
        "recipe": load_recipe(Path(recipe)).model_dump(mode="json") if recipe and local else recipe,
        "minutes": minutes,
        "long": long or None,
        "overrides": assignments(settings or [], "FIELD=VALUE, such as training.total_images=200000"),
        "dataset": dataset,
        "model": model,
        "priority": priority,
        "device": device,
        "promote": None if promote is None else "best" if promote else "never",
    }
    body = {name: value for name, value in fields.items() if value is not None}
    console = open_console(stderr=True)
    job = _queued(url, body, console)
    work = job["configuration"]
    planned, seconds = work.get("planned"), work.get("expected_seconds")
    expected = "" if seconds is None else f"; it trains for about {duration(seconds)}"
    say(console, f"Job {job['id']} is queued: {job['model']} on {job['dataset']}{expected}")
    for line in [planned["expectation"], *planned["warnings"]] if planned else []:
        say(console, line)
    if watch:
        _watch(url, job["id"])


@jobs_cli.command()
def watch(job_id: JobId, url: Url = None) -> None:
    """Watch a job until it ends; Ctrl-C leaves it running. Exit code 0: it succeeded, 1: it failed or was cancelled."""
    _watch(url, job_id)


@jobs_cli.command()
def cancel(job_id: JobId, url: Url = None) -> None:
    """Cancel a job. A running job first saves a checkpoint; if that takes too long, the worker kills it."""
    _change(url, job_id, "cancel")


@jobs_cli.command()
def resume(job_id: JobId, url: Url = None) -> None:
    """Queue a cancelled job again; it continues from its last checkpoint."""
    _change(url, job_id, "resume")


@jobs_cli.command()
def retry(job_id: JobId, url: Url = None) -> None:
    """Queue a failed job again; it continues from its last checkpoint."""
    _change(url, job_id, "retry")


@jobs_cli.command()
def delete(
    job_id: JobId,
    generate: Annotated[bool, typer.Option("--generate", help="the number is a generate job's")] = False,
    force: Force = False,
    dry_run: DryRun = False,
    url: Url = None,
) -> None:
    """Delete an ended job with its states, curve, log and events; or an ended generate job with its result."""
    what, address = ("Generate job", "/v1/generate-jobs") if generate else ("Job", JOBS)
    force = force and not generate  # nothing hangs on a generate job
    asking.delete(url, f"{address}/{job_id}", f"{what} {job_id}", force=force, dry_run=dry_run)


@jobs_cli.command()
def keep(job_id: JobId, off: Off = False, url: Url = None) -> None:
    """Mark a job, so that its states, curve, log and events stay and nobody can delete it."""
    asking.mark(url, f"{JOBS}/{job_id}", f"Job {job_id}", off=off)


@jobs_cli.command()
def logs(job_id: JobId, url: Url = None) -> None:
    """Print the log of a job's training process."""
    out, path, page = open_console(), f"{JOBS}/{job_id}/logs", {"after": 0, "limit": LOG_LINES_AT_ONCE}
    while lines := ask_service(url, "GET", path, params=page)["lines"]:
        for line in lines:
            say(out, line["line"])
        page["after"] = lines[-1]["number"]


def _queued(url: str | None, body: Mapping[str, Any], console: Console) -> Any:
    """Queue a job. A worker that has just started measures its speed first, and this waits for it."""
    from darkroom.app.cli.service_client import ServiceError, json_body

    waited = 0.0
    while True:
        try:
            return ask_service(url, "POST", JOBS, **json_body(body))
        except ServiceError as error:
            if error.kind != "speed-unknown" or error.retry_after is None or waited >= PATIENCE_SECONDS:
                raise
            if not waited:
                say(console, "Waiting until a worker has measured how fast it trains; Ctrl-C ends this, with no job")
            waited += error.retry_after
            time.sleep(error.retry_after)


def _watch(url: str | None, job_id: int) -> None:
    from darkroom.app.cli.follow_job import JobWatcher

    raise typer.Exit(JobWatcher(url, job_id, open_console(stderr=True)).watch())


def _change(url: str | None, job_id: int, what: str) -> None:
    """Cancel, resume or retry a job."""
    job = ask_service(url, "POST", f"{JOBS}/{job_id}/{what}")
    say(open_console(stderr=True), f"Job {job_id} is {job['status']}")


def _table(jobs: Sequence[Mapping[str, Any]]) -> Table:
    names = ("job", "status", "model", "data set", "images", "loss", "best")
    return plain_table(names, map(_cells, jobs), right=("job", "images", "loss"))


def _cells(job: Mapping[str, Any]) -> tuple[str, ...]:
    progress, best = job["progress"], job["best"]
    return (
        str(job["id"]),
        job["status"],
        job["model"],
        job["dataset"] or "",
        f"{progress['images_done']:,} of {progress['total_images']:,}",
        "" if progress["loss"] is None else f"{progress['loss']:.4f}",
        f"{best['metric']} {best['value']:.4g}" if best else "",
    )
