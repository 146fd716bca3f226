"""The adapter to the package lpips, with a substitute for it: distances equal the package's, from verified weights."""

import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import darkroom.model.metrics.lpips as adapter
from darkroom.model.config import EvaluationConfig, SamplingConfig
from darkroom.model.metrics.evaluation import evaluate
from darkroom.model.metrics.extractor import MetricsUnavailable
from darkroom.model.metrics.lpips import ALEXNET_VARIABLE, LPIPS
from darkroom.model.metrics.references import FolderReferences
from tests.model.small import random_dataset, small_denoiser

FEATURES = {0: (3, 4), 3: (4, 6)}
"""Index in AlexNet's `features`, and channels, of the substitute's convolutions."""


class Slices(nn.Module):
    """Two of AlexNet's slices, with the package's names."""

    def __init__(self) -> None:
        super().__init__()
        self.slice1, self.slice2 = nn.Sequential(), nn.Sequential()
        for part, (place, channels) in zip((self.slice1, self.slice2), FEATURES.items(), strict=True):
            part.add_module(str(place), nn.Conv2d(*channels, 3, stride=2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.slice1(x)
        return first, self.slice2(first)


class Layer(nn.Module):
    """A layer's weights, preceded by dropout as in the package."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))
        nn.init.uniform_(self.model[1].weight)


class StandIn(nn.Module):
    """Has the interface of lpips 0.1.4's LPIPS, with its distance between two batches of images in -1..1."""

    def __init__(self, net: str, version: str, pnet_rand: bool, model_path: str, verbose: bool) -> None:
        super().__init__()
        assert (net, version, pnet_rand, verbose) == ("alex", "0.1", True, False)
        assert Path(model_path).exists()
        self.net, self.lins = Slices(), nn.ModuleList([Layer(4), Layer(6)])
        self.scaling_layer = nn.Identity()
        self.eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(len(x))
        for one, other, layer in zip(self.net(x), self.net(y), self.lins, strict=True):
            a, b = (m / (m.square().sum(1, keepdim=True).sqrt() + 1e-10) for m in (one, other))
            total = total + layer.model((a - b).square()).mean((1, 2, 3))
        return total


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the substitute with its weights and AlexNet's file; returns the path of the package's weights."""
    package = tmp_path / "lpips"
    (package / "weights" / "v0.1").mkdir(parents=True)
    layer_weights = package / "weights" / "v0.1" / "alex.pth"
    layer_weights.write_bytes(b"layers")
    module: Any = ModuleType("lpips")
    module.__file__, module.LPIPS = str(package / "__init__.py"), StandIn
    monkeypatch.setitem(sys.modules, "lpips", module)
    generator = torch.Generator().manual_seed(0)
    alexnet = {
        name: torch.randn(shape, generator=generator)
        for place, (inputs, outputs) in FEATURES.items()
        for name, shape in (
            (f"features.{place}.weight", (outputs, inputs, 3, 3)),
            (f"features.{place}.bias", (outputs,)),
        )
    }
    torch.save({**alexnet, "classifier.1.weight": torch.zeros(1)}, tmp_path / "alexnet.pth")
    monkeypatch.setenv(ALEXNET_VARIABLE, str(tmp_path / "alexnet.pth"))
    for name, path in (("LAYER_WEIGHTS_DIGEST", layer_weights), ("ALEXNET_DIGEST", tmp_path / "alexnet.pth")):
        monkeypatch.setattr(adapter, name, "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())
    return layer_weights


@pytest.mark.usefixtures("installed")
def test_the_distance_of_embeddings_is_the_packages_own() -> None:
    network = LPIPS()
    x, y = (torch.from_numpy(random_dataset(4, channels=3, side=64, seed=seed).images) for seed in (0, 1))
    with torch.inference_mode():
        expected = network._network(x.float() / 127.5 - 1.0, y.float() / 127.5 - 1.0)
    found = (network.embed(x) - network.embed(y)).square().sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("installed")
def test_it_loads_alexnets_weights_and_enlarges_small_images() -> None:
    network = LPIPS()
    kept = torch.load(os.environ[ALEXNET_VARIABLE], weights_only=True)
    for name, value in network._network.net.state_dict().items():
        assert torch.equal(value, kept["features." + name.split(".", 1)[1]])
    small, large = (torch.from_numpy(random_dataset(2, side=side).images) for side in (8, 64))
    assert network.embed(small).shape == network.embed(large).shape
    assert network.embed(torch.from_numpy(random_dataset(2, side=96).images)).shape[1] > network.embed(large).shape[1]


@pytest.mark.usefixtures("installed")
def test_its_figures_bear_its_name(tmp_path: Path) -> None:
    config = EvaluationConfig(every_images=1, images=6, metrics=("lpips",))
    arguments = (small_denoiser(), "sha256:0", random_dataset(), config, SamplingConfig(steps=2))
    found = evaluate(*arguments, FolderReferences(tmp_path / "references"))
    assert [one.metric for one in found] == ["lpips-alex-diversity", "lpips-alex-nearest"]


def test_what_is_missing_or_another_is_named(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.write_bytes(b"other layers")
    with pytest.raises(MetricsUnavailable, match="instead of"):
        LPIPS()
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(MetricsUnavailable, match=r"-e '\.\[lpips\]'"):
        LPIPS()
    monkeypatch.setattr(adapter, "ALEXNET_DIGEST", "sha256:0")
    with pytest.raises(MetricsUnavailable, match="is not AlexNet's weights"):
        LPIPS()
    monkeypatch.delenv(ALEXNET_VARIABLE)
    with pytest.raises(MetricsUnavailable, match=ALEXNET_VARIABLE):
        LPIPS()
