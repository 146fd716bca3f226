"""Laws of the worker's module: an import reads no setting and starts nothing, and a message is only a hint."""

import os
import pickle
import subprocess
import sys

import pytest
from kombu.exceptions import ContentDisallowed
from kombu.serialization import dumps, loads, prepare_accept_content

from darkroom.store.hints import celery_app


def test_importing_the_worker_needs_no_setting_and_starts_nothing() -> None:
    program = (
        "import threading, darkroom.worker.celery_app; assert threading.active_count() == 1, threading.enumerate()"
    )
    without = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    ended = subprocess.run([sys.executable, "-c", program], env=without, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_message_is_never_a_pickle_and_no_order() -> None:
    settings = celery_app("redis://localhost:1/0").conf
    assert settings.worker_enable_remote_control is False
    accepted = prepare_accept_content(settings.accept_content)
    hint = dumps([[], {}], settings.task_serializer)
    assert loads(hint[2], hint[0], hint[1], accept=accepted) == [[], {}]
    with pytest.raises(ContentDisallowed):
        loads(pickle.dumps([]), "application/x-python-serialize", "binary", accept=accepted)
