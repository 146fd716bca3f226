"""Laws of the U-Net that need no other implementation to compare with."""

import math
from typing import Any

import pytest
import torch

from darkroom.model.config import ModelConfig
from darkroom.model.diffusion.network import place
from darkroom.model.diffusion.unet import UNet, embed_classes, sinusoidal_embedding
from tests.model.small import awaken, small_model


@pytest.mark.parametrize(
    "changes",
    [
        {"image_channels": 1},
        {"image_channels": 3, "image_size": 12, "attention_resolutions": (6,)},
        {"image_channels": 3, "image_size": 16, "patch_size": 2},
        {"image_size": 28, "patch_size": 2, "attention_resolutions": (7, 14)},
        {"image_size": 16, "multipliers": (1, 2, 2, 3), "attention_resolutions": (2,)},
        {"attention_resolutions": (), "middle_attention": False},
    ],
    ids=str,
)
def test_output_has_the_shape_of_the_input_and_every_parameter_matters(changes: dict[str, Any]) -> None:
    config = small_model(**changes)
    network = UNet(config, 4)
    awaken(network)
    x = torch.randn(5, config.image_channels, config.image_size, config.image_size)
    output = network(x, torch.tensor([1, 50, 100, 900, 1000]), torch.arange(5))
    assert output.shape == x.shape
    output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_a_new_network_predicts_zero() -> None:
    network = UNet(small_model(), 3)
    assert not network(torch.randn(2, 1, 8, 8), torch.tensor([1, 7]), torch.tensor([0, 3])).any()


def test_rows_do_not_see_each_other() -> None:
    network = UNet(small_model(), 3).eval()
    awaken(network)
    x, t, labels = torch.randn(6, 1, 8, 8), torch.randint(1, 1001, (6,)), torch.tensor([0, 1, 2, 3, 0, 1])
    together = network(x, t, labels)
    alone = torch.cat([network(x[row : row + 1], t[row : row + 1], labels[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_mixture_of_one_class_is_that_class() -> None:
    network = UNet(small_model(), 3).eval()
    awaken(network)
    x, t, labels = torch.randn(4, 1, 8, 8), torch.randint(1, 1001, (4,)), torch.tensor([0, 1, 2, 3])
    mixtures = torch.nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(network(x, t, labels), network(x, t, mixtures))


def test_lower_precision_does_not_tell_a_mixture_from_a_look_up() -> None:
    network, labels = UNet(small_model(), 3), torch.tensor([0, 1, 2, 3])
    awaken(network)
    mixtures = torch.nn.functional.one_hot(labels, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        weight = network.class_embedding.weight
        assert torch.equal(embed_classes(weight, mixtures), embed_classes(weight, labels))


def test_patches_are_space_to_depth_and_back() -> None:
    """A network with patches of 2 equals the network with patches of 1 on the rearranged image."""
    patched = UNet(small_model(image_size=16, patch_size=2), 3).eval()
    plain = UNet(small_model(image_size=8, image_channels=4), 3).eval()
    awaken(patched)
    plain.load_state_dict(patched.state_dict())
    x, t, labels = torch.randn(3, 1, 16, 16), torch.tensor([1, 500, 1000]), torch.tensor([0, 1, 3])
    cells = torch.stack([x[:, 0, i::2, j::2] for i in range(2) for j in range(2)], dim=1)
    output = torch.empty_like(x)
    for channel, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        output[:, 0, i::2, j::2] = plain(cells, t, labels)[:, channel]
    torch.testing.assert_close(patched(x, t, labels), output)


def test_dropout_acts_in_training_only() -> None:
    network = UNet(small_model(dropout=0.5), 3)
    awaken(network)
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 9]), torch.tensor([0, 1])
    assert not torch.equal(network(x, t, labels), network(x, t, labels))
    network.eval()
    assert torch.equal(network(x, t, labels), network(x, t, labels))


def test_memory_layout_does_not_change_the_function() -> None:
    network = UNet(small_model(), 3).eval()
    awaken(network)
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 9]), torch.tensor([0, 1])
    before = network(x, t, labels)
    assert place(network, torch.device("cpu")) is network
    assert network.stem.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x, t, labels), before, rtol=1e-4, atol=1e-5)


def test_time_embedding_formula() -> None:
    embedded = sinusoidal_embedding(torch.tensor([0, 7]), 6)
    frequencies = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]
    expected = [math.cos(7 * f) for f in frequencies] + [math.sin(7 * f) for f in frequencies]
    torch.testing.assert_close(embedded[1], torch.tensor(expected))
    torch.testing.assert_close(embedded[0], torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image_size": 9}, "not divisible"),
        ({"image_size": 8, "patch_size": 8}, "not divisible"),
        ({"norm_groups": 5}, "norm groups"),
        ({"multipliers": (1, 0)}, "norm groups"),
        ({"attention_resolutions": (5,)}, "not a level"),
        ({"attention_head_channels": 12}, "heads"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        small_model(**changes)


def test_the_default_configuration_is_possible() -> None:
    assert ModelConfig().unet.feature_sizes(32) == [32, 16, 8]


@pytest.mark.parametrize("steps", [10, 50, 4000])
def test_equal_shares_of_the_schedule_are_embedded_alike_whatever_its_length(steps: int) -> None:
    """Weights trained with T = 1000 get at time t of another T the embedding of time 1000 t / T."""
    thousand = UNet(small_model(), 3).eval()
    awaken(thousand)
    other = UNet(small_model(), 3, steps).eval()
    other.load_state_dict(thousand.state_dict())
    shares = torch.tensor([0.1, 0.5, 1.0])
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 3])
    t = (shares * steps).long()
    torch.testing.assert_close(other(x, t, labels), thousand(x, (shares * 1000).long(), labels), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(thousand(x, t, labels)[0], thousand(x, (shares * 1000).long(), labels)[0], atol=1e-3)


def test_at_a_thousand_steps_times_are_embedded_as_they_always_were() -> None:
    network = UNet(small_model(), 3, 1000).eval()
    awaken(network)
    x, t, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000]), torch.tensor([0, 1, 2])
    embedded: list[torch.Tensor] = []
    network.time_in.register_forward_pre_hook(lambda module, given: embedded.append(given[0]))
    network(x, t, labels)
    assert torch.equal(embedded[0], sinusoidal_embedding(t - 1, 16))
