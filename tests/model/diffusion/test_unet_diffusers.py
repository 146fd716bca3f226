"""The U-Net against diffusers' UNet2DModel: equal parameters give equal outputs."""

from typing import Any

import pytest
import torch

from bench.peers.unet_twin import diffusers_twin, renamed
from darkroom.model.diffusion.unet import UNet
from tests.model.small import awaken, small_model

CLASSES = 5


@pytest.mark.parametrize(
    "changes",
    [
        {"multipliers": (1, 2, 2), "attention_resolutions": (8, 4)},
        {"multipliers": (1, 2, 2), "attention_resolutions": ()},
        {"multipliers": (1, 2, 2), "attention_resolutions": (), "middle_attention": False},
        {"multipliers": (1, 2, 3), "attention_resolutions": (16,), "residual_scale": 0.5**0.5},
        {"multipliers": (1, 1, 2, 2), "attention_resolutions": (4,), "blocks_per_level": 2},
        {"multipliers": (1, 2, 2, 4), "attention_resolutions": (2, 16), "residual_scale": 0.5**0.5},
    ],
    ids=str,
)
def test_outputs_and_gradients_equal_those_of_diffusers(changes: dict[str, Any]) -> None:
    config = small_model(image_channels=3, image_size=16, **changes)
    ours, theirs = UNet(config, CLASSES), diffusers_twin(config, CLASSES)
    awaken(ours)
    weights = {renamed(name): value for name, value in ours.state_dict().items()}
    assert set(weights) == set(theirs.state_dict())  # the mapping is one to one
    assert len(weights) == len(ours.state_dict())
    theirs.load_state_dict(weights)

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(CLASSES + 1, 3, 16, 16, generator=generator)
    t = torch.tensor([1, 2, 250, 500, 999, 1000])
    labels = torch.arange(CLASSES + 1)  # the last is the null label
    output = ours(x, t, labels)
    expected = theirs(x, t - 1, labels).sample
    assert output.std() > 0.1
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)

    ours_gradients = torch.autograd.grad(output.square().mean(), list(ours.parameters()))
    theirs_by_name = dict(theirs.named_parameters())
    matching = [theirs_by_name[renamed(name)] for name, _ in ours.named_parameters()]
    theirs_gradients = torch.autograd.grad(expected.square().mean(), matching)
    for (name, _), mine, other in zip(ours.named_parameters(), ours_gradients, theirs_gradients, strict=True):
        assert mine.any(), f"{name} has no influence"
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4, msg=name)
