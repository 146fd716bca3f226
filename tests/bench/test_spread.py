"""Laws of measurements that are repeated: medians with their spread, and the operations of a network."""

import torch

from bench.compute import inputs, operations
from bench.spread import with_spread
from bench.threads import line
from darkroom.model.diffusion.network import build_network
from tests.model.small import small_model, small_unet


def test_a_figure_has_its_median_its_lowest_and_its_highest_value() -> None:
    assert with_spread([0.3, 0.1, 0.2], 2) == "0.20 (0.10 to 0.30)"
    assert with_spread([1.0, 2.0], 1) == "1.5 (1.0 to 2.0)"


def test_ratios_are_those_of_one_round() -> None:
    found = line("requests", {"alone": [1.0, 2.0], "together": [2.0, 2.0]}, 1, "at most 2")
    assert found == "| requests | 1.5 (1.0 to 2.0) | 2.0 (2.0 to 2.0) | 1.50 (1.00 to 2.00) | at most 2 |"


def test_operations_are_those_of_the_convolutions_the_linear_layers_and_the_attention() -> None:
    model = small_model(unet=small_unet(attention_resolutions=()))
    network, counted = build_network(model, 10, 1000), 0

    def count(layer: torch.nn.Module, given: object, output: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(layer.weight, torch.Tensor)
        counted += 2 * output.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    network(*inputs(model, 3))
    attention = 3 * 2 * (2 * 16 * 16 * 32)  # two products for each image, of 4 x 4 places with 32 channels
    assert operations(model, 3, training=False) == counted + attention
    assert 2 * counted < operations(model, 3, training=True) <= 3 * (counted + attention)
