"""Counts what each real process sends to PostgreSQL, from the server's log.

Every process gets an `application_name` of its own. The log has each statement, BEGIN and COMMIT too.
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from darkroom.app.settings import REPOSITORY
from darkroom.worker.settings import ReconcilerSettings, WorkerSettings
from tests.model.small import small_recipe, small_unet
from tests.processes import free_port, wait_until
from tests.system import paced
from tests.system.cluster import TIMES, Cluster

STEP_SECONDS = 0.1
"""The pause after each training step. A curve point follows after 20 steps."""

_LINE = re.compile(r"^([^|\n]*)\|LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Sent:
    """What a process sent, and how many connections it held at the end.

    memory_bytes: of the server's processes for them, without what they share.
    """

    statements: Counter[str]
    connections: int
    memory_bytes: int


class _Named(Cluster):
    """A cluster whose processes are named in PostgreSQL."""

    def run(self, name: str, command: object, **environment: str) -> None:
        """Start a process whose connections have its name."""
        named = {"DATABASE_URL": f"{self.postgres.url}&application_name={name}"}
        super().run(name, command, **(environment | named))  # type: ignore[arg-type]

    def start_worker(self, name: str) -> None:
        """Start a worker with a /metrics, as in production."""
        own = {"DARKROOM_WORKER_NAME": name, "DARKROOM_METRICS_PORT": str(free_port()), "DARKROOM_WORKER_DEVICE": "cpu"}
        self.run(name, [sys.executable, "-m", paced.MODULE], **own)


def measure(folder: Path, seconds: float) -> Mapping[str, Sent]:
    """Run an API, an idle worker, a busy worker and a reconciler. Return what each sends within `seconds`, by name."""
    fields = {**WorkerSettings.model_fields, **ReconcilerSettings.model_fields}
    times = {name: str(fields[name.removeprefix("DARKROOM_").lower()].default) for name in TIMES}
    cluster = _Named(folder, environment=times | {paced.PAUSE: str(STEP_SECONDS)}, warm=False)
    try:
        with psycopg.connect(cluster.postgres.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")
            connection.execute("ALTER SYSTEM SET log_line_prefix = '%a|'")
            connection.execute("SELECT pg_reload_conf()")
        cluster.start_worker("busy worker")
        cluster.start_reconciler()
        cluster.start_api(REPOSITORY / "weights", "API")
        tiny = small_unet(width=8, multipliers=(1,), attention_resolutions=(), norm_groups=2)
        often = {"training__checkpoint_every_images": 8 * round(60.0 / STEP_SECONDS), "training__total_images": 10**6}
        recipe = small_recipe(model__unet=tiny.model_dump(), training__sample_every_images=10**6, **often)
        job_id = cluster.submit(recipe, cluster.register())
        wait_until(lambda: cluster.job(job_id).images_done > 0, "the job trains")
        cluster.start_worker("idle worker")
        time.sleep(15.0)
        before = cluster.postgres.log.stat().st_size
        time.sleep(seconds)
        log = cluster.postgres.log.read_bytes()[before:].decode(errors="replace")
        held = _held(cluster.postgres.url)
        counted: dict[str, Counter[str]] = {}
        for name, statement in _LINE.findall(log):
            counted.setdefault(name, Counter())[" ".join(statement.split())] += 1
        return {name: Sent(counted.get(name, Counter()), *held.get(name, (0, 0))) for name in cluster.processes}
    finally:
        cluster.stop()


def _held(url: str) -> Mapping[str, tuple[int, int]]:
    """Return connections, and memory of the server's processes for them, by application name."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT application_name, pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
        found: dict[str, tuple[int, int]] = {}
        for name, pid in rows.fetchall():
            count, memory = found.get(name, (0, 0))
            found[name] = count + 1, memory + _own_memory_bytes(pid)
        return found


def _own_memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))
