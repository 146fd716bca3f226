"""Laws of monitoring on real processes: Prometheus metrics match the documentation, and the dashboard finds them."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.served import weights_folder
from tests.deploy.test_alerts import rules
from tests.processes import free_port, wait_until
from tests.system.cluster import Cluster, cluster
from tests.system.prometheus_server import prometheus
from tests.system.test_jobs import long_recipe

ROOT = Path(__file__).parents[2]
DOCUMENTATION = ROOT / "docs" / "monitoring.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "darkroom.json"
GPU_PANELS = ("GPU memory", "GPU utilisation")
"""Metrics that have no samples on a machine without a GPU."""

_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*)\| ([^|]*) \|", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """A Prometheus metric: its type, and the labels of its samples."""

    kind: str
    labels: frozenset[str]


@dataclass(frozen=True)
class Running:
    """A cluster, its API, and the addresses that Prometheus scrapes."""

    cluster: Cluster
    api: str
    worker: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster with an API and a worker, which has trained a job and drawn some images."""
    folder = tmp_path_factory.mktemp("monitoring")
    port = free_port()
    with cluster(folder, "first", DARKROOM_METRICS_PORT=str(port)) as parts:
        api = parts.start_api(weights_folder(folder / "weights"))
        yield Running(parts, api, f"http://127.0.0.1:{port}")


def _scrape(address: str) -> str:
    return httpx.get(f"{address}/metrics", trust_env=False).raise_for_status().text


def _told(exposition: str) -> dict[str, Told]:
    found: dict[str, Told] = {}
    for family in text_string_to_metric_families(exposition):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels)
        found[name] = Told(family.type, labels - {"le"})
    return found


def _documented(process: str) -> dict[str, Told]:
    """Return the metrics that docs/monitoring.md lists for a process without a GPU."""
    rows = _ROW.findall(DOCUMENTATION.read_text(encoding="utf-8"))
    return {
        name: Told(kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, by in rows
        if process in by and "GPU" not in by
    }


def test_every_metric_is_documented_and_every_documented_one_is_told(running: Running) -> None:
    job_id = running.cluster.submit(long_recipe(training__total_images=200_000), running.cluster.register())
    label = f'job_id="{job_id}"'
    wait_until(lambda: label in _scrape(running.api), "the training's metrics")
    wait_until(lambda: "database" in _scrape(running.worker), "the worker's probes")
    assert _told(_scrape(running.api)) == _documented("API")
    assert _told(_scrape(running.worker)) == _documented("worker")
    httpx.post(f"{running.api}/v1/train-jobs/{job_id}/cancel", trust_env=False).raise_for_status()
    running.cluster.wait_for(job_id, "cancelled")


def test_a_trainings_numbers_reach_the_api_from_its_process(running: Running) -> None:
    began = time.monotonic()
    # The counters include what earlier tests have trained.
    wait_until(
        lambda: _values(running)["darkroom_job_statistics_age_seconds"] < time.monotonic() - began,
        "statistics read since",
    )
    before, recipe = _values(running), long_recipe()
    job_id = running.cluster.submit(recipe, running.cluster.register("again"), model_name="counted")
    assert running.cluster.wait_for(job_id, "succeeded", "failed").status == "succeeded"

    def grown(name: str) -> float:
        return _values(running).get(name, 0.0) - before.get(name, 0.0)

    wait_until(lambda: grown('darkroom_jobs_finished_total{kind="train",status="succeeded"}') == 1.0, "told")
    assert grown("darkroom_training_images_total") == recipe.training.total_images == 2400
    assert grown('darkroom_job_attempts_started_total{kind="train"}') == 1
    assert grown('darkroom_job_attempts_total{outcome="succeeded"}') == 1
    assert grown("darkroom_checkpoint_writes_total") == 6
    assert grown("darkroom_checkpoint_write_seconds_total") > 0


def _values(running: Running) -> dict[str, float]:
    samples = [line.rpartition(" ") for line in _scrape(running.api).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


@contextmanager
def _drawing(api: str) -> Iterator[None]:
    """Draw images all the time while the block runs."""
    ended = threading.Event()

    def draw() -> None:
        while not ended.is_set():
            answer = httpx.post(f"{api}/v1/generate", json={"class": 0, "n": 2, "steps": 5}, trust_env=False)
            assert answer.status_code == httpx.codes.OK
            ended.wait(0.2)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_prometheus_answers_every_panel_of_the_dashboard_and_evaluates_every_rule(
    running: Running, tmp_path: Path
) -> None:
    wanted = {
        (panel["title"], target["expr"].replace("$__rate_interval", "20s"))
        for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", [])
        if panel["title"] not in GPU_PANELS
    }
    assert len(wanted) > 40
    recipe = long_recipe(training__total_images=2_000_000)
    job_id = running.cluster.submit(recipe, running.cluster.register("watched"), model_name="watched")
    targets = {name: [getattr(running, name).removeprefix("http://")] for name in ("api", "worker")}
    with _drawing(running.api), prometheus(tmp_path / "prometheus", targets) as server:
        wait_until(lambda: server.targets() == {("api", "up"): 1, ("worker", "up"): 1}, "scraped")
        missing = set(wanted)

        def answered() -> bool:
            missing.difference_update([one for one in missing if server.has_numbers(one[1])])
            return not missing

        try:
            wait_until(answered, "every panel's query gives numbers")
        except AssertionError:
            pytest.fail(f"no numbers for {sorted(missing)}")
        wait_until(lambda: server.alerts() == dict.fromkeys(rules(), "ok"), "rules evaluated")
    httpx.post(f"{running.api}/v1/train-jobs/{job_id}/cancel", trust_env=False).raise_for_status()
    running.cluster.wait_for(job_id, "cancelled")
