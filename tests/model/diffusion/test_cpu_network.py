"""Laws of the network that draws on the CPU: it is the U-Net, and a row's output depends on that row alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from darkroom.model.config import ModelConfig, SamplingConfig
from darkroom.model.diffusion import cpu_network
from darkroom.model.diffusion.cpu_network import CpuNetwork
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.unet import UNet
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.sampling.draw import plan_row, sample
from tests.model.small import CLASS_NAMES, awaken, small_model

CLASSES = len(CLASS_NAMES)


def both(config: ModelConfig, embedding_steps: int = 1000, threads: int = 1) -> tuple[UNet, CpuNetwork]:
    """Return a random U-Net, and the same network for drawing."""
    network = UNet(config, CLASSES, embedding_steps)
    awaken(network)
    network.eval().requires_grad_(False)
    side = config.image_size
    return network, CpuNetwork(network, (config.image_channels, side, side), threads)


def inputs(config: ModelConfig, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, config.image_channels, config.image_size, config.image_size, generator=generator)
    t = torch.randint(1, config.schedule.steps + 1, (rows,), generator=generator)
    return x, t, torch.arange(rows) % (CLASSES + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_channels": 1},
        {"image_channels": 3, "image_size": 12, "attention_resolutions": (6,)},
        {"image_channels": 3, "image_size": 16, "patch_size": 2, "residual_scale": 0.7},
        {"image_size": 28, "patch_size": 2, "attention_resolutions": (7, 14), "attention_head_channels": 4},
        {"image_size": 16, "multipliers": (1, 2, 2, 3), "attention_resolutions": (2,), "blocks_per_level": 2},
        {"attention_resolutions": (), "middle_attention": False},
        {"image_channels": 3, "image_size": 16, "patch_size": 4, "multipliers": (2,), "learned_variance": True},
    ],
    ids=str,
)
def test_it_is_the_u_net(changes: dict[str, Any]) -> None:
    config = small_model(**changes)
    network, drawing = both(config)
    x, t, labels = inputs(config, 7)
    torch.testing.assert_close(drawing(x, t, labels), network(x, t, labels), rtol=1e-4, atol=1e-5)


def test_it_scales_times_as_the_u_net_does() -> None:
    config = small_model()
    network, drawing = both(config, embedding_steps=50)
    x, _, labels = inputs(config, 5)
    t = torch.tensor([1, 7, 20, 49, 50])
    torch.testing.assert_close(drawing(x, t, labels), network(x, t, labels), rtol=1e-4, atol=1e-5)


def test_it_takes_mixtures_of_classes() -> None:
    config = small_model()
    network, drawing = both(config)
    x, t, labels = inputs(config, 6)
    mixtures = torch.rand(6, CLASSES + 1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawing(x, t, mixtures), network(x, t, mixtures), rtol=1e-4, atol=1e-5)
    alone = torch.nn.functional.one_hot(labels, CLASSES + 1).float()
    assert torch.equal(drawing(x, t, alone), drawing(x, t, labels))


def test_it_keeps_its_weights_and_takes_any_floating_type_and_layout() -> None:
    config = small_model(image_channels=3)
    network, drawing = both(config)
    x, t, labels = inputs(config, 4)
    before = drawing(x, t, labels)
    for parameter in network.parameters():
        parameter.mul_(0.5)
    assert torch.equal(drawing(x.contiguous(memory_format=torch.channels_last), t, labels), before)
    assert torch.equal(drawing(x.double(), t, labels), before.double())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 28, "patch_size": 2, "width": 32, "attention_resolutions": (7,), "multipliers": (1, 2)},
        {"image_channels": 3, "image_size": 16, "width": 24, "attention_resolutions": (8,), "norm_groups": 8},
    ],
    ids=["patches", "colour"],
)
def test_a_row_alone_is_the_same_row_to_the_last_bit(changes: dict[str, Any], threads: int) -> None:
    """PyTorch's own network differs here: its kernels depend on the size of the batch."""
    config = small_model(**changes)
    _, drawing = both(config, threads=threads)
    x, t, labels = inputs(config, 65)
    together = drawing(x, t, labels)
    for rows in (1, 2, 3, 5, 8, 16, 17, 31, 64):
        first, last = slice(0, rows), slice(65 - rows, 65)
        assert torch.equal(drawing(x[first], t[first], labels[first]), together[first]), rows
        assert torch.equal(drawing(x[last], t[last], labels[last]), together[last]), rows
    mixed = torch.nn.functional.one_hot(labels, CLASSES + 1).float() * 0.75 + 0.25 / (CLASSES + 1)
    assert torch.equal(drawing(x[3:4], t[3:4], mixed[3:4]), drawing(x, t, mixed)[3:4])


def test_threads_that_share_rows_or_operations_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_model(image_channels=3, image_size=16, attention_resolutions=(8,))
    batches = [inputs(config, rows) for rows in (1, 2, 7)]
    network, alone = both(config)
    shape = (3, 16, 16)
    monkeypatch.setattr(cpu_network, "LARGE_SECONDS", 1000.0)
    shared_rows = CpuNetwork(network, shape, 3)
    monkeypatch.setattr(cpu_network, "LARGE_SECONDS", 0.0)
    shared_operations = CpuNetwork(network, shape, 3)
    for batch in batches:
        assert torch.equal(shared_rows(*batch), alone(*batch))
        assert torch.equal(shared_operations(*batch), alone(*batch))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_the_same_in_any_batch(sampler: Any) -> None:
    config = small_model(image_channels=3, image_size=16, attention_resolutions=(8,))
    _, drawing = both(config)
    denoiser = Denoiser(config, CLASS_NAMES, drawing)
    settings = SamplingConfig(sampler=sampler, steps=5, guidance=3.0, threshold="dynamic")
    plans = [plan_row(denoiser, settings, label=label % CLASSES, seed=label, index=label) for label in range(19)]
    together = sample(denoiser, plans)
    assert torch.equal(torch.cat([sample(denoiser, [plan]) for plan in plans]), together)
    assert torch.equal(sample(denoiser, plans[4:11]), together[4:11])
