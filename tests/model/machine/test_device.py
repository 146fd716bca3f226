"""Laws of finding a device: a refusal names what to change."""

import pytest

from darkroom.model.machine.device import DeviceUnavailable, find_device


def test_a_refusal_names_the_gpus_that_the_environment_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "99")
    with pytest.raises(DeviceUnavailable, match="DARKROOM_DEVICE cuda:0 among CUDA_VISIBLE_DEVICES=99 cannot be used"):
        find_device("cuda:0", "DARKROOM_DEVICE")
