"""Which device to compute on, tried before anything depends on it."""

import torch

from darkroom.model.user_error import UserError


class DeviceUnavailable(UserError):
    """A device that cannot be used here."""


def find_device(name: str | None, option: str, *, tried: bool = False) -> torch.device:
    """The device called `name`; for None or "auto", CUDA where there is one, else the CPU.

    option: where the name came from, for messages. tried: another process has found that the device works.
    Raises DeviceUnavailable when nothing can be computed on it.
    """
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
        raise DeviceUnavailable(f"{option} {name} cannot be used: {reason}. Use cpu, or repair the driver") from error
    return device


def require_devices(device: torch.device, number: int) -> None:
    """Raise DeviceUnavailable when there are fewer CUDA devices than `number`; the CPU is shared by any number."""
    if device.type == "cuda" and number > torch.cuda.device_count():
        raise DeviceUnavailable(
            f"the recipe's training.devices is {number} but CUDA has {torch.cuda.device_count()} here; "
            "lower training.devices, or use --device cpu"
        )
