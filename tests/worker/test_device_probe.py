"""Laws of the device test: it passes when all devices can be used, and otherwise says what is wrong."""

import ctypes
import subprocess
import sys
from typing import Any

import pytest

from darkroom.worker import device_check, device_probe
from darkroom.worker.device_check import PROBE, DeviceCheck


class Driver:
    """A fake libcuda. codes: return codes of functions that do not return 0 (CUDA_SUCCESS)."""

    def __init__(self, devices: int, **codes: int) -> None:
        self._devices = devices
        self._codes = codes
        self.retained = 0

    def cuInit(self, flags: int) -> int:
        return self._codes.get("cuInit", 0)

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._devices
        return self._codes.get("cuDeviceGetCount", 0)

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return self._codes.get("cuDeviceGet", 0)

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        self.retained += 1
        return self._codes.get("cuDevicePrimaryCtxRetain", 0)

    def cuGetErrorName(self, code: int, name: Any) -> int:
        name._obj.value = b"CUDA_ERROR_%d" % code
        return 0


def ask(monkeypatch: pytest.MonkeyPatch, driver: Driver, devices: int) -> tuple[int, str]:
    """Run the test with this driver; returns its exit code and output."""
    said: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr("builtins.print", said.append)
    return device_probe.main([str(devices)]), "".join(said)


def test_each_device_gets_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(4)
    assert ask(monkeypatch, driver, 3) == (0, "")
    assert driver.retained == 3


def test_a_device_that_something_else_fills_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, Driver(1, cuDevicePrimaryCtxRetain=2), 1) == (0, "")


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (Driver(1, cuInit=999), "the CUDA driver cannot be used: CUDA_ERROR_999"),
        (Driver(1, cuDeviceGetCount=3), "the CUDA driver counts no devices: CUDA_ERROR_3"),
        (Driver(1), "the CUDA driver finds 1 of 2 device(s) among CUDA_VISIBLE_DEVICES=0"),
        (Driver(2, cuDeviceGet=101), "CUDA device 0 cannot be used: CUDA_ERROR_101"),
        (Driver(2, cuDevicePrimaryCtxRetain=46), "CUDA device 0 cannot be used: CUDA_ERROR_46"),
    ],
)
def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch, driver: Driver, said: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert ask(monkeypatch, driver, 2) == (1, said)


def test_in_its_own_process_it_finds_no_device_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ended = subprocess.run([*PROBE, "1"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "CUDA driver" in ended.stdout
    check = DeviceCheck(1)
    assert not check.passes()
    assert check.fault == ended.stdout.strip()


def test_torch_has_its_own_word(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for found, code in ((0, 1), (1, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: bool(found))
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=found: found)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(1))
        assert device_probe.main(["1", "--torch"]) == code


def test_a_worker_on_the_cpu_has_nothing_to_test() -> None:
    assert DeviceCheck(0, ("false",)).passes()


def test_a_driver_that_does_not_answer_is_a_fault_and_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_check, "TIMEOUT_SECONDS", 0.2)
    now = [0.0]
    check = DeviceCheck(1, (sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"), lambda: now[0])
    assert not check.passes()
    assert check.fault == "its driver does not answer within 0.2 s"
