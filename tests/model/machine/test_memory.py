"""Errors after which a smaller batch may succeed, and those after which the device is lost."""

import pytest
import torch

from darkroom.model.machine.memory import is_device_lost, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_too_little_memory_is_known_by_all_its_names_and_leaves_the_device(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_device_lost(error)


def test_a_fault_of_the_device_is_no_want_of_memory() -> None:
    lost = torch.AcceleratorError("CUDA error: device-side assert triggered")
    assert is_device_lost(lost)
    assert not is_out_of_memory(lost)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("CUDA error: out of memory")])
def test_other_errors_are_neither(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert not is_device_lost(error)
