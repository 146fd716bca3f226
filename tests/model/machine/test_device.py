"""Laws of devices: a refusal names what to change, and nothing waits for what is sent."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from darkroom.model.machine.device import DeviceUnavailable, find_device, uploaded


def test_a_refusal_names_the_gpus_that_the_environment_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "99")
    with pytest.raises(DeviceUnavailable, match="DARKROOM_DEVICE cuda:0 among CUDA_VISIBLE_DEVICES=99 cannot be used"):
        find_device("cuda:0", "DARKROOM_DEVICE")


def test_numbers_go_to_a_gpu_from_pinned_memory_and_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[list[int], dict[str, Any]]] = []

    def pinned(host: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(to=lambda device, **how: sent.append((host.tolist(), {"device": device, **how})))

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    uploaded([3, 4], torch.device("cuda:1"))
    assert sent == [([3, 4], {"device": torch.device("cuda:1"), "non_blocking": True})]


def test_an_array_stays_where_it_is_on_the_cpu() -> None:
    array = np.arange(3.0)
    assert np.shares_memory(uploaded(array, torch.device("cpu")).numpy(), array)
    assert uploaded([1, 2], torch.device("cpu"), torch.float32).tolist() == [1.0, 2.0]
