"""Shows a job's progress on a terminal, from the service's events. Survives restarts of the service."""

import time
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from darkroom.app.cli.service_client import ServerEvent, ServiceError, ask, connect, events, require_success
from darkroom.app.cli.terminal import print_error, say
from darkroom.model.progress import SECONDS_BETWEEN_LINES
from darkroom.model.training.curve_point import time_left
from darkroom.model.training.forecast import Forecast

RECONNECT_SECONDS = 1.0
PATIENCE_SECONDS = 600.0
"""For so long it tries again while the service cannot be reached."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, the one that shells use."""


class JobWatcher:
    """Watches one job of the service that `find_service` returns for `url`."""

    def __init__(self, url: str | None, job_id: int, console: Console) -> None:
        self._url = url
        self._job_id = job_id
        self._console = console
        self._seen: int | None = None
        self._connected = False
        self._told = False
        self._answered_at = time.monotonic()
        self._line_due = 0.0

    def watch(self) -> int:
        """Watch until the job ends. Returns the exit code: 0 if it succeeded, 1 if not, 130 after Ctrl-C.

        It tries again for PATIENCE_SECONDS while a proxy answers for the service, and once it was connected also
        while nobody answers. Then it raises ServiceError.
        """
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images  {task.fields[facts]}", markup=False),
        )
        try:
            with (
                connect(self._url) as client,
                Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bar,
            ):
                task = bar.add_task(f"job {self._job_id}", total=None, facts="")
                while (job := self._follow(client, bar, task)) is None:
                    time.sleep(RECONNECT_SECONDS)
        except KeyboardInterrupt:
            self._say(f"Job {self._job_id} keeps running; to end it, run `darkroom jobs cancel {self._job_id}`")
            return INTERRUPTED
        return self._conclude(job)

    def _follow(self, client: httpx.Client, bar: Progress, task: TaskID) -> dict[str, Any] | None:
        """Show events and return the job when it has ended; None when the connection broke before that."""
        headers = {} if self._seen is None else {"Last-Event-ID": str(self._seen)}
        try:
            with client.stream("GET", f"/v1/train-jobs/{self._job_id}/events", headers=headers) as response:
                require_success(response)
                self._connected = True
                for event in events(response):
                    self._answered_at, self._told = time.monotonic(), False
                    if event.number is not None:
                        self._seen = event.number
                    if event.kind == "end":
                        break
                    self._show(event, bar, task)
                else:
                    return None
            job: dict[str, Any] = ask(client, "GET", f"/v1/train-jobs/{self._job_id}")
            return job | {"status": event.data["status"]}
        except ServiceError as error:
            away = error.unreached or (self._connected and error.status == httpx.codes.SERVICE_UNAVAILABLE)
            self._wait_or_raise(error, away=away)
        except httpx.TransportError as error:
            self._wait_or_raise(error, away=self._connected)
        bar.update(task, facts="no connection to the service")
        return None

    def _wait_or_raise(self, error: Exception, *, away: bool) -> None:
        """Return when the service is away and may come back soon; raises the error otherwise."""
        if not away or time.monotonic() - self._answered_at > PATIENCE_SECONDS:
            raise error
        if not self._told:
            self._told = True
            self._say(f"the service cannot be reached ({error}); trying again for {PATIENCE_SECONDS / 60:.0f} minutes")

    def _show(self, event: ServerEvent, bar: Progress, task: TaskID) -> None:
        data = event.data
        if event.kind != "progress":
            line = _sentence(event.kind, data)
            if line is not None:
                self._say(line)
            return
        facts = [] if data["images_per_second"] is None else [f"{data['images_per_second']:.0f}/s"]
        facts += [] if data["loss"] is None else [f"loss {data['loss']:.4f}"]
        facts += [] if data["eta_seconds"] is None else [time_left(data["eta_seconds"])]
        text = "  ".join(facts)
        bar.update(task, completed=data["images_done"], total=data["total_images"], facts=text)
        if not self._console.is_terminal and time.monotonic() >= self._line_due:
            self._say(f"{data['images_done']:,} of {data['total_images']:,} images  {text}".rstrip())
            self._line_due = time.monotonic() + SECONDS_BETWEEN_LINES

    def _conclude(self, job: dict[str, Any]) -> int:
        status = job["status"]
        if status == "failed":
            failure = job["failure"] or {"detail": "the cause is unknown"}
            print_error(self._console, f"job {self._job_id} failed: {failure['detail']}")
        elif status == "cancelled":
            if job["failure"]:
                self._say(f"Job {self._job_id}: {job['failure']['detail']}")
            self._say(f"Job {self._job_id} was cancelled; to continue it, run `darkroom jobs resume {self._job_id}`")
        else:
            best = job["best"]
            found = f"; best {best['metric']} {best['value']:.4g} at version {best['version']}" if best else ""
            self._say(f"Job {self._job_id} succeeded: {job['model']}{found}")
        return 0 if status == "succeeded" else 1

    def _say(self, line: str) -> None:
        say(self._console, line)


def _sentence(kind: str, data: dict[str, Any]) -> str | None:
    """Describe an event in one line; None for an event that the user need not see."""
    match kind:
        case "status" if data["status"] == "running":
            return f"attempt {data['attempt']} on {data['worker']}"
        case "status" if data["status"] == "queued" and "reason" in data:
            return f"queued again: {data['reason']}"
        case "status" if data["status"] == "cancelling":
            return "cancelling: the worker stores a checkpoint and stops"
        case "checkpoint":
            return f"{data['images_seen']:,} images: version {data['version']}"
        case "evaluation":
            return f"{data['images_seen']:,} images: {data['metric']} {data['value']:.4g}"
        case "evaluation_failed" | "frontier_failed" | "samples_failed" | "verdict_failed":
            return f"{data['images_seen']:,} images: {kind.replace('_', ' ')}: {data['detail']}"
        case "verdict":
            told = "; ".join(f"{one['severity']}: {one['advice']}" for one in data["findings"]) or "nothing wrong found"
            expected = f"; at the end, expect a distance of {Forecast(**data['forecast'])}" if data["forecast"] else ""
            return f"{data['images_seen']:,} images: {told}{expected}"
        case "not_promoted":
            return f"nothing was promoted: {data['reason']}"
        case "frontier":
            return f"{data['sampler']}, {data['steps']} steps: {data['metric']} {data['value']:.4g}"
        case "note":
            return f"note: {data['detail']}"
        case "promoted":
            return f"version {data['version']} is now production"
        case _:
            return None
