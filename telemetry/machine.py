"""Prometheus metrics of a process's machine: the process itself, the disk under a folder, the GPUs.

`nvidia-ml-py` (the extra `nvidia`) reads the GPUs. Without it, without a driver or without a GPU there are no such
metrics.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


def watch_machine(registry: CollectorRegistry, folder: Path) -> None:
    """Add the machine's metrics to the registry. folder: on the disk to report; it need not exist yet."""
    ProcessCollector(registry=registry)
    registry.register(_Disk(folder.absolute()))
    nvml = _nvml()
    if nvml is not None:
        registry.register(_Devices(nvml))


class _Disk(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        there = next((one for one in (self._folder, *self._folder.parents) if one.exists()), None)
        if there is not None:
            usage = shutil.disk_usage(there)
            yield GaugeMetricFamily("darkroom_disk_free_bytes", "Free on the disk of the state folder.", usage.free)
            yield GaugeMetricFamily("darkroom_disk_size_bytes", "Size of the state folder's disk.", usage.total)


class _Devices(Collector):
    def __init__(self, nvml: ModuleType) -> None:
        self._nvml = nvml

    def collect(self) -> Iterator[Metric]:
        used = GaugeMetricFamily("darkroom_device_memory_used_bytes", "GPU memory in use.", labels=["device"])
        size = GaugeMetricFamily("darkroom_device_memory_size_bytes", "GPU memory in all.", labels=["device"])
        busy = GaugeMetricFamily(
            "darkroom_device_utilization_ratio", "Share of the time in which the GPU computed.", labels=["device"]
        )
        try:
            for index in range(self._nvml.nvmlDeviceGetCount()):
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                used.add_metric([str(index)], memory.used)
                size.add_metric([str(index)], memory.total)
                busy.add_metric([str(index)], self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0)
        except self._nvml.NVMLError as error:  # a GPU that fell off the bus, one that cannot say
            log.debug("the GPUs cannot be read: %s", error)
        yield from (used, size, busy)


def _nvml() -> ModuleType | None:
    try:
        import pynvml
    except (ImportError, OSError, RuntimeError):  # not installed, or broken
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, no GPU
        return None
    nvml: ModuleType = pynvml
    return nvml
