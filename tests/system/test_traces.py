"""Laws of traces on real processes: one trace covers the request and its training, and log lines have its id."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.app.served import weights_folder
from tests.processes import PATIENCE_SECONDS, wait_until
from tests.system.cluster import cluster
from tests.system.collector import collecting
from tests.system.test_logs import DIGITS, lines_of

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_jobs_work_belongs_to_the_trace_of_its_request(tmp_path: Path) -> None:
    environment = {"DARKROOM_LOG_FORMAT": "json", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with (
        collecting() as collector,
        cluster(tmp_path, "first", warm=False, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **environment) as parts,
        httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False) as client,
    ):
        url = parts.start_api(weights_folder(tmp_path / "weights"))
        headers = {"traceparent": f"00-{TRACE}-{CLIENT}-01", "X-Request-ID": "traced"}
        job_id = client.post(f"{url}/v1/train-jobs", json=DIGITS, headers=headers).raise_for_status().json()["id"]
        assert parts.wait_for(job_id, "succeeded", "failed").status == "succeeded"
        found = collector.wait_for(TRACE, "POST /v1/train-jobs", "job attempt", "work")
        request, attempt, work = (found[name] for name in ("POST /v1/train-jobs", "job attempt", "work"))
        assert [one.service for one in (request, attempt, work)] == ["darkroom-api", "darkroom-worker", "darkroom-work"]
        assert (request.parent, attempt.parent, work.parent) == (CLIENT, request.span_id, attempt.span_id)
        assert attempt.attributes == {
            "darkroom.job_id": job_id,
            "darkroom.attempt": 1,
            "darkroom.kind": "train",
            "darkroom.model": "logged",
            "darkroom.request_id": "traced",
            "darkroom.outcome": "finished",
        }
        wait_until(lambda: f"job {job_id}: finished" in str(lines_of(parts, "first")), "the supervisor's word")
        of_job = [line for line in lines_of(parts, "first") if line.get("job_id") == job_id]
        assert {line["trace_id"] for line in of_job} == {TRACE}
        assert {line["span_id"] for line in of_job} == {attempt.span_id, work.span_id}


def test_traces_that_cannot_be_made_are_refused_at_the_start() -> None:
    environment = os.environ | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "DATABASE_URL": "postgresql://nobody.invalid/nothing",
        "REDIS_URL": "redis://nobody.invalid",
    }
    starts = (
        "from darkroom.app.main import application; application()",
        "from darkroom.worker.celery_app import main; main()",
    )
    for start in starts:
        program = f'import sys; sys.modules["opentelemetry.sdk"] = None; {start}'
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert "-e '.[tracing]'" in ended.stderr
