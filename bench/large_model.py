"""Takes a large model from training to images within the memory of containers: `python -m bench.large_model`.

It runs `darkroom up` with the API, the worker and PostgreSQL each in a memory cgroup, as Docker does, trains for a few
steps, promotes the version and draws an image. It prints each part's most memory, without the disk's cache, and how
often the kernel killed in it. Needs root and cgroups of version 1.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.service import is_ready, repeating, serving
from darkroom.app.embedded.process_commands import api_command, worker_commands
from darkroom.app.embedded.up import up
from tests.processes import family_of

CGROUPS = Path("/sys/fs/cgroup/memory")
GIB = 1 << 30
BATCH, STEPS = 8, 4
PATIENCE_SECONDS = 1800.0


class Group:
    """A memory cgroup. most: bytes of its processes so far, as `watch` saw it."""

    def __init__(self, name: str, limit_gib: float) -> None:
        self.name, self.limit_gib, self.most = name, limit_gib, 0
        self._folder = CGROUPS / f"darkroom-bench-{name}"

    def __enter__(self) -> "Group":
        self._folder.mkdir(exist_ok=True)
        (self._folder / "memory.limit_in_bytes").write_text(str(int(self.limit_gib * GIB)))
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.rmdir()

    def wrapped(self, command: Sequence[str]) -> list[str]:
        """Return the command that enters the group and becomes `command`."""
        return ["/bin/sh", "-c", f'echo $$ > {self._folder}/cgroup.procs && exec "$@"', "sh", *command]

    def add(self, pids: set[int]) -> None:
        """Move running processes into the group."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (self._folder / "cgroup.procs").write_text(str(pid))

    def watch(self) -> None:
        """Look at its memory once."""
        self.most = max(self.most, self._figures("memory.stat")["total_rss"])

    def kills(self) -> int:
        """Return how often the kernel has killed one of its processes for lack of memory."""
        return self._figures("memory.oom_control")["oom_kill"]

    def _figures(self, file: str) -> Mapping[str, int]:
        return {name: int(value) for name, value in map(str.split, (self._folder / file).read_text().splitlines())}


def serve(state: Path, port: int, api: Group, worker: Group) -> int:
    """Run `darkroom up` with its API and worker in their groups."""
    return up(
        state,
        "127.0.0.1",
        port,
        api=lambda host, own: api.wrapped(api_command(host, own)),
        workers=lambda: {
            name: worker.wrapped(command) if name == "worker" else command
            for name, command in worker_commands().items()
        },
    )


def ask(client: httpx.Client, method: str, path: str, **content: Any) -> Any:
    """Send a request; returns its JSON answer. Ends the bench at a refusal."""
    answer = client.request(method, path, **content)
    if not answer.is_success:
        raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
    return answer.json()


def train(client: httpx.Client, width: int) -> Mapping[str, Any]:
    """Train and promote a model; returns its version as the service describes it."""
    ask(client, "POST", "/v1/datasets", json={"name": "digits", "format": "digits"})
    overrides = {
        "model.unet.width": width,
        "training.batch_size": BATCH,
        "training.total_images": BATCH * STEPS,
        "training.checkpoint_every_images": BATCH * STEPS // 2,
        "training.sample_every_images": BATCH * STEPS,
        "training.samples_per_class": 1,
        "optimizer.warmup_images": BATCH,
        "evaluation": None,
    }
    body = {"recipe": "digits", "dataset": "digits", "model": "large", "overrides": overrides}
    path = ask(client, "POST", "/v1/train-jobs", json=body)["links"]["self"]
    while (job := ask(client, "GET", path))["status"] in ("queued", "running"):
        time.sleep(1.0)
    if job["status"] != "succeeded":
        raise SystemExit(f"the training {job['status']}: {job['failure']}")
    version = ask(client, "GET", "/v1/models/large")["newest"][0]["version"]
    # the early verdict would promote nothing after so few steps
    ask(client, "PUT", "/v1/models/large/alias/production", json={"version": version})
    described: Mapping[str, Any] = ask(client, "GET", f"/v1/models/large/versions/{version}")
    return described


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=480, help="480: 169 million parameters, 643 MiB in float32")
    parser.add_argument("--api-gib", type=float, default=5.0)
    parser.add_argument("--worker-gib", type=float, default=8.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    api, worker, postgres = (
        Group("api", arguments.api_gib),
        Group("worker", arguments.worker_gib),
        Group("postgres", 4.0),
    )
    if arguments.serve:
        return serve(arguments.serve, arguments.port, api, worker)
    with tempfile.TemporaryDirectory() as folder, api, worker, postgres:
        state = Path(folder) / "state"
        program = [sys.executable, "-m", "bench.large_model", "--serve", str(state)]
        limits = ["--api-gib", str(arguments.api_gib), "--worker-gib", str(arguments.worker_gib)]
        with (
            serving(lambda port: [*program, *limits, "--port", str(port)], os.environ, is_ready) as (client, _),
            repeating(lambda: [group.watch() for group in (api, worker, postgres)], 0.05),
        ):
            client.timeout = httpx.Timeout(PATIENCE_SECONDS)
            postmaster = int((state / "postgres" / "postmaster.pid").read_text().split("\n")[0])
            postgres.add(family_of(postmaster))
            began = time.monotonic()
            version = train(client, arguments.width)
            trained = time.monotonic()
            picture = ask(
                client, "POST", "/generate", json={"class": 3, "model": "large", "steps": 4, "format": "json"}
            )
            drawn = time.monotonic()
        print(f"{version['parameters']:,} parameters; trained for {STEPS} steps, stored and promoted in ", end="")
        print(f"{trained - began:.0f} s; loaded and drawn in {drawn - trained:.0f} s: {len(picture['images'])} image\n")
        print("| part | limit, GiB | most, GiB | kills |\n| --- | ---: | ---: | ---: |")
        for group in (api, worker, postgres):
            print(f"| {group.name} | {group.limit_gib:g} | {group.most / GIB:.2f} | {group.kills()} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
