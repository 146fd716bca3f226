"""Hints: Celery messages that say that a job may be runnable. Losing or repeating one does no harm."""

import logging

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

RUN_NEXT_JOB = "darkroom.run_next_job"
"""The task that a hint calls: it claims the most urgent job that its worker can run."""

QUEUE = "darkroom"
CONNECT_SECONDS = 1.0

log = logging.getLogger(__name__)


def celery_app(redis_url: str) -> Celery:
    """A Celery application on the broker, for sending; `worker.celery_app` adds what a worker needs."""
    app = Celery("darkroom", broker=redis_url)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=QUEUE,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": 30.0},
    )
    return app


def broker_answers(redis_url: str) -> bool:
    """Whether the broker answers within CONNECT_SECONDS."""
    try:
        with Redis.from_url(
            redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
        ) as broker:
            return bool(broker.ping())
    except RedisError:
        return False


class Hints:
    """Sends hints."""

    def __init__(self, app: Celery, expire_seconds: float) -> None:
        self._app = app
        self._expire_seconds = expire_seconds

    def send(self) -> bool:
        """Send one; False when the broker is away (the reconciler will send it)."""
        try:
            self._app.send_task(RUN_NEXT_JOB, queue=QUEUE, expires=self._expire_seconds, retry=False)
        except OperationalError as error:
            log.warning("no hint was sent, the broker is away: %s", error)
            return False
        return True
