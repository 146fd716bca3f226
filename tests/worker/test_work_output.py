"""Laws of a work process's output: the worker's log has it with the job's id, the job's log has it as plain text."""

import logging

from darkroom.telemetry.log_fields import log_fields
from darkroom.worker.work_output import LOG_LINE_LIMIT, relayed
from tests.telemetry.log_lines import logging_to


def test_a_line_of_the_log_is_logged_as_it_was_and_kept_as_text() -> None:
    with logging_to("work") as theirs:
        logging.getLogger("darkroom.worker.training").warning("careful")
    with logging_to("worker") as ours, log_fields(request_id="r-1", job_id=7, attempt=2):
        assert relayed(theirs.lines()[0]) == ["WARNING darkroom.worker.training: careful"]
    belongs = {"request_id": "r-1", "job_id": 7, "attempt": 2}
    assert ours.parsed() == [theirs.parsed()[0] | belongs]
    assert ours.parsed()[0]["process"] == "work"


def test_a_traceback_is_kept_line_by_line() -> None:
    with logging_to("work") as theirs:
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("darkroom.worker.work").exception("it failed")
    with logging_to("worker"):
        kept = relayed(theirs.lines()[0])
    assert kept[0] == "ERROR darkroom.worker.work: it failed"
    assert kept[1].startswith("Traceback")
    assert kept[-1] == "ValueError: broken"


def test_other_output_is_kept_as_it_is_and_logged_too() -> None:
    with logging_to("worker") as ours, log_fields(job_id=7):
        assert relayed("Segmentation fault") == ["Segmentation fault"]
        assert relayed("x" * 3 * LOG_LINE_LIMIT) == ["x" * LOG_LINE_LIMIT]
        assert relayed("") == [""]
        assert relayed("postgresql://me:word@host/db") == ["postgresql://me:***@host/db"]
    lines = ours.parsed()
    assert [line["message"][:12] for line in lines] == ["Segmentation", "x" * 12, "postgresql:/"]
    assert {(line["process"], line["job_id"]) for line in lines} == {("work", 7)}


def test_the_workers_level_holds_for_what_it_passes_on() -> None:
    with logging_to("work", log_level="DEBUG") as theirs:
        logging.getLogger("darkroom.worker.training").debug("details")
    with logging_to("worker", log_level="INFO") as ours:
        assert relayed(theirs.lines()[0]) == ["DEBUG darkroom.worker.training: details"]
    assert ours.lines() == []
