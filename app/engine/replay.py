"""Recordings of a step, and how far the host may be ahead of the device."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

AHEAD = 2
"""Steps that may be under way: while the device computes one, the host prepares the next."""

UNRECORDED_CALLS = 2
"""Calls before a recording, in which libraries choose their algorithms and take their workspaces."""


class Recording(Protocol):
    """A recorded function without arguments, which reads and writes the same tensors each time."""

    def replay(self) -> None:
        """Compute it again; on a GPU without waiting for the end."""


Recorder = Callable[[Callable[[], None]], Recording]


@dataclass(frozen=True)
class Called:
    """Calls the function each time, where nothing can be recorded."""

    replay: Callable[[], None]


class CudaGraphs:
    """Records functions as CUDA graphs, which share their memory because they never run at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None]) -> Recording:
        """Record the function. Only this thread may wait for it; others may use the device meanwhile."""
        with torch.cuda.device(self._device):  # `torch.cuda.graph` records on the current device alone
            own = torch.cuda.current_stream()
            side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(own)
            with torch.cuda.stream(side):
                for _ in range(UNRECORDED_CALLS):
                    function()
            own.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                function()
        return graph


@dataclass(frozen=True)
class Flight:
    """A step that has ended. device_seconds: 0 where the host computes it, or waits for it."""

    network_rows: int
    host_seconds: float
    device_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The step's duration: host and device work at the same time."""
        return max(self.host_seconds, self.device_seconds)


class Lookahead:
    """Keeps the host at most AHEAD steps before the device, and measures each step.

    event: makes an event that can be recorded, waited for and compared, as torch.cuda.Event.
    current: makes the device the current one, where events are recorded.
    """

    def __init__(
        self, event: Callable[[], Any], current: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self._event, self._current = event, current
        self._flights: deque[tuple[int, float, Any, Any]] = deque()
        self._newest: Flight | None = None

    def wait(self) -> None:
        """Wait until another step may begin."""
        while len(self._flights) >= AHEAD:
            network_rows, host_seconds, began, ended = self._flights.popleft()
            ended.synchronize()
            self._newest = Flight(network_rows, host_seconds, began.elapsed_time(ended) / 1e3)

    @contextmanager
    def flight(self, network_rows: int, host_began: float) -> Iterator[None]:
        """Measure the block as a step. host_began: when the host began to prepare it (time.perf_counter)."""
        began, ended = self._event(), self._event()
        with self._current():
            began.record()
            yield
            ended.record()
        self._flights.append((network_rows, time.perf_counter() - host_began, began, ended))

    def take(self) -> Flight | None:
        """Return the newest step that has ended, once."""
        newest, self._newest = self._newest, None
        return newest


def recording_on(device: torch.device) -> tuple[Recorder, Lookahead]:
    """Return what records steps on a CUDA device, and what measures them there."""
    event = partial(torch.cuda.Event, enable_timing=True)
    return CudaGraphs(device), Lookahead(event, partial(torch.cuda.device, device))
