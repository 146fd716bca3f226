"""What `darkroom jobs` does: the table, submitting, changing, the log. Names are printed as they are, not as markup."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table
from rich.text import Text

from app.job_watcher import JobWatcher
from app.service_client import ask, connect, json_body
from app.terminal import open_console, say
from model.config import load_recipe
from model.user_error import UserError

LOG_LINES_AT_ONCE = 1000
JOBS = "/v1/train-jobs"


def list_jobs(url: str | None, filters: Mapping[str, Any]) -> int:
    """Print the newest jobs; returns the exit code."""
    asked = {name: value for name, value in filters.items() if value is not None}
    with connect(url) as client:
        jobs = ask(client, "GET", JOBS, params=asked)["jobs"]
    open_console().print(_table(jobs) if jobs else "No jobs.")
    return 0


def submit_job(url: str | None, recipe: str, fields: Mapping[str, Any], settings: Sequence[str], *, watch: bool) -> int:
    """Queue a job and, where asked, watch it; returns the exit code. settings: FIELD=VALUE, a value as JSON or text."""
    path = Path(recipe)
    body = dict(fields) | {"recipe": recipe, "overrides": {}}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"{setting}: write FIELD=VALUE, such as training.total_images=200000")
        body["overrides"][name] = _value(value)
    if path.suffix in (".yaml", ".yml"):
        body["recipe"] = load_recipe(path).model_dump(mode="json")
    with connect(url) as client:
        job = ask(client, "POST", JOBS, **json_body(body))
    console = open_console(stderr=True)
    say(console, f"Job {job['id']} is queued: {job['model']} on {job['dataset']}")
    return JobWatcher(url, job["id"], console).watch() if watch else 0


def watch_job(url: str | None, job_id: int) -> int:
    """Watch a job to its end; returns the exit code."""
    return JobWatcher(url, job_id, open_console(stderr=True)).watch()


def change_job(url: str | None, job_id: int, what: str) -> int:
    """Cancel, resume or retry; returns the exit code."""
    with connect(url) as client:
        job = ask(client, "POST", f"{JOBS}/{job_id}/{what}")
    say(open_console(stderr=True), f"Job {job_id} is {job['status']}")
    return 0


def print_log(url: str | None, job_id: int) -> int:
    """Print a job's log lines; returns the exit code."""
    out, after = open_console(), 0
    with connect(url) as client:
        while lines := _lines(client, job_id, after):
            for line in lines:
                say(out, line["line"])
            after = lines[-1]["number"]
    return 0


def _lines(client: httpx.Client, job_id: int, after: int) -> list[dict[str, Any]]:
    answer = ask(client, "GET", f"{JOBS}/{job_id}/logs", params={"after": after, "limit": LOG_LINES_AT_ONCE})
    lines: list[dict[str, Any]] = answer["lines"]
    return lines


def _table(jobs: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("job", "status", "model", "data set", "images", "loss", "best"):
        table.add_column(name, justify="right" if name in ("job", "images", "loss") else "left", overflow="fold")
    for job in jobs:
        progress, best = job["progress"], job["best"]
        cells = (
            str(job["id"]),
            job["status"],
            job["model"],
            job["dataset"] or "",
            f"{progress['images_done']:,} of {progress['total_images']:,}",
            "" if progress["loss"] is None else f"{progress['loss']:.4f}",
            f"{best['metric']} {best['value']:.4g}" if best else "",
        )
        table.add_row(*map(Text, cells))
    return table


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
