"""Whether the servers that a process depends on answer, as a metric."""

import threading
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PROBE_SECONDS = 5.0


class Reachability(Collector):
    """Probes each dependency from a thread of its own, so that one which never answers holds up neither a scrape nor
    the others. probes: name -> whether it answers now, which must not raise. Tells nothing of what was never probed.
    """

    def __init__(self, probes: Mapping[str, Callable[[], bool]]) -> None:
        self._probes = dict(probes)
        self._up: dict[str, bool] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Probe from now on; the threads keep no process from ending."""
        for name, probe in self._probes.items():
            threading.Thread(target=self._keep_probing, args=(name, probe), name=f"probe {name}", daemon=True).start()

    def stop(self) -> None:
        """Probe no more."""
        self._ended.set()

    def collect(self) -> Iterator[Metric]:
        """Prometheus: of what was found last."""
        up = GaugeMetricFamily(
            "darkroom_dependency_up",
            "1 when the server answered when it was last asked, else 0.",
            labels=["dependency"],
        )
        for name, answers in dict(self._up).items():
            up.add_metric([name], float(answers))
        yield up

    def _keep_probing(self, name: str, probe: Callable[[], bool]) -> None:
        while not self._ended.is_set():
            self._up[name] = probe()
            self._ended.wait(PROBE_SECONDS)
