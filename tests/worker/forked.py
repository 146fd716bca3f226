"""Work processes that are forked from the tests' process, which has imported torch, in place of started ones.

Importing torch takes longer than all else that most of these processes do. Tests of whole systems start real ones.
"""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import BinaryIO


class ForkedWork:
    """Stands in for `subprocess.Popen` with a command `python -m MODULE ARGUMENT...`; calls the module's `main`."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **of_popen: object) -> None:
        assert of_popen == {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "start_new_session": True,
        }
        _, option, module, *arguments = command
        assert option == "-m"
        main = importlib.import_module(module).main
        importlib.import_module("darkroom.worker.work")  # here, and not again in each process
        reader, writer = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                _become_a_process(writer, env)
                main(arguments)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writer)
        self.stdout: BinaryIO = os.fdopen(reader, "rb")

    def poll(self) -> int | None:
        """Return the code when the process has ended, else None."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the end and return the code, negative for a signal."""
        code = self._wait(0)
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid != 0:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become_a_process(output: int, env: Mapping[str, str]) -> None:
    """Take a session, standard streams, signals and an environment of its own."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 256)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
