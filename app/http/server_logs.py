"""Sets up the API server's logs. `app.middleware.request_watch` logs requests in place of uvicorn."""

import logging

from darkroom.telemetry.logs import set_up_logs

_UVICORN_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


def set_up_server_logs() -> None:
    """Replace uvicorn's log handlers by the service's own.

    Call this while uvicorn imports the application: it has made its handlers then, and has not written a line.
    """
    set_up_logs("api")
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").propagate = False  # without a handler uvicorn makes no lines
