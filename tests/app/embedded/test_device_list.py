"""Laws of `darkroom up --devices`: each place has its own GPU, port of metrics and name."""

import pytest

from darkroom.app.embedded import device_list
from darkroom.app.embedded.device_list import read_places
from darkroom.app.embedded.process import EmbeddedError


def test_without_a_list_the_operators_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_METRICS_PORT", "9101")
    (only,) = read_places(None)
    assert (only.environment, only.suffix) == ({}, "")


def test_each_gpu_is_seen_by_its_place_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("DARKROOM_METRICS_PORT", "9101")
    places = read_places(",".join(f"cuda:{index}" for index in range(8)))
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places] == [str(index) for index in range(8)]
    assert {place.environment["DARKROOM_DEVICE"] for place in places} == {"cuda"}
    assert {place.environment["DARKROOM_WORKER_DEVICE"] for place in places} == {"cuda"}
    ports = [place.environment.get("DARKROOM_METRICS_PORT", "9101") for place in places]
    assert ports == [str(port) for port in range(9101, 9109)]
    assert [place.suffix for place in places][:3] == ["", "-2", "-3"]


def test_a_gpu_is_counted_among_those_that_the_operator_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8f2e")
    first, second = read_places("cuda:1, cuda:0")
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "GPU-8f2e"
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "5"
    with pytest.raises(EmbeddedError, match="cuda:2, but CUDA_VISIBLE_DEVICES=5,GPU-8f2e has 2 GPU"):
        read_places("cuda:2")


def test_places_on_the_cpu_hide_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DARKROOM_METRICS_PORT", raising=False)
    told = {"DARKROOM_DEVICE": "cpu", "DARKROOM_WORKER_DEVICE": "cpu"}
    for place in read_places("cpu,cpu"):
        assert place.environment.items() >= told.items()
        assert "CUDA_VISIBLE_DEVICES" not in place.environment


def test_several_places_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_list, "share_of_cores", lambda processes: {"processes": str(processes)})
    (alone,) = read_places("cuda:0")
    assert "processes" not in alone.environment
    eight = read_places(",".join(f"cuda:{index}" for index in range(8)))
    assert {place.environment["processes"] for place in eight} == {"16"}


@pytest.mark.parametrize("devices", ["", "cuda", "gpu:0", "cuda:0,", "cuda:-1", "cuda:0;cuda:1"])
def test_what_is_no_list_of_devices_is_named(devices: str) -> None:
    with pytest.raises(EmbeddedError, match="write cpu or cuda:NUMBER, separated by commas"):
        read_places(devices)
