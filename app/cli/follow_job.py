"""Watching a job on a terminal: a progress bar fed by the service's events, which comes through its restarts."""

import time
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from darkroom.app.cli.service_client import ServerEvent, ServiceError, ask, connect, events, require_success
from darkroom.app.cli.terminal import print_error, say

RECONNECT_SECONDS = 1.0
SECONDS_BETWEEN_LINES = 30.0
"""Where there is no terminal to draw a bar in, a line is written as often as this."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class JobWatcher:
    """Watches one job of the service that `find_service` finds."""

    def __init__(self, url: str | None, job_id: int, console: Console) -> None:
        self._url = url
        self._job_id = job_id
        self._console = console
        self._seen: int | None = None
        self._connected = False
        self._line_due = 0.0

    def watch(self) -> int:
        """Until the job's end; returns the exit code: 0 when it succeeded, 1 when not, 130 after Ctrl-C.

        Raises ServiceError when the service cannot be reached in the first place.
        """
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images  {task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
        )
        try:
            with (
                connect(self._url) as client,
                Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bar,
            ):
                task = bar.add_task(f"job {self._job_id}", total=None, facts="")
                while (status := self._follow(client, bar, task)) is None:
                    time.sleep(RECONNECT_SECONDS)
                job = ask(client, "GET", f"/v1/train-jobs/{self._job_id}")
        except KeyboardInterrupt:
            self._say(f"Job {self._job_id} goes on; `darkroom jobs cancel {self._job_id}` would end it")
            return INTERRUPTED
        return self._conclude(job, status)

    def _follow(self, client: httpx.Client, bar: Progress, task: TaskID) -> str | None:
        """Take events until the job has ended; None when the service went away on the way."""
        headers = {} if self._seen is None else {"Last-Event-ID": str(self._seen)}
        try:
            with client.stream("GET", f"/v1/train-jobs/{self._job_id}/events", headers=headers) as response:
                require_success(response)
                self._connected = True
                for event in events(response):
                    if event.number is not None:
                        self._seen = event.number
                    if event.kind == "end":
                        return str(event.data["status"])
                    self._show(event, bar, task)
        except ServiceError as error:
            if not (self._connected and error.status == httpx.codes.SERVICE_UNAVAILABLE):
                raise
        except httpx.TransportError:
            if not self._connected:
                raise
        bar.update(task, facts="the service is away")
        return None

    def _show(self, event: ServerEvent, bar: Progress, task: TaskID) -> None:
        data = event.data
        if event.kind != "progress":
            line = _sentence(event.kind, data)
            if line is not None:
                self._say(line)
            return
        facts = [] if data["images_per_second"] is None else [f"{data['images_per_second']:.0f}/s"]
        facts += [] if data["loss"] is None else [f"loss {data['loss']:.4f}"]
        told = "  ".join(facts)
        bar.update(task, completed=data["images_done"], total=data["total_images"], facts=told)
        if not self._console.is_terminal and time.monotonic() >= self._line_due:
            self._say(f"{data['images_done']:,} of {data['total_images']:,} images  {told}".rstrip())
            self._line_due = time.monotonic() + SECONDS_BETWEEN_LINES

    def _conclude(self, job: dict[str, Any], status: str) -> int:
        if status == "failed":
            failure = job["failure"] or {"detail": "no cause was given"}
            print_error(self._console, f"job {self._job_id} has failed: {failure['detail']}")
        elif status == "cancelled":
            if job["failure"]:
                self._say(f"Job {self._job_id}: {job['failure']['detail']}")
            self._say(f"Job {self._job_id} was cancelled; `darkroom jobs resume {self._job_id}` goes on with it")
        else:
            best = job["best"]
            found = f"; best {best['metric']} {best['value']:.4g} at version {best['version']}" if best else ""
            self._say(f"Job {self._job_id} has succeeded: {job['model']}{found}")
        return 0 if status == "succeeded" else 1

    def _say(self, line: str) -> None:
        say(self._console, line)


def _sentence(kind: str, data: dict[str, Any]) -> str | None:
    """What an event is in words; None of one that need not be told."""
    match kind:
        case "status" if data["status"] == "running":
            return f"attempt {data['attempt']} on {data['worker']}"
        case "status" if data["status"] == "queued" and "reason" in data:
            return f"queued again: {data['reason']}"
        case "status" if data["status"] == "cancelling":
            return "cancelling: the work is asked to store a checkpoint and to stop"
        case "checkpoint":
            return f"{data['images_seen']:,} images: version {data['version']}"
        case "evaluation":
            return f"{data['images_seen']:,} images: {data['metric']} {data['value']:.4g}"
        case "evaluation_failed" | "frontier_failed" | "samples_failed":
            return f"{data['images_seen']:,} images: {kind.replace('_', ' ')}: {data['detail']}"
        case "not_promoted":
            return f"nothing was promoted: {data['reason']}"
        case "frontier":
            return f"{data['sampler']}, {data['steps']} steps: {data['metric']} {data['value']:.4g}"
        case "note":
            return f"note: {data['detail']}"
        case "promoted":
            return f"version {data['version']} is production now"
        case _:
            return None
