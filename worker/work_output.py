"""Passes what a work process writes on to the worker's log and to the job's own.

`worker.work` writes JSON lines to its supervisor, whatever DARKROOM_LOG_FORMAT says. Other lines, of a library or the
interpreter, stay unchanged.
"""

import logging

from darkroom.telemetry.logs import record_of
from darkroom.telemetry.redaction import redacted

LOG_LINE_LIMIT = 2000

log = logging.getLogger(__name__)


def relayed(line: str) -> list[str]:
    """Log a line of a work process as this process's own; returns the lines that the job's log keeps of it."""
    record = record_of(line)
    if record is None:
        kept = redacted(line)[:LOG_LINE_LIMIT]
        if kept.strip():
            log.info("%s", kept, extra={"fields": {"process": "work"}})
        return [kept]
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
    text = f"{record.levelname} {record.name}: {record.getMessage()}"
    return [part[:LOG_LINE_LIMIT] for part in "\n".join(filter(None, (text, record.exc_text))).split("\n")]
