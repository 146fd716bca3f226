"""Law of the worker's module: an import reads no setting and starts nothing."""

import os
import subprocess
import sys


def test_importing_the_worker_needs_no_setting_and_starts_nothing() -> None:
    program = (
        "import threading, darkroom.worker.celery_app; assert threading.active_count() == 1, threading.enumerate()"
    )
    without = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    ended = subprocess.run([sys.executable, "-c", program], env=without, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
