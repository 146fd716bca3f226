"""Laws of logs on real processes: a job's lines in every process have its request id, and every line is JSON."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.app.served import weights_folder
from tests.processes import PATIENCE_SECONDS, free_port, wait_until
from tests.system.cluster import Cluster, cluster
from tests.telemetry.log_lines import Line

OVERRIDES: dict[str, object] = {  # as little work as possible
    "model.unet.width": 32,
    "model.unet.multipliers": [1],
    "model.unet.attention_resolutions": [],
    "sampling.steps": 1,
    "training.total_images": 256,
    "training.checkpoint_every_images": 256,
    "training.sample_every_images": 256,
    "training.samples_per_class": 1,
    "evaluation": None,
}
DIGITS = {"recipe": "digits", "model": "logged", "overrides": OVERRIDES}


def lines_of(parts: Cluster, process: str) -> list[Line]:
    """Return all lines of a process's log; fails if a line is not JSON."""
    text = (parts.folder / f"{process}.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]


@dataclass(frozen=True)
class Logging:
    """A cluster whose processes log JSON, and a client of its API."""

    cluster: Cluster
    api: httpx.Client

    def lines(self, process: str) -> list[Line]:
        """Return all lines of a process's log; see `lines_of`."""
        return lines_of(self.cluster, process)

    def joined(self, process: str, request_id: str) -> list[Line]:
        """Return the lines of a process that have this request id."""
        return [line for line in self.lines(process) if line.get("request_id") == request_id]

    def train(self, path: str, request_id: str) -> int:
        """Submit a train job at the path and wait until it has succeeded; returns its id."""
        headers = {"X-Request-ID": request_id}
        answer = self.api.post(path, json=DIGITS, headers=headers)
        job_id = int(answer.raise_for_status().json()["id"])
        assert self.cluster.wait_for(job_id, "succeeded", "failed").status == "succeeded"
        return job_id


@pytest.fixture(scope="module")
def logging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logging]:
    folder = tmp_path_factory.mktemp("logs")
    with cluster(folder, "first", DARKROOM_LOG_FORMAT="json") as parts:
        url = parts.start_api(weights_folder(folder / "weights"))
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, trust_env=False) as api:
            yield Logging(parts, api)


@pytest.mark.parametrize("path", ["/train-jobs", "/v1/train-jobs"])
def test_a_jobs_lines_are_joined_by_its_request_in_all_processes(logging: Logging, path: str) -> None:
    request_id = path.replace("/", ".")
    job_id = logging.train(path, request_id)
    wait_until(lambda: len(logging.joined("api", request_id)) > 1, "the API's lines")
    queued, asked = logging.joined("api", request_id)
    assert (queued["process"], queued["message"], queued["job_id"]) == ("api", f"job {job_id} is queued", job_id)
    assert (asked["method"], asked["route"], asked["status"]) == ("POST", path, 202)

    wait_until(lambda: f"job {job_id}: finished" in str(logging.joined("first", request_id)), "the supervisor's word")
    of_job = logging.joined("first", request_id)
    assert {(line["job_id"], line["attempt"]) for line in of_job} == {(job_id, 1)}
    assert {line["process"] for line in of_job} == {"worker", "work"}
    supervisor = [line["message"] for line in of_job if line["logger"] == "darkroom.worker.supervisor"]
    assert supervisor == [f"job {job_id}, attempt 1: train logged", f"job {job_id}: finished"]
    training = [line["message"] for line in of_job if line["process"] == "work"]
    assert "training begins" in training
    assert not [line for line in logging.lines("first") if line.get("job_id") == job_id and line not in of_job]

    assert logging.api.get(f"/v1/train-jobs/{job_id}").json()["request_id"] == request_id
    kept = logging.api.get(f"/v1/train-jobs/{job_id}/logs").json()["lines"]
    assert any(line["line"].endswith("INFO darkroom.worker.training: training begins") for line in kept)


def test_a_lapsed_lease_is_told_by_the_reconciler_with_the_jobs_request(logging: Logging) -> None:
    long = DIGITS | {"overrides": OVERRIDES | {"training.total_images": 2_000_000}}
    answer = logging.api.post("/v1/train-jobs", json=long, headers={"X-Request-ID": "lost"})
    job_id = answer.raise_for_status().json()["id"]
    logging.cluster.wait_for(job_id, "running")
    logging.cluster.kill("first")
    wait_until(lambda: bool(logging.joined("reconciler", "lost")), "the reconciler's line about the lapsed lease")
    (line,) = logging.joined("reconciler", "lost")
    assert (line["process"], line["level"], line["job_id"], line["attempt"]) == ("reconciler", "WARNING", job_id, 1)
    logging.api.post(f"/v1/train-jobs/{job_id}/cancel").raise_for_status()
    logging.cluster.start_worker("first")


def test_from_start_to_end_every_line_is_json(logging: Logging) -> None:
    logging.cluster.start_worker("second")
    wait_until(lambda: "ready" in str(logging.lines("second")), "the worker is ready")
    for name in ("second", "reconciler", "api"):
        logging.cluster.end(name)
        lines = logging.lines(name)
        assert {line["process"] for line in lines} == {{"second": "worker"}.get(name, name)}
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    told = {name: [line["message"] for line in logging.lines(name)] for name in ("second", "reconciler", "api")}
    assert any("Warm shutdown" in message for message in told["second"])
    assert told["reconciler"][-1] == "the reconciler ends"
    assert any(message.startswith("Started server process") for message in told["api"])
    assert any(message.startswith("Finished server process") for message in told["api"])


def test_a_reconciler_leaves_the_metrics_port_to_the_worker(tmp_path: Path) -> None:
    port = free_port()
    with cluster(tmp_path / "first", DARKROOM_METRICS_PORT=str(port), DARKROOM_LOG_FORMAT="json") as parts:
        wait_until(lambda: "ready" in str(lines_of(parts, "reconciler")), "the reconciler is ready")
        parts.start_worker("late")

        def metrics() -> str:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            except httpx.TransportError:
                return ""

        wait_until(lambda: bool(metrics()), "the worker's metrics")
        parts.kill("reconciler")
        assert metrics()
        parts.kill("late")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port))
