"""Laws of a machine's Prometheus metrics: the disk of a folder, and GPUs if there are any. The driver is a fake."""

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from darkroom.telemetry.machine import watch_machine

GIB = 1 << 30


class FakeNvml(ModuleType):
    """A fake of the used part of `pynvml`. gpus: (used bytes, size in bytes, busy percent). broken: reading fails."""

    class NVMLError(Exception):
        """The error class of `pynvml`."""

    def __init__(self, *gpus: tuple[int, int, int], no_driver: bool = False) -> None:
        super().__init__("pynvml")
        self.gpus = gpus
        self.no_driver = no_driver
        self.broken: int | None = None

    def nvmlInit(self) -> None:
        if self.no_driver:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index == self.broken:
            raise self.NVMLError
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        used, total, _ = self.gpus[handle]
        return SimpleNamespace(used=used, total=total)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=self.gpus[handle][2])


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A fake driver of two GPUs."""
    driver = FakeNvml((3 * GIB, 16 * GIB, 25), (0, 8 * GIB, 100))
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


def _watched(folder: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    watch_machine(registry, folder)
    return registry


def _of_gpus(registry: CollectorRegistry) -> dict[str, dict[str, float]]:
    """Map each GPU metric to its value by device."""
    found: dict[str, dict[str, float]] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name.startswith("darkroom_device_"):
                found.setdefault(sample.name, {})[sample.labels["device"]] = sample.value
    return found


def test_every_gpu_tells_its_memory_and_how_busy_it_is(nvml: FakeNvml, tmp_path: Path) -> None:
    registry = _watched(tmp_path)
    assert _of_gpus(registry) == {
        "darkroom_device_memory_used_bytes": {"0": 3 * GIB, "1": 0},
        "darkroom_device_memory_size_bytes": {"0": 16 * GIB, "1": 8 * GIB},
        "darkroom_device_utilization_ratio": {"0": 0.25, "1": 1.0},
    }
    nvml.gpus = ((4 * GIB, 16 * GIB, 50),)  # every scrape reads the driver again
    assert _of_gpus(registry)["darkroom_device_memory_used_bytes"] == {"0": 4 * GIB}


def test_a_gpu_that_cannot_be_read_does_not_fail_the_scrape(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.broken = 1
    registry = _watched(tmp_path)
    assert _of_gpus(registry)["darkroom_device_memory_size_bytes"] == {"0": 16 * GIB}
    assert registry.get_sample_value("darkroom_disk_size_bytes")


@pytest.mark.parametrize("driver", [None, FakeNvml(no_driver=True)], ids=["no library", "no driver"])
def test_without_library_or_driver_gpus_are_absent(
    driver: FakeNvml | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # None: importing it fails
    registry = _watched(tmp_path)
    assert _of_gpus(registry) == {}
    assert registry.get_sample_value("process_resident_memory_bytes")


def test_the_disk_is_that_of_the_folder_also_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(total=100, used=70, free=30)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    folder = tmp_path / "not" / "yet"
    registry = _watched(folder)
    assert registry.get_sample_value("darkroom_disk_free_bytes") == 30
    assert registry.get_sample_value("darkroom_disk_size_bytes") == 100
    folder.mkdir(parents=True)
    registry.get_sample_value("darkroom_disk_free_bytes")
    assert (asked[0], asked[-1]) == (tmp_path, folder)
