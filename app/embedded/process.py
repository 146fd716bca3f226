"""Child processes that never outlive the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from darkroom.app.embedded.account import Account
from darkroom.model.user_error import UserError

Pause = Callable[[float], None]
"""Sleeps so many seconds between two looks; may raise to give up waiting. `time.sleep` is one."""

LOG_LIMIT_BYTES = 16 << 20
_CHILD_MAIN = Path(__file__).with_name("child_main.py")


class EmbeddedError(UserError):
    """Something that keeps the private servers from running."""


class ChildProcess:
    """A process in a session of its own (Ctrl-C at the terminal does not reach it), with a log file.

    It gets `parent_death_signal` when this process ends in whatever way, SIGKILL included (Linux only: elsewhere an
    orphan is found and ended by the next start). Must be started from a thread that lives as long as the child shall.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        parent_death_signal: signal.Signals,
        environment: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> None:
        self.name = name
        self.log = log
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        entry = [sys.executable, "-I", "-S", str(_CHILD_MAIN), str(os.getpid()), str(int(parent_death_signal))]
        if account and account.capable:
            # setpriv clears the signal that child_main has set when it changes the account, and sets it again
            entry += ["-", *account.switch(parent_death_signal)]
        else:
            entry += [f"{account.uid}:{account.gid}" if account else "-"]
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [*entry, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""
        return self._process.poll()

    def fate(self) -> str | None:
        """How it ended, in words that go on after its name; None while it runs."""
        code = self.exit_code()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone; nothing happens when it has ended."""
        self._process.send_signal(number)

    def wait(self, seconds: float, pause: Pause = time.sleep) -> bool:
        """Wait for its end; False when it still runs after `seconds`."""
        end = time.monotonic() + seconds
        while self.exit_code() is None:
            if time.monotonic() >= end:
                return False
            pause(0.02)
        return True

    def kill(self) -> None:
        """SIGKILL it and whatever it started in its session's process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that this run has logged."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def works_in(pid: int, folder: Path) -> bool:
    """Whether process `pid` lives and `folder` is its working directory.

    Servers work in their data folder, so this tells a left-over server from a stranger that got its number.
    """
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def end_leftover(pid: int, folder: Path, number: signal.Signals, seconds: float, pause: Pause) -> None:
    """End a server that an earlier run has left working in `folder`: with signal `number`, after `seconds` SIGKILL."""
    for attempt in (number, signal.SIGKILL):
        if not works_in(pid, folder):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, attempt)
        end = time.monotonic() + seconds
        while works_in(pid, folder) and time.monotonic() < end:
            pause(0.05)
    if works_in(pid, folder):
        raise EmbeddedError(f"process {pid} still works in {folder} and cannot be ended")
