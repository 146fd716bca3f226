"""Laws of `darkroom jobs`: it prints the service's answers and messages, and its exit code says how the job ended."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from darkroom.app.cli import jobs as jobs_command
from darkroom.app.cli.main import cli
from darkroom.app.plans.service import MEASURING_SECONDS
from darkroom.app.settings import REPOSITORY
from darkroom.model.config import load_recipe
from darkroom.model.digest import digest_of
from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast
from darkroom.store.database import Database
from darkroom.store.dataset_repository import DatasetFacts
from darkroom.store.job_repository import add_event, get_job, stop
from darkroom.store.run_repository import append_log, record_verdict
from darkroom.store.tables import Job
from darkroom.store.worker_repository import see_worker
from tests.app.cli.calls import Run, run_on
from tests.app.served import Service, serving
from tests.app.training import (
    SHAPES,
    add_dataset,
    broken,
    checkpoint,
    claim,
    end,
    holding,
    killed,
    metrics,
    see_measured,
)
from tests.processes import PATIENCE_SECONDS, free_port, wait_until

NOISE = [
    Finding("noise", "failure", None, "still noise; train longer"),
    Finding("few_pictures", "warning", "b", "b has 3 pictures"),
]
STRANGE = "[bold]Größe 形[/bold]"


@pytest.fixture
def jobs(tmp_path: Path, database_url: str, database: Database) -> Iterator[Service]:
    add_dataset(database)
    add_dataset(database, STRANGE, SHAPES)
    with serving(tmp_path, wait_until_ready=False, database_url=database_url) as service:
        yield service


@pytest.fixture
def run(jobs: Service) -> Run:
    return run_on(jobs, "jobs")


def row(database: Database, job_id: int) -> Job:
    with database.session() as session:
        return get_job(session, job_id)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    for word in words:
        assert word in result.output


def test_submitted_jobs_are_listed_under_their_names(run: Run, database: Database, tmp_path: Path) -> None:
    assert run().output == "No jobs.\n"
    result = run(
        *("submit", "digits", "--dataset", STRANGE, "--model", "mine", "--promote", "--priority", 3),
        *("--set", "training.total_images=2e4", "--set", "training.precision=bfloat16"),
    )
    refused(result, "/overrides/training.total_images")  # the service, not the command, validates values
    result = run(
        *("submit", "digits", "--dataset", STRANGE, "--model", "mine", "--promote", "--priority", 3),
        *("--set", "training.total_images=20000", "--set", "training.precision=bfloat16"),
    )
    assert result.exit_code == 0, result.output
    assert STRANGE in result.output
    job = row(database, 1)
    assert (job.model_name, job.promote, job.priority, job.total_images) == ("mine", "best", 3, 20_000)
    assert job.configuration["recipe"]["training"]["precision"] == "bfloat16"

    here = tmp_path / "own.yaml"
    here.write_text((REPOSITORY / "recipes" / "digits.yaml").read_text().replace("name: digits", "name: own"))
    assert run("submit", here, "--dataset", "shapes").exit_code == 0
    lines = run().output.splitlines()
    assert len(lines) == 3  # in a pipe each job has one line, however narrow the window is
    assert "own" in lines[1]
    assert STRANGE in lines[2]
    assert "0 of 20,000" in lines[2]
    assert len(run("--model", "mine").output.splitlines()) == 2
    assert run("--status", "failed").output == "No jobs.\n"


def test_a_data_set_and_a_time_are_planned_and_said(run: Run, database: Database) -> None:
    see_measured(database, "worker")
    result = run("submit", "--dataset", "shapes", "--minutes", 90)
    assert result.exit_code == 0, result.output
    for words in ("shapes on shapes; it trains for about 1.5 hours", "images in 90 minutes"):
        assert words in result.output
    assert (row(database, 1).promote, row(database, 1).configuration["recipe"]["training"]["minutes"]) == ("best", 90.0)
    refused(run("submit", "--dataset", "shapes", "--minutes", 2000), "/long")
    assert run("submit", "--dataset", "shapes", "--minutes", 2000, "--long", "--no-promote").exit_code == 0
    assert row(database, 2).promote == "never"


def test_submit_waits_until_the_worker_that_just_started_has_measured_its_speed(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session() as session:
        see_worker(session, "worker", "cpu", 1, None)
    asked: list[float] = []

    def measure(seconds: float) -> None:
        asked.append(seconds)
        see_measured(database, "worker")

    monkeypatch.setattr(jobs_command, "time", SimpleNamespace(sleep=measure))
    result = run("submit", "--dataset", "shapes", "--minutes", 90)
    assert result.exit_code == 0, result.output
    assert asked == [MEASURING_SECONDS]
    assert "Waiting until a worker has measured" in result.output
    assert row(database, 1).status == "queued"


def test_submit_does_not_wait_for_ever(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.session() as session:
        see_worker(session, "worker", "cpu", 1, None)
    asked: list[float] = []
    monkeypatch.setattr(jobs_command, "time", SimpleNamespace(sleep=asked.append))
    result = run("submit", "--dataset", "shapes", "--minutes", 90)
    assert (result.exit_code, sum(asked)) == (2, jobs_command.PATIENCE_SECONDS)
    assert result.output.count("Waiting") == 1
    assert "worker does so when it has no job" in result.output


def test_the_example_in_the_help_works_as_printed(run: Run, database: Database) -> None:
    printed = CliRunner().invoke(cli, ["jobs", "submit", "--help"], env={"COLUMNS": "200"}).output
    (example,) = (line.strip() for line in printed.splitlines() if line.strip().startswith("darkroom jobs submit "))
    words = shlex.split(example)[2:]
    result = run(*words, "--dataset", "shapes")
    assert result.exit_code == 0, result.output
    recipe = row(database, 1).configuration["recipe"]
    assert (recipe["training"]["total_images"], recipe["model"]["unet"]["dropout"]) == (200_000, 0.1)
    assert recipe["model"]["image_size"] == 8  # the object does not name it, so the recipe decides

    # every recipe has the fields of the example
    for path in (REPOSITORY / "recipes").glob("*.yaml"):
        model = load_recipe(path).model
        facts = DatasetFacts(
            "zip", digest_of(path.name.encode()), ("a",), (900,), model.image_channels, model.image_size
        )
        add_dataset(database, path.stem, facts)
        result = run("submit", path.stem, *words[2:], "--dataset", path.stem)
        assert result.exit_code == 0, result.output


def test_a_refusal_prints_the_service_s_message(run: Run, jobs: Service, tmp_path: Path) -> None:
    refused(run("submit", "nothing", "--dataset", "shapes"), "/recipe", "digits")
    refused(run("submit", "digits", "--dataset", "[bold]"), "'[bold]'")
    refused(run("submit", "digits", "--set", "training.seed"), "FIELD=VALUE")
    refused(run("submit", tmp_path / "none.yaml"), "none.yaml")
    refused(run("submit", "digits", "--set", "sampling.guidance=NaN"), "finite")
    refused(run("submit", "--dataset", "shapes"), "--minutes")
    refused(run("submit", "--dataset", "shapes", "--minutes", 45), "start one with `darkroom worker`")
    for command in ("watch", "cancel", "resume", "retry", "logs"):
        refused(run(command, 99), "99")
        result = CliRunner().invoke(cli, ["jobs", command, "1", "--url", "http://127.0.0.1:1"])
        refused(result, "make up")
    refused(CliRunner().invoke(cli, ["jobs", "--url", "http://127.0.0.1:1"]), "make up")
    assert jobs.client.get("/v1/train-jobs").json()["jobs"] == []


def test_a_malformed_key_is_an_error(jobs: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("ключ", "drk_a\nX-Other: 1"):
        monkeypatch.setenv("DARKROOM_API_KEY", key)
        refused(CliRunner().invoke(cli, ["jobs", "--url", jobs.url]), "DARKROOM_API_KEY")
    monkeypatch.setenv("DARKROOM_API_KEY", "drk_unknown")
    refused(CliRunner().invoke(cli, ["jobs", "--url", jobs.url]), "the key in DARKROOM_API_KEY", "revoked")


def test_cancel_resume_and_retry(run: Run, database: Database) -> None:
    run("submit", "digits", "--dataset", "shapes")
    refused(run("resume", 1), "queued")
    assert run("cancel", 1).output == "Job 1 is cancelled\n"
    assert run("resume", 1).output == "Job 1 is queued\n"
    end(database, claim(database), broken)
    assert run("retry", 1).output == "Job 1 is queued\n"
    assert row(database, 1).status == "queued"


def test_the_log_is_printed_line_by_line(run: Run, database: Database) -> None:
    run("submit", "digits", "--dataset", "shapes")
    lines = [f"{number} {STRANGE} " + "x" * 300 for number in range(1500)]
    with holding(database, claim(database)) as (session, job):
        append_log(session, job, lines)
    assert run("logs", 1).output.splitlines() == lines


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        (None, 0, "succeeded: digits; best fid-x 3"),
        (broken, 1, "it broke; mend it"),
        (stop, 1, "was cancelled"),
        (killed, 1, "it has no checkpoint"),
    ],
)
def test_watching_ends_with_the_job(
    run: Run, jobs: Service, database: Database, how: Callable[..., object] | None, code: int, says: str
) -> None:
    run("submit", "digits", "--dataset", "shapes")
    lease = claim(database)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(run, "watch", 1)
        metrics(database, lease, 100)
        checkpoint(database, lease, 200, {"fid-x": 3.0})
        with holding(database, lease) as (session, job):
            add_event(session, job, "evaluation_failed", {"images_seen": 200, "detail": "out of memory"})
            add_event(session, job, "note", {"detail": "the learning rate leaps"})
            record_verdict(session, job, 200, NOISE)
            record_verdict(session, job, 300, [], Forecast(312.0, 198.0, 450.0, 250.0))
            record_verdict(session, job, 400, [], Forecast(298.0, 200.0, 420.0, 250.0))
        if how in (stop, killed):
            jobs.client.post("/v1/train-jobs/1/cancel")
        end(database, lease, *([] if how is None else [how]))
        result = watching.result(PATIENCE_SECONDS)
    assert result.exit_code == code, result.output
    assert says in result.output
    assert "200 images: version 1" in result.output
    assert "200 images: evaluation failed: out of memory" in result.output
    assert "note: the learning rate leaps" in result.output
    assert "200 images: failure: still noise; train longer; warning: b has 3 pictures" in result.output
    assert "300 images: nothing wrong found; at the end, expect a distance of 310 (200 to 450)" in result.output
    assert "400 images: nothing wrong found; at the end, expect a distance of 300 (200 to 420)" in result.output
    assert run("watch", 1).exit_code == code  # the same for a job that has already ended


def test_submit_can_watch_the_job(run: Run, database: Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(run, "submit", "digits", "--dataset", "shapes", "--watch")
        wait_until(lambda: _count(database) == 1, "submitted")
        end(database, claim(database))
        assert watching.result(PATIENCE_SECONDS).exit_code == 0


def _count(database: Database) -> int:
    with database.session() as session:
        return len(session.query(Job).all())


def test_a_watcher_survives_the_service_s_restart(tmp_path: Path, database_url: str, database: Database) -> None:
    add_dataset(database)
    port = free_port()
    settings = {"wait_until_ready": False, "database_url": database_url, "port": port}
    with serving(tmp_path, **settings) as service:
        body = {"recipe": "digits", "dataset": "shapes"}
        assert service.client.post("/train-jobs", json=body).status_code == 202
        lease = claim(database)
        checkpoint(database, lease, 100)
        watching = watcher(service, 1)
        told = [told_line(watching)]
    checkpoint(database, lease, 200)
    with watching, serving(tmp_path, **settings):
        told.append(told_line(watching))
        checkpoint(database, lease, 300)
        end(database, lease)
        told.append(told_line(watching))
        assert watching.wait(PATIENCE_SECONDS) == 0
        assert watching.stderr is not None
        assert "version" not in watching.stderr.read()
    assert told == [f"{images} images: version {images // 100}" for images in (100, 200, 300)]


def watcher(service: Service, job_id: int) -> subprocess.Popen[str]:
    """Start `darkroom jobs watch` as a process."""
    command = [sys.executable, "-c", "from darkroom.app.cli.main import main; main()", "jobs", "watch", str(job_id)]
    return subprocess.Popen([*command, "--url", service.url], stderr=subprocess.PIPE, text=True)


def told_line(watching: subprocess.Popen[str]) -> str:
    """Return the next line about a checkpoint."""
    assert watching.stderr is not None
    return next(line.strip() for line in watching.stderr if ": version" in line)


def test_ctrl_c_leaves_the_job_running(jobs: Service, database: Database, run: Run) -> None:
    run("submit", "digits", "--dataset", "shapes")
    lease = claim(database)
    with watcher(jobs, 1) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "attempt 1" in line
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(PATIENCE_SECONDS) == 130
    assert "Job 1 keeps running" in said
    assert "Traceback" not in said
    assert row(database, 1).status == "running"
    end(database, lease)


def test_an_ended_job_is_deleted_unless_it_is_marked(run: Run, database: Database) -> None:
    run("submit", "digits", "--dataset", "shapes")
    refused(run("delete", 1, "--force"), "train-jobs/1 is queued")
    assert run("delete", 1, "--dry-run").output.splitlines()[1].split() == [
        "train-jobs/1",
        "is",
        "queued",
        "prevents",
        "it",
    ]
    run("cancel", 1)
    assert run("keep", 1).output == "Job 1 is marked to be kept\n"
    assert row(database, 1).keep
    refused(run("delete", 1), "train-jobs/1 is marked to be kept")
    assert run("keep", 1, "--off").output == "Job 1 is no longer marked\n"
    assert run("delete", 1, "--dry-run").output == "Job 1 can be deleted: nothing hangs on it.\n"
    assert run("delete", 1).output == "Job 1 is deleted\n"
    refused(run("delete", 1), "no job 1")
    refused(run("delete", 1, "--generate"), "no generate job 1")
