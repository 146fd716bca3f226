"""Fields that every log line has while a block runs: the request, the job, the attempt.

The fields belong to the context (PEP 567): a task of the event loop has them, and so have threads to which it hands
work. Start any other thread with `contextvars.copy_context().run` to give it the fields.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_fields: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=MappingProxyType({}))


@contextmanager
def log_fields(**fields: object) -> Iterator[None]:
    """Add these fields to every line that the block logs. A field that is None is left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    token = _fields.set({**_fields.get(), **given})
    try:
        yield
    finally:
        _fields.reset(token)


def current_fields() -> Mapping[str, object]:
    """The fields that a line logged now would have."""
    return _fields.get()
