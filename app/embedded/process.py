"""Child processes that never outlive their parent."""

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
"""Sleeps for some seconds between two checks, such as `time.sleep`; may raise to stop waiting."""

LOG_LIMIT_BYTES = 16 << 20
_CHILD_MAIN = Path(__file__).with_name("child_main.py")


class EmbeddedError(UserError):
    """A reason why the private servers cannot run."""


def make_private(folder: Path) -> None:
    """Create a folder that no other account can read, or close one that an earlier version left open."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(PermissionError):  # it belongs to another account, such as PostgreSQL's
        folder.chmod(0o700)


def make_state_private(state: Path) -> None:
    """Close the state folder, and the folders of logs and data sets in it, to other accounts.

    PostgreSQL has an account of its own where this process is root, and must enter the state folder.
    """
    for folder in (state / "logs", state / "datasets"):
        make_private(folder)
        for file in folder.glob("*.log*"):
            file.chmod(0o600)
    with suppress(PermissionError):
        state.chmod(0o711 if os.geteuid() == 0 else 0o700)


class ChildProcess:
    """A process with a log file, in its own session, so that Ctrl-C at the terminal does not reach it.

    The kernel sends it `parent_death_signal` when this process ends, even by SIGKILL. That works only on Linux;
    elsewhere the next start finds and ends an orphan. Start it from a thread that lives as long as the child should.
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
            # setpriv changes the account, which clears the signal that child_main has set; so setpriv sets it again
            entry += ["-", *account.switch(parent_death_signal)]
        else:
            entry += [f"{account.uid}:{account.gid}" if account else "-"]
        make_private(log.parent)
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags, mode=0o600)) as output:
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
        """Return the exit code: None while it runs, minus the signal's number if a signal ended it."""
        return self._process.poll()

    def fate(self) -> str | None:
        """Describe how it ended, in words that follow its name; None while it runs."""
        code = self.exit_code()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process only; does nothing when it has ended."""
        self._process.send_signal(number)

    def wait(self, seconds: float, pause: Pause = time.sleep) -> bool:
        """Wait until it ends; False if it still runs after `seconds`."""
        end = time.monotonic() + seconds
        while self.exit_code() is None:
            if time.monotonic() >= end:
                return False
            pause(0.02)
        return True

    def kill(self) -> None:
        """Kill it, and the processes that it started in its process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the log of this run."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def works_in(pid: int, folder: Path) -> bool:
    """Return true if process `pid` lives and `folder` is its working directory.

    Servers work in their data folder. So this distinguishes an old server from another process with the same id.
    """
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def end_leftover(pid: int, folder: Path, number: signal.Signals, seconds: float, pause: Pause) -> None:
    """End the server that an earlier run left running in `folder`: by signal `number`, then SIGKILL after `seconds`."""
    for attempt in (number, signal.SIGKILL):
        if not works_in(pid, folder):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, attempt)
        end = time.monotonic() + seconds
        while works_in(pid, folder) and time.monotonic() < end:
            pause(0.05)
    if works_in(pid, folder):
        raise EmbeddedError(f"process {pid} of an earlier run still works in {folder} and cannot be ended: kill it")
