"""Class confidence against torchmetrics, and its least and greatest values."""

import pytest
import torch
from torch import Tensor

from darkroom.model.metrics.confidence import ClassConfidence


def value_of(logits: Tensor, batch: int = 16) -> float:
    confidence = ClassConfidence()
    for part in torch.split(logits, batch):
        confidence.add(part)
    return confidence.value


def random_logits(count: int, classes: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(count, classes, generator=generator, dtype=torch.float64)


class Passing(torch.nn.Module):
    """A classifier whose logits are the images."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_it_is_the_inception_score_in_one_split() -> None:
    from torchmetrics.image.inception import InceptionScore  # takes a second to import

    logits = random_logits(100, 7)
    metric = InceptionScore(feature=Passing(), splits=1)
    metric.set_dtype(torch.float64)
    metric.update(logits)
    assert value_of(logits) == pytest.approx(float(metric.compute()[0]), rel=1e-9)


def test_certain_and_varied_counts_the_classes_and_undecided_is_one() -> None:
    certain = 1000.0 * torch.eye(5).repeat(4, 1)
    assert value_of(certain) == pytest.approx(5.0)
    assert value_of(certain[:1].repeat(20, 1)) == pytest.approx(1.0)
    assert value_of(torch.zeros(20, 5)) == pytest.approx(1.0)


def test_batches_do_not_matter_and_none_has_no_value() -> None:
    logits = random_logits(50, 4)
    assert value_of(logits, 50) == pytest.approx(value_of(logits, 3), rel=1e-12)
    with pytest.raises(ValueError, match="at least one image"):
        _ = ClassConfidence().value
