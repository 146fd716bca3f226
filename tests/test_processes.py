"""Laws of the tests themselves: none waits for ever, even under `nohup make test &`, which ignores signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_processes_that_tests_start_take_signals_that_the_tests_were_started_to_ignore() -> None:
    program = """
import signal, subprocess, sys
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
from tests.processes import pass_on_no_ignored_signal
pass_on_no_ignored_signal()
for number in numbers:
    signal.raise_signal(number)  # still ignored here
child = "import signal; print([signal.getsignal(n) is signal.SIG_IGN for n in (2, 15, 1)])"
subprocess.run([sys.executable, "-c", child], check=True)
"""

    ignoring = """
import os, signal, sys
for number in (2, 15, 1):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
    ended = subprocess.run(
        [sys.executable, "-c", ignoring, sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "[False, False, False]\n"
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_a_test_that_hangs_fails_and_shows_where(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert 0 < float(request.config.getini("timeout")) <= 120
    (tmp_path / "test_hanging.py").write_text(
        "import threading\n\ndef test_it():\n    threading.Event().wait()\n\ndef test_next():\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    ended = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-o", "timeout=1", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    assert "Timeout" in ended.stdout
    assert "threading.Event().wait()" in ended.stdout
    assert "1 failed, 1 passed" in ended.stdout
