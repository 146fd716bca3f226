"""The adapter to torch-fidelity's Inception, with a substitute for the package: it loads only the expected weights."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import darkroom.model.metrics.inception as inception
from darkroom.model.config import EvaluationConfig, SamplingConfig
from darkroom.model.metrics.evaluation import evaluate, require_metrics
from darkroom.model.metrics.extractor import FeatureExtractor, MetricsUnavailable
from darkroom.model.metrics.inception import WEIGHTS_VARIABLE, Inception
from darkroom.model.metrics.references import FolderReferences
from tests.model.small import random_dataset, small_denoiser


class StandIn(torch.nn.Module):
    """Has the interface of torch-fidelity 0.4's FeatureExtractorInceptionV3, and records its arguments."""

    made: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        self.made.append((name, features_list, feature_extractor_weights_path))
        self.fc = torch.nn.Linear(2048, 1008)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        self.seen = x
        return (torch.nn.functional.pad(x.float().flatten(1), (0, 2048 - x[0].numel())),)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the adapter accepts as the weights."""
    path = tmp_path / "inception.pth"
    path.write_bytes(b"weights")
    monkeypatch.setattr(inception, "WEIGHTS_DIGEST", "sha256:" + hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(path))
    return path


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments that the substitute was constructed with."""
    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = StandIn
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    monkeypatch.setattr(StandIn, "made", [])
    return StandIn.made


def test_it_asks_for_the_pooled_features_from_the_operators_file(
    weights: Path, fidelity: list[tuple[Any, ...]]
) -> None:
    extractor: FeatureExtractor = Inception()
    features = extractor.features(torch.from_numpy(random_dataset(3).images))
    assert StandIn.made == [("inception", ["2048"], str(weights))]
    assert features.shape == (3, extractor.dimension)
    logits = extractor.logits(features)
    assert logits.shape == (3, 1008)
    torch.testing.assert_close(extractor.logits(torch.zeros(1, 2048)), torch.zeros(1, 1008))  # without the bias


@pytest.mark.usefixtures("weights", "fidelity")
def test_its_figures_bear_its_name(tmp_path: Path) -> None:
    config = EvaluationConfig(every_images=1, images=6, extractor="inception", metrics=("kid", "confidence"))
    arguments = (small_denoiser(), "sha256:0", random_dataset(), config, SamplingConfig(steps=2))
    found = evaluate(*arguments, FolderReferences(tmp_path / "references"))
    assert [one.metric for one in found] == ["kid-inception", "confidence-inception"]
    assert {one.protocol["extractor_resize"] for one in found} == {"bilinear-tensorflow1"}


@pytest.mark.usefixtures("fidelity")
def test_other_weights_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"something else")
    for path, words in ((wrong, "6726825d"), (tmp_path / "missing.pth", "No such file")):
        monkeypatch.setenv(WEIGHTS_VARIABLE, str(path))
        with pytest.raises(MetricsUnavailable, match=words):
            Inception()
    monkeypatch.delenv(WEIGHTS_VARIABLE)
    with pytest.raises(MetricsUnavailable, match=WEIGHTS_VARIABLE):
        require_metrics(EvaluationConfig(every_images=1, extractor="inception"))
    assert StandIn.made == []


@pytest.mark.usefixtures("weights")
def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", raising=False)
    with pytest.raises(MetricsUnavailable, match=r"-e '\.\[inception\]'"):
        Inception()
