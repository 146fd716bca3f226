"""Laws of connections: PostgreSQL has room for the processes of docs/scale.md, each with all that it may open."""

import re

import yaml

from darkroom.app.settings import Settings
from darkroom.store.database import Pool
from darkroom.worker.settings import ReconcilerSettings, WorkerSettings
from tests.compose import ROOT, services

SCALE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
WORKERS = WorkerSettings(database_url="postgresql://host/darkroom", redis_url="redis://host")
POOLS: dict[str, Pool] = {
    "API": Settings().pool(),
    "worker": WORKERS.pool(),
    "work process": WORKERS.work_pool(),
    "reconciler": ReconcilerSettings(database_url="postgresql://host/darkroom").pool(),
}
RESERVED = 3
"""`superuser_reserved_connections` of PostgreSQL."""


def _documented() -> dict[str, tuple[int, int]]:
    """Return (number, connections of each) by process, from the table."""
    rows = re.findall(r"^\| ([^|`]+) \| (\d+) \| (\d+) \| .* \|$", SCALE, re.MULTILINE)
    return {name: (int(number), int(each)) for name, number, each in rows}


def _limits() -> set[int]:
    """Return max_connections of Compose and of the manifests."""
    manifests = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "base" / "postgres.yaml").read_text())
    (pod,) = [one["spec"]["template"]["spec"] for one in manifests if one["kind"] == "StatefulSet"]
    commands = services()["postgres"]["command"], pod["containers"][0]["args"]
    return {
        int(part.removeprefix("--max_connections=")) for one in commands for part in one if "max_connections" in part
    }


def test_the_page_tells_the_size_of_every_pool() -> None:
    assert {name: _documented()[name][1] for name in POOLS} == {name: pool.limit for name, pool in POOLS.items()}


def test_a_hundred_workers_and_eight_apis_find_room() -> None:
    documented = _documented()
    assert (documented["API"][0], documented["worker"][0], documented["work process"][0]) == (8, 100, 100)
    total = sum(number * each for number, each in documented.values())
    assert documented["kept by PostgreSQL for its superuser"] == (RESERVED, 1)
    assert f"at most {total} connections" in " ".join(SCALE.split())
    (limit,) = _limits()
    assert total <= limit


def test_a_container_may_run_a_process_for_each_connection() -> None:
    (limit,) = _limits()
    assert services()["postgres"]["deploy"]["resources"]["limits"]["pids"] > limit + 50  # and the server's own
