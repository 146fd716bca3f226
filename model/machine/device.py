"""Finds the device to compute on, and tries it before other work depends on it."""

import os
from typing import Any

import torch
from torch import Tensor

from darkroom.model.machine.determinism import follow_settings
from darkroom.model.user_error import UserError


class DeviceUnavailable(UserError):
    """A device that cannot be used here."""


def find_device(name: str | None, option: str, *, tried: bool = False) -> torch.device:
    """Return the device called `name`; for None or "auto", CUDA if the machine has it, else the CPU.

    option: where the name came from, for messages. tried: True when another process has already tried the device.
    It follows the setting DARKROOM_DETERMINISTIC before the device computes. Raises DeviceUnavailable when the device
    does not compute, and UserError for a wrong value of that setting.
    """
    follow_settings()
    if name is None or name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise DeviceUnavailable(f"{option} {name} cannot be used: write cpu, cuda or cuda:NUMBER")
    try:
        device = torch.device(name)
        if not tried:
            torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).strip().splitlines()[0].rstrip(".!")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # `darkroom up --devices cuda:7` sets it
        among = "" if visible is None else f" among CUDA_VISIBLE_DEVICES={visible}"
        detail = f"{option} {name}{among} cannot be used: {reason}. Use cpu, or repair the driver"
        raise DeviceUnavailable(detail) from error
    return device


def uploaded(numbers: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers of the host (a list, an array, a tensor) as a tensor on the device. Nothing waits for the device.

    CUDA waits for all earlier work before it copies from memory that is not pinned. On the CPU an array is not copied.
    """
    host = torch.as_tensor(numbers, dtype=dtype)
    if device.type == "cuda" and host.device.type == "cpu":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def require_devices(device: torch.device, number: int) -> None:
    """Raise DeviceUnavailable when there are fewer CUDA devices than `number`; any number of processes share a CPU."""
    if device.type == "cuda" and number > torch.cuda.device_count():
        raise DeviceUnavailable(
            f"the recipe's training.devices is {number} but CUDA has {torch.cuda.device_count()} here; "
            "lower training.devices, or use --device cpu"
        )
