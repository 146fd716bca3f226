"""The API server's logs. uvicorn's own lines go the way of all others; `app.middleware.request_watch` logs requests."""

import logging

from darkroom.telemetry.logs import set_up_logs

_OF_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


def set_up_server_logs() -> None:
    """To be called when the application is imported: uvicorn has made its handlers by then, and has said nothing."""
    set_up_logs("api")
    for name in _OF_UVICORN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").propagate = False  # without any handler uvicorn does not even make its lines
