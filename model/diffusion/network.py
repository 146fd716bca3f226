"""Builds the networks that can be trained, and decides how they draw on each device.

Only this module and `unet.py` know the classes of networks that can be trained.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import nn

from darkroom.model.config import ModelConfig
from darkroom.model.diffusion.cpu_network import CpuNetwork
from darkroom.model.diffusion.denoiser import Denoiser, Network, Precision
from darkroom.model.diffusion.fixed_shapes import BUCKETS, FixedShapes, compile_whole
from darkroom.model.diffusion.mixed_precision import MixedPrecision
from darkroom.model.diffusion.unet import UNet
from darkroom.model.machine.compiler import compiler_works
from darkroom.model.machine.determinism import computes_deterministically

DenoisingNetwork = UNet
"""Every class that `build_network` may return."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def build_network(config: ModelConfig, classes: int, embedding_steps: int) -> DenoisingNetwork:
    """Build a network with new weights, which depend on torch's global seed only.

    classes: number of labels without the null label. embedding_steps: T, as `UNet` takes it.
    """
    return UNet(config, classes, embedding_steps)


MOST_PARAMETERS = 1_000_000_000
"""A recipe's network may have so many: 4 GB in float32. A training holds about four times that."""


def unfilled(config: ModelConfig, classes: int, embedding_steps: int) -> DenoisingNetwork:
    """Build a network without weights. It takes no memory, however large the network is."""
    with torch.device("meta"):
        return build_network(config, classes, embedding_steps)


def parameters_of(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(one.numel() for one in network.parameters())


def place(network: AnyModule, device: torch.device) -> AnyModule:
    """Move a network to a device and its 4-D weights to channels-last layout, the fastest one for convolutions."""
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return network


Purpose = Literal["serve", "draw"]
"""serve: in the engine, for hours, so that compilation pays. draw: anything else, from a job's shard to a notebook."""


@dataclass(frozen=True)
class Form:
    """How a trained network draws. The same for everything that draws on a device, but for compilation.

    runtime: onnx in channels-first layout, or torch in channels-last layout. precision: of convolutions and matrix
    products; everything else is float32. batches: the sizes that the network sees; None: every size.
    """

    runtime: Literal["onnx", "torch"]
    precision: Precision
    compiled: bool = False
    batches: tuple[int, ...] | None = None


DETERMINISTIC_BATCHES = (64,)
"""One size alone, since another size may select a kernel that adds in another order."""


def form_of(device: torch.device, purpose: Purpose) -> Form:
    """Return the form in which networks draw on the device, in this process."""
    if device.type == "cpu":
        return Form("onnx", "float32")
    if computes_deterministically():
        return Form("torch", "bfloat16", batches=DETERMINISTIC_BATCHES)
    if purpose == "serve" and compiler_works(device):
        return Form("torch", "bfloat16", compiled=True, batches=BUCKETS)
    return Form("torch", "bfloat16")


def drawn_on(device: torch.device, purpose: Purpose) -> str | None:
    """Return how a GPU draws, as its images say it: `cuda, bfloat16`. None on a CPU."""
    return None if device.type == "cpu" else f"{device.type}, {form_of(device, purpose).precision}"


def prepare_network(network: DenoisingNetwork, config: ModelConfig, device: torch.device, form: Form) -> Network:
    """Return a trained network in the form that draws. `network` must not be used any more."""
    if form.runtime == "onnx":
        return CpuNetwork(network, (config.image_channels, config.image_size, config.image_size))
    module: nn.Module = place(network, device).eval().requires_grad_(False)
    if form.precision == "bfloat16":
        module = MixedPrecision(module)
    carried: Network = compile_whole(module) if form.compiled else module
    return carried if form.batches is None else FixedShapes(carried, form.batches)


def make_denoiser(
    config: ModelConfig,
    class_names: tuple[str, ...],
    network: DenoisingNetwork,
    device: torch.device,
    purpose: Purpose,
    *,
    snapshot: tuple[DenoisingNetwork, ModelConfig] | None = None,
    null_class: bool = True,
) -> Denoiser:
    """Return a denoiser of trained networks, which must not be used any more. It is the one place that prepares them.

    snapshot: with its own configuration. The parameters are those of `Denoiser`.
    """
    form = form_of(device, purpose)

    def made(form: Form, exact: Denoiser | None, *, last: bool) -> Denoiser:
        def prepared(network: DenoisingNetwork, config: ModelConfig) -> Network:
            return prepare_network(network if last else deepcopy(network), config, device, form)

        guide = None if snapshot is None else prepared(*snapshot)
        own = prepared(network, config)
        return Denoiser(
            config, class_names, own, device, guide, null_class=null_class, precision=form.precision, exact=exact
        )

    exact = None
    if purpose == "draw" and form.precision != "float32":
        exact = made(replace(form, precision="float32"), None, last=False)
    return made(form, exact, last=True)
