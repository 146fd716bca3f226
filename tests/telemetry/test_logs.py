"""Laws of log lines: each event is one line with the fields of its job and request, for any text."""

import contextvars
import logging
import subprocess
import sys
import threading
import warnings
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from darkroom.telemetry.log_fields import log_fields
from darkroom.telemetry.logs import LogSettings, line_of, record_of
from tests.telemetry.log_lines import logging_to

log = logging.getLogger("some.module")


def test_a_json_line_has_its_fields_and_those_of_what_it_belongs_to() -> None:
    with logging_to("worker") as written:
        with log_fields(request_id="r-1", job_id=7, attempt=None):
            log.warning("%d of %d", 1, 2, extra={"fields": {"route": "/jobs", "job_id": 8}})
        log.info("after")
    first, second = written.parsed()
    told = datetime.fromisoformat(first.pop("time"))
    assert told.tzinfo == UTC
    assert told.timestamp() > 0
    assert first == {
        "level": "WARNING",
        "logger": "some.module",
        "message": "1 of 2",
        "process": "worker",
        "request_id": "r-1",
        "job_id": 8,  # the line's own field wins
        "route": "/jobs",
    }
    assert set(second) == {"time", "level", "logger", "message", "process"}


def test_a_line_keeps_its_own_time_in_utc() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "m", (), None)
    record.created = 1_700_000_000.25
    with logging_to() as written:
        logging.getLogger().handle(record)
    assert written.parsed()[0]["time"] == "2023-11-14T22:13:20.250Z"


def test_no_text_makes_two_lines_or_takes_the_place_of_a_field() -> None:
    hostile = 'a\nb\r\u2028{"level": "ERROR"} \ud800 é \x1b[31m'
    with logging_to() as written:
        log.info("%s", hostile, extra={"fields": {"message": "forged", "name": hostile, "object": object}})
    assert len(written.getvalue().splitlines()) == 1
    line = written.parsed()[0]
    assert line["message"] == hostile
    assert line["name"] == hostile
    assert line["level"] == "INFO"


def test_a_text_line_has_the_same_and_nothing_passes_for_a_line_of_its_own() -> None:
    with logging_to(log_format="text") as written, log_fields(request_id="r-1", job_id=7):
        log.info("first\n2023-11-14T22:13:20.250Z ERROR forged: line")
    first, second = written.lines()
    time, level, rest = first.split(" ", 2)
    assert datetime.fromisoformat(time).tzinfo == UTC
    assert (level, rest) == ("INFO", "some.module: first")
    assert second.startswith("  2023")
    assert second.endswith("request_id=r-1 job_id=7")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_exception_is_told_with_its_traceback(form: str) -> None:
    with logging_to(log_format=form) as written:
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("it failed")
    if form == "json":
        (line,) = written.parsed()
        assert line["message"] == "it failed"
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: broken")
    else:
        first, *more = written.lines()
        assert first.endswith("it failed")
        assert more[-1] == "  ValueError: broken"


def test_the_level_decides_what_is_told() -> None:
    with logging_to(log_level="warning") as written:
        log.info("not this")
        log.warning("this")
    with logging_to(log_level="DEBUG") as more:
        log.debug("and this")
    assert [line["message"] for line in (*written.parsed(), *more.parsed())] == ["this", "and this"]


def test_a_second_set_up_takes_the_place_of_the_first() -> None:
    with logging_to("first") as first, logging_to("second") as second:
        log.info("once")
    assert first.lines() == []
    assert [line["process"] for line in second.parsed()] == ["second"]


def test_warnings_are_lines() -> None:
    with logging_to() as written, warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # pytest has its own way to show them
        logging.captureWarnings(True)
        warnings.warn("careful", stacklevel=1)
    (line,) = written.parsed()
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "careful" in line["message"]


def test_fields_belong_to_a_context_and_not_to_other_threads() -> None:
    with logging_to() as written:
        with log_fields(job_id=1):
            context = contextvars.copy_context()
            for target in (lambda: log.info("bare"), lambda: context.run(log.info, "given")):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()
        with log_fields(job_id=2), log_fields(attempt=1):
            log.info("both")
    assert [(line.get("job_id"), line.get("attempt")) for line in written.parsed()] == [(None, None), (1, None), (2, 1)]


def test_what_one_process_has_written_another_writes_again() -> None:
    with logging_to("work") as theirs:
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("it failed", extra={"fields": {"images": 4}})
    with logging_to("worker") as ours, log_fields(job_id=7, attempt=2):
        record = record_of(theirs.lines()[0])
        assert record is not None
        logging.getLogger(record.name).handle(record)
    (told,) = ours.parsed()
    assert told == theirs.parsed()[0] | {"job_id": 7, "attempt": 2}


@pytest.mark.parametrize(
    "line",
    [
        *("", "words", "[1]", "3", "null", '{"level": "INFO"}', "[" * 100_000),
        '{"time": "yesterday", "level": "INFO", "logger": "a", "message": "b"}',
        '{"time": "2023-11-14T22:13:20Z", "level": "LOUD", "logger": "a", "message": "b"}',
        '{"time": "2023-11-14T22:13:20Z", "level": ["INFO"], "logger": "a", "message": "b"}',
    ],
)
def test_any_other_text_is_no_line(line: str) -> None:
    assert record_of(line) is None


def test_a_line_can_be_made_without_logging() -> None:
    with logging_to() as written:
        line = record_of(line_of("going down", "celery.worker"))
    assert line is not None
    assert (line.name, line.getMessage()) == ("celery.worker", "going down")
    assert written.lines() == []


def test_what_nobody_caught_is_a_line_too() -> None:
    program = """
import threading
from darkroom.telemetry.logs import LogSettings, set_up_logs
set_up_logs("work", LogSettings(log_format="json"))
thread = threading.Thread(target=lambda: 1 / 0, name="counter")
thread.start()
thread.join()
raise ValueError("the end")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    lines = [record_of(line) for line in ended.stderr.splitlines()]
    assert [line and line.levelname for line in lines] == ["CRITICAL", "CRITICAL"]
    in_thread, last = (str(line and line.exc_text) for line in lines)
    assert in_thread.endswith("ZeroDivisionError: division by zero")
    assert last.endswith("ValueError: the end")
    assert "thread counter" in ended.stderr


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LogSettings() == LogSettings(log_format="text", log_level="INFO")
    monkeypatch.setenv("DARKROOM_LOG_FORMAT", "json")
    monkeypatch.setenv("DARKROOM_LOG_LEVEL", "debug")
    assert LogSettings() == LogSettings(log_format="json", log_level="DEBUG")
    monkeypatch.setenv("DARKROOM_LOG_FORMAT", "xml")
    with pytest.raises(ValidationError, match="log_format"):
        LogSettings()
