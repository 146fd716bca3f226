"""Checks in a process of its own that CUDA devices can be used: a broken driver may hang or end the process that asks.

`python -m darkroom.worker.device_probe DEVICES [--torch]` ends with code 0 when that many devices work. Otherwise it
prints what is wrong. Without `--torch` it asks the driver alone, which takes a fraction of a second.
"""

import ctypes
import os
import sys
from collections.abc import Sequence

_OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY: the device works, and another process fills it."""


def main(arguments: Sequence[str]) -> int:
    devices = int(arguments[0])
    fault = _driver_fault(devices) or (_torch_fault(devices) if "--torch" in arguments else None)
    if fault:
        print(fault)
    return 1 if fault else 0


def _driver_fault(devices: int) -> str | None:
    """Make a context on each device that CUDA_VISIBLE_DEVICES leaves, as any use of it would."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no CUDA driver (libcuda.so.1)"
    found = ctypes.c_int()
    if code := cuda.cuInit(0):
        return f"the CUDA driver cannot be used: {_name(cuda, code)}"
    if code := cuda.cuDeviceGetCount(ctypes.byref(found)):
        return f"the CUDA driver counts no devices: {_name(cuda, code)}"
    if found.value < devices:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        among = "" if visible is None else f" among CUDA_VISIBLE_DEVICES={visible}"
        return f"the CUDA driver finds {found.value} of {devices} device(s){among}"
    for index in range(devices):
        device, context = ctypes.c_int(), ctypes.c_void_p()
        code = cuda.cuDeviceGet(ctypes.byref(device), index)
        code = code or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
        if code not in (0, _OUT_OF_MEMORY):
            return f"CUDA device {index} cannot be used: {_name(cuda, code)}"
    return None


def _name(cuda: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    cuda.cuGetErrorName(code, ctypes.byref(name))
    return name.value.decode() if name.value else f"error {code}"


def _torch_fault(devices: int) -> str | None:
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return None if found >= devices else f"torch {torch.__version__} finds {found} of {devices} CUDA device(s)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
