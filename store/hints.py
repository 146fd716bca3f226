"""Hints: Celery messages that say that there is work.

A hint belongs to no job. Losing or repeating one does no harm.
"""

import logging
import ssl

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

RUN_JOBS = "darkroom.run_next_job"
"""The Celery task of a hint: the worker runs jobs until it finds none that it can run."""

QUEUE = "darkroom"
CONNECT_SECONDS = 1.0

REDIS_AWAY = (RedisError, OperationalError, OSError)
"""The errors of redis-py and kombu when Redis cannot be reached, is full or only reads."""

log = logging.getLogger(__name__)


def celery_app(redis_url: str) -> Celery:
    """A Celery application that sends to the broker. `worker.celery_app` adds what a worker needs."""
    app = Celery("darkroom", broker=redis_url)
    app.conf.update(
        task_ignore_result=True,
        # A stranger who can write to Redis can only send hints: no pickle is read, and no worker takes orders.
        accept_content=["json"],
        worker_enable_remote_control=False,
        task_default_queue=QUEUE,
        # Without it, Celery checks no certificate unless the URL has options (`ssl_ca_certs`), which replace this.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if redis_url.startswith("rediss:") else None,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": 30.0},
    )
    return app


def broker_answers(redis_url: str) -> bool:
    """True when the broker answers within CONNECT_SECONDS."""
    try:
        with _broker(redis_url) as broker:
            return bool(broker.ping())
    except REDIS_AWAY:
        return False


def _broker(redis_url: str) -> Redis:
    return Redis.from_url(redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)


class Hints:
    """Sends hints."""

    def __init__(self, redis_url: str) -> None:
        self._broker = _broker(redis_url)
        self._app = celery_app(redis_url)

    def send_up_to(self, count: int) -> None:
        """Send hints until `count` wait in the queue.

        Log a broker that is away or refuses them, and go on: idle workers also look for jobs by themselves.
        """
        try:
            for _ in range(count - int(self._broker.llen(QUEUE))):
                self.send()
        except REDIS_AWAY as error:
            log.warning("no hint was sent, the broker is away or takes none: %s", error)

    def send(self) -> None:
        """Send one hint. Raises the errors of REDIS_AWAY."""
        self._app.send_task(RUN_JOBS, queue=QUEUE, retry=False)
