"""What the lines of a log have in common while something is done: the request, the job, the attempt.

The fields belong to the context (PEP 567): to a task of the event loop and the threads that it hands work to. A thread
that is started otherwise gets them by `contextvars.copy_context().run`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_fields: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=MappingProxyType({}))


@contextmanager
def log_fields(**fields: object) -> Iterator[None]:
    """Every line that the block logs has these fields; one that is None is left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    token = _fields.set({**_fields.get(), **given})
    try:
        yield
    finally:
        _fields.reset(token)


def current_fields() -> Mapping[str, object]:
    """The fields of a line that is logged now."""
    return _fields.get()
