"""A Prometheus metric that says which servers a process can reach."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from darkroom.telemetry.loops import start_loop

PROBE_SECONDS = 5.0
LATE_SECONDS = 60.0
"""A server that answers later does not answer. Only a folder on a network, such as NFS, holds a probe so long."""


class Reachability(Collector):
    """Probes each server from a thread of its own: one that never answers delays neither a scrape nor the others.

    probes: by name, a function that returns True when the server answers. Before its first probe a server has no
    sample.
    """

    def __init__(self, probes: Mapping[str, Callable[[], bool]]) -> None:
        self._probes = dict(probes)
        self._up: dict[str, bool] = {}
        self._asked: dict[str, float] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Start to probe. The threads do not keep a process from ending."""
        for name, probe in self._probes.items():
            start_loop(f"probe {name}", partial(self._probe, name, probe), self._ended.is_set)

    def stop(self) -> None:
        """Stop probing."""
        self._ended.set()

    def collect(self) -> Iterator[Metric]:
        """The last results, for Prometheus."""
        up = GaugeMetricFamily(
            "darkroom_dependency_up",
            "1 when the server answered when it was last asked, else 0.",
            labels=["dependency"],
        )
        late = {name for name, asked in dict(self._asked).items() if time.monotonic() - asked > LATE_SECONDS}
        for name, answers in (dict(self._up) | dict.fromkeys(late, False)).items():
            up.add_metric([name], float(answers))
        yield up

    def _probe(self, name: str, probe: Callable[[], bool]) -> None:
        up = False
        self._asked[name] = time.monotonic()
        try:
            up = probe()
        finally:
            self._up[name] = up
            del self._asked[name]
        self._ended.wait(PROBE_SECONDS)
