"""Starts Python programs as forks of a process that has imported what they need, in place of a new Python.

Importing torch and the application takes two to four seconds of processor time, more than most programs of these tests
need for all else. `Popen` takes the place of `subprocess.Popen`. A program that it starts is a process like any other:
a child of its caller, which can stop it, kill it and wait for it. It has a session, streams, signals and an environment
of its own, and /proc shows its command and environment. The programs that it starts, or becomes, are forked as well.
Variables that libraries read when they are imported have no effect.

Other tests start each command as a user does: system/test_up.py (`up`, and the processes that it starts),
system/test_compose.py (`api`, `worker`, `reconciler`, `migrate`), darkroom_package/test_training.py (`train`) and
app/cli/test_evaluate.py (`evaluate`).
"""

import atexit
import contextlib
import contextvars
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from tests.processes import PATIENCE_SECONDS

IMPORTS = (
    "torch._dynamo",
    "darkroom.app.main",
    "darkroom.app.cli.main",
    "darkroom.app.cli.train",
    "darkroom.app.cli.evaluate",
    "darkroom.app.embedded.up",
    "darkroom.worker.assembling",
    "darkroom.worker.celery_app",
    "darkroom.worker.reconciler",
    "darkroom.worker.shard_drawing",
    "darkroom.worker.training",
    "darkroom.worker.work",
    "uvicorn",
)
ROOT = Path(__file__).parents[1]
PYTHON, DARKROOM = sys.executable, str(Path(sys.executable).with_name("darkroom"))
FLAGS = frozenset(("-u", "-I", "-P", "-S"))

PR_SET_CHILD_SUBREAPER = 36
SHOWN_BYTES = 8192
"""Room in this process's memory for the command and the environment that /proc shows."""

_libc = ctypes.CDLL(None)
_lock = threading.Lock()


class Popen(subprocess.Popen[Any]):
    """Forks a warm process when the command is a Python program or `darkroom`, else starts the command."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        command = [os.fspath(part) for part in args]
        if not _is_python(command):
            super()._execute_child(args, *rest)
            return
        cwd, environment, pipes, new_session = rest[4], rest[5], rest[9:15], rest[20]
        streams = [own if own != -1 else number for number, own in enumerate((pipes[0], pipes[3], pipes[5]))]
        start = {
            "command": command,
            "folder": os.fspath(cwd or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "new_session": bool(new_session),
        }
        self.pid = _fork(start, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)


SUBPROCESS = SimpleNamespace(**(vars(subprocess) | {"Popen": Popen}))
"""The module `subprocess`, with `Popen` of this module."""


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; returns its code and output."""
    pipe = subprocess.PIPE
    with Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=env, cwd=cwd) as process:
        try:
            out, error = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def _is_python(command: Sequence[str]) -> bool:
    return sys.platform == "linux" and command[0] in (PYTHON, DARKROOM) and "-c" not in command


def _fork_by_the_warm_process(start: Mapping[str, Any], streams: Sequence[int]) -> int:
    """Ask the warm process, which is started by the first call, for a program. It becomes a child of this process."""
    global _warm
    with _lock:
        if _warm is None:
            _warm, theirs = socket.socketpair()
            with theirs:
                environment = os.environ | {"SHOWN": " " * SHOWN_BYTES, "C_FORCE_ROOT": "1"}  # Celery reads it early
                command = [PYTHON, "-m", "tests.warm", str(theirs.fileno())]
                subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
        message = json.dumps(start).encode()
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become children of this process
        try:
            socket.send_fds(_warm, [len(message).to_bytes(4)], streams)
            _warm.sendall(message)
            return int.from_bytes(_received(_warm, 4))
        finally:
            _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _fork_here(start: Mapping[str, Any], streams: Sequence[int]) -> int:
    """Fork this process, which is warm because it was forked itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        # What this process would do at its end, such as deleting temporary folders, is left to it.
        atexit._clear()
        weakref.finalize._registry.clear()
        weakref.finalize._registered_with_atexit = False
        contextvars.Context().run(_live_as, start, streams)
    return pid


_warm: socket.socket | None = None
_fork: Callable[[Mapping[str, Any], Sequence[int]], int] = _fork_by_the_warm_process


def _received(connection: socket.socket, count: int) -> bytes:
    message = b""
    while len(message) < count:
        part = connection.recv(count - len(message))
        if not part:
            raise EOFError
        message += part
    return message


def _live_as(start: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be the program, in a process that was just forked."""
    global _fork
    code = 1
    try:
        if start["new_session"]:
            os.setsid()
        _take_streams(streams)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(start["folder"])
        os.environ.clear()
        os.environ.update(start["environment"])
        _fork = _fork_here
        subprocess.Popen = Popen
        os.execv = _exec(os.execv)
        os.execvp = _exec(os.execvp)
        _run(start["command"])
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        # What Python does at its end. This may be no main thread of Python's: then only `_exit` ends the process.
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 0xFF)


