"""Starts the processes of `darkroom train` on several devices: this one is the first, and starts the others.

They find each other through torchrun's environment variables. Torchrun itself is not used, because it would replace
Ctrl-C handling, messages and exit codes by its own.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from darkroom.model.machine.cores import OPENMP, share_of_cores
from darkroom.model.machine.threads import compute_with
from darkroom.model.training.distributed import launched_rank

GRACE_SECONDS = 10.0
"""Time for the other processes to end after this one, and for this one to end after another has failed."""


@contextmanager
def training_processes(devices: int) -> Iterator[None]:
    """Run `devices` - 1 more processes of the same command during the block, each with its own rank.

    Starts nothing for one device, or when torchrun has already started the processes. In each process the calling
    thread computes with its share of the cores, and threads that start later with one.
    """
    if devices == 1 or launched_rank() is not None:
        compute_with()
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The processes share the cores: on the CPU for PyTorch, and on a GPU for their compilers.
    threads = max(1, torch.get_num_threads() // devices)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(devices)}
    shared |= share_of_cores(devices)
    places = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(devices)]
    compute_with(threads)
    command = [sys.executable, *sys.argv]
    others = [
        subprocess.Popen(command, env=os.environ | place | {OPENMP: str(threads)}, stdin=subprocess.DEVNULL)
        for place in places[1:]
    ]
    os.environ.update(places[0])
    ending = threading.Event()
    for process in others:
        threading.Thread(target=_end_with, args=(process, ending), daemon=True).start()
    try:
        yield
    finally:
        ending.set()
        for name in places[0]:
            del os.environ[name]
        for process in others:
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with(process: subprocess.Popen[bytes], ending: threading.Event) -> None:
    """End this process when the other one fails. This one may be blocked in a collective operation, where no exception
    reaches it."""
    if process.wait() != 0 and not ending.wait(GRACE_SECONDS):
        os._exit(1)
