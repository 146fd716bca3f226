"""Sets up the logs of every process: one line for each event, as JSON for a log store or as text for a person.

A JSON line has `time` (RFC 3339, UTC), `level`, `logger`, `message` and `process`. Where they are known it also has
`request_id`, `job_id`, `attempt`, `trace_id` and `span_id`, the fields of `log.info(..., extra={"fields": {...}})`, and
`exception`, the traceback. Secrets are left out (`telemetry.redaction`).
"""

import json
import logging
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from opentelemetry import trace
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from darkroom.telemetry.log_fields import current_fields
from darkroom.telemetry.redaction import redacted

_BASE = ("time", "level", "logger", "message", "process", "exception")

log = logging.getLogger(__name__)


class LogSettings(BaseSettings):
    """Every field is the environment variable DARKROOM_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="DARKROOM_", extra="ignore")

    log_format: Literal["text", "json"] = Field(
        "text", description="text for a person; json for a log store: one JSON object for each line"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="lines of lower levels are left out"
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class JsonLines(logging.Formatter):
    """One JSON object for each line. process: the name of the process that writes."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line as ASCII JSON."""
        fields = _fields_of(record)
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
            "process": fields.pop("process", self._process),
        }
        line |= {name: value for name, value in fields.items() if name not in _BASE}
        if exception := _exception(self, record):
            line["exception"] = exception
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """A line for a person. Further lines of a message or traceback are indented, so that they cannot pass for lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its fields after the message."""
        fields = _fields_of(record)
        fields.pop("process", None)
        words = [_time(record), record.levelname, f"{record.name}:", redacted(record.getMessage())]
        line = " ".join([*words, *(f"{name}={value}" for name, value in fields.items())])
        if exception := _exception(self, record):
            line = f"{line}\n{exception}"
        return line.replace("\n", "\n  ")


class _Lines(logging.StreamHandler[TextIO]):
    """The one handler that `set_up_logs` makes."""


def set_up_logs(process: str, settings: LogSettings | None = None, stream: TextIO | None = None) -> None:
    """Log to the stream (standard error by default) from now on. A second call replaces the first.

    process: its name in the lines. Warnings and uncaught exceptions become lines, too.
    """
    settings = settings or LogSettings()
    handler = _Lines(stream or sys.stderr)
    handler.setFormatter(JsonLines(process) if settings.log_format == "json" else TextLines())
    handler.setLevel(settings.log_level)
    root = logging.getLogger()
    for before in [one for one in root.handlers if isinstance(one, _Lines)]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread


def line_of(message: str, logger: str) -> str:
    """A line as the root logger's handlers would write it, for code that must not call a logger."""
    record = logging.makeLogRecord(
        {"name": logger, "levelno": logging.INFO, "levelname": "INFO", "msg": message, "args": ()}
    )
    handlers = [one for one in logging.getLogger().handlers if isinstance(one, _Lines)]
    return handlers[0].format(record) if handlers else message


def record_of(line: str) -> logging.LogRecord | None:
    """The record that another process wrote with `JsonLines`, to log it again here; None for any other text."""
    try:
        found = json.loads(line)
        level = logging.getLevelNamesMapping()[found["level"]]
        created = datetime.fromisoformat(found["time"]).timestamp()
        name, message = str(found["logger"]), str(found["message"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return logging.makeLogRecord(
        {
            "name": name,
            "levelno": level,
            "levelname": found["level"],
            "msg": message,
            "args": (),
            "created": created,
            "exc_text": found.get("exception"),
            "fields": {key: value for key, value in found.items() if key == "process" or key not in _BASE},
        }
    )


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record. Its own replace those of the trace, and these replace those of the context."""
    span = trace.get_current_span().get_span_context()
    ids = {}
    if span.is_valid:
        ids = {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}
    own: Mapping[str, object] = getattr(record, "fields", {})
    fields = {**current_fields(), **ids, **own}
    return {name: redacted(value) if isinstance(value, str) else value for name, value in fields.items()}


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    parts = [record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else None)]
    parts.append(record.stack_info)
    return redacted("\n".join(part for part in parts if part)) or None


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("the process ends: %s was not caught", kind.__name__, exc_info=(kind, error, traceback))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is None or issubclass(caught.exc_type, SystemExit):
        return
    name = caught.thread.name if caught.thread else "of no name"
    told = (caught.exc_type, caught.exc_value, caught.exc_traceback)
    log.critical("the thread %s ends: %s was not caught", name, caught.exc_type.__name__, exc_info=told)