def _take_streams(streams: Sequence[int]) -> None:
    """Make the files standard input, output and error. All others become /dev/null: an object may close them later."""
    own = [os.dup(number) for number in streams]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if number > 2 and number not in (*own, nowhere):
                os.fstat(number)
                os.dup2(nowhere, number, inheritable=False)
    for number, stream in enumerate(own):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, closefd=False)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout = os.fdopen(1, "w", buffering=1 if unbuffered or os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _exec(execute: Callable[[str, Sequence[str]], NoReturn]) -> Callable[[str, Sequence[str]], NoReturn]:
    """Become a Python program without starting Python; any other command as `execute` does."""

    def become(path: str, command: Sequence[str]) -> NoReturn:
        if not _is_python(command):
            execute(path, command)
        _run(command)
        sys.exit()

    return become


def _run(command: Sequence[str]) -> None:
    """Run a Python program in this process."""
    _show(command)
    arguments = list(command)
    if arguments[0] == PYTHON:
        arguments.pop(0)
    while arguments[0] in FLAGS:
        arguments.pop(0)
    if arguments[0] != "-m":
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")
        return
    _, module, *_ = arguments
    sys.argv = arguments[1:]
    sys.path[0] = os.getcwd()
    if hasattr(importlib.import_module(module), "__path__"):
        module += ".__main__"
    sys.modules.pop(module, None)  # it runs as `__main__`
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _show(command: Sequence[str]) -> None:
    """Write the command and the environment where /proc/PID/cmdline and /proc/PID/environ read them.

    The command is longer than this process's own, so the kernel shows it up to its end (like setproctitle), with spaces
    between its parts.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, _, _, end = map(int, fields[45:49])
    told = os.fsencode("\0".join([" ".join(command), *(f"{name}={value}" for name, value in os.environ.items())]))
    ctypes.memmove(start, told[: end - start - 1].ljust(end - start, b"\0"), end - start)


def main(control: int) -> None:
    """Be the warm process: fork a program for each message, until the other end of the socket is closed."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # forks share the memory of what is never collected
    with socket.socket(fileno=control) as connection, contextlib.suppress(EOFError):
        while True:
            size, streams, _, _ = socket.recv_fds(connection, 4, 3)
            if not size:
                return
            start = json.loads(_received(connection, int.from_bytes(size)))
            connection.sendall(_fork_of_an_orphan(start, streams).to_bytes(4))
            for number in streams:
                os.close(number)


def _fork_of_an_orphan(start: Mapping[str, Any], streams: Sequence[int]) -> int:
    """Fork a program by a process that ends at once, so that the process that asked adopts it."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        parent = os.getpid()
        if (pid := os.fork()) != 0:
            os.write(writer, pid.to_bytes(4))
            os._exit(0)
        while os.getppid() == parent:
            time.sleep(0.0005)
        _live_as(start, streams)
    os.waitpid(between, 0)
    pid = int.from_bytes(os.read(reader, 4))
    os.close(reader)
    os.close(writer)
    return pid


if __name__ == "__main__":
    main(int(sys.argv[1]))
