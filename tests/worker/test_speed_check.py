"""Laws of measuring a worker's speed: it is done once, never beside a job, and a failure costs nothing."""

import json
import sys
import threading
from pathlib import Path

import pytest

from darkroom.store.database import Database
from darkroom.store.worker_repository import known_workers, see_worker
from darkroom.worker.speed_check import SpeedCheck
from tests.processes import living, wait_until

RATES = [{"precision": "float32", "images_per_second": 5.0}]
PYTHON = (sys.executable, "-I", "-S", "-c")


def ended(check: SpeedCheck) -> bool:
    return check._process is None


def test_it_is_measured_once(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    program = "import sys; open(sys.argv[1], 'a').write('x'); print(sys.argv[2])"
    check = SpeedCheck((*PYTHON, program, str(file), json.dumps(RATES)))
    assert check.rates is None
    check.begin()
    wait_until(lambda: check.rates is not None, "measured")
    assert check.rates == RATES
    check.begin()
    assert ended(check)
    assert file.read_text() == "x"


def test_a_job_interrupts_it_and_the_next_idle_moment_begins_again() -> None:
    check = SpeedCheck((*PYTHON, "import time; time.sleep(600)"))
    for _ in range(2):
        check.begin()
        process = check._process
        assert process is not None
        check.begin()  # under way
        assert check._process is process
        check.interrupt()
        wait_until(lambda pid=process.pid: not living({pid}), "killed")
        assert ended(check)
        assert check.rates is None


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('no JSON')"])
def test_a_failure_is_not_tried_again(program: str, caplog: pytest.LogCaptureFixture) -> None:
    check = SpeedCheck((*PYTHON, program))
    check.begin()
    wait_until(lambda: ended(check), "ended")
    check.begin()
    assert ended(check)
    assert check.rates is None
    assert "could not be measured" in caplog.text


def test_a_worker_that_is_not_to_measure_starts_nothing() -> None:
    check = SpeedCheck(None)
    check.begin()
    assert ended(check)
    check.interrupt()
    assert "speed" not in {thread.name for thread in threading.enumerate()}


def test_the_rates_are_stored_with_the_worker(database: Database) -> None:
    with database.session() as session:
        see_worker(session, "one", "cpu", 1, None, RATES)
        see_worker(session, "two", "cuda", 1, None, RATES)
        see_worker(session, "three", "cpu", 1)
        see_worker(session, "one", "cpu", 1)  # a beat before it has measured again
    with database.session() as session:
        assert {worker.name: worker.rates for worker in known_workers(session, "auto")} == {
            "one": RATES,
            "two": RATES,
            "three": None,
        }
        assert {worker.name for worker in known_workers(session, "cpu")} == {"one", "three"}
