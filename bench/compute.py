"""Compares the network's speed with diffusers' UNet2DModel of the same shape: `python -m bench.compute`.

The contenders work in turns, with the same input and number of threads. The two tables give milliseconds: of a forward
pass as each library draws, and of a whole training step with AdamW. A cell has the median of the rounds, the lowest and
the highest. The peak is the speed of a large matrix product between them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.peers.unet_twin import diffusers_twin
from bench.spread import with_spread
from darkroom.model.config import ModelConfig, load_recipe
from darkroom.model.diffusion.network import build_network, form_of, place, prepare_network

CLASSES = 10
PEAK, PRODUCT_SIDE = "peak", 2048
PRODUCT_OPERATIONS = 2 * PRODUCT_SIDE**3
Inputs = tuple[Tensor, Tensor, Tensor]
Work = Callable[[Inputs], object]


def without_patches(model: ModelConfig) -> ModelConfig:
    """Return the model on rearranged images: UNet2DModel has no patches, but a patch is a pixel of more channels."""
    patch = model.unet.patch_size
    return model.model_copy(
        update={
            "image_channels": model.image_channels * patch**2,
            "image_size": model.image_size // patch,
            "unet": model.unet.model_copy(update={"patch_size": 1}),
        }
    )


def inputs(model: ModelConfig, rows: int) -> Inputs:
    """Return images, times and labels."""
    x = torch.randn(rows, model.image_channels, model.image_size, model.image_size)
    return x.contiguous(memory_format=torch.channels_last), torch.full((rows,), 500), torch.arange(rows) % CLASSES


def forwards(model: ModelConfig) -> Mapping[str, Work]:
    """Return the ways to carry out a forward pass."""
    cpu = torch.device("cpu")
    ours, twin = build_network(model, CLASSES, 1000), place(diffusers_twin(model, CLASSES), cpu).eval()
    compiled = torch.compile(twin, dynamic=False)
    drawing = prepare_network(ours, model, cpu, form_of(cpu, "draw"))

    def calling(network: Callable[..., object]) -> Work:
        return torch.inference_mode()(lambda rows: network(*rows))

    return {
        "darkroom": calling(drawing),
        "darkroom, PyTorch": calling(ours),
        "diffusers": calling(twin),
        "diffusers, compiled": calling(compiled),
    }


def trainings(model: ModelConfig) -> Mapping[str, Work]:
    """Return the ways to make a training step: forward, backward, and an update by AdamW."""
    cpu = torch.device("cpu")
    ours, twin = place(build_network(model, CLASSES, 1000), cpu), place(diffusers_twin(model, CLASSES), cpu)
    ours_compiled, twin_compiled = torch.compile(ours, dynamic=False), torch.compile(twin, dynamic=False)

    def stepping(network: nn.Module, predict: Callable[[Inputs], Tensor]) -> Work:
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

        def step(rows: Inputs) -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(F.mse_loss(predict(rows), rows[0]))
            optimizer.step()

        return step

    return {
        "darkroom": stepping(ours, lambda rows: ours(*rows)),
        "darkroom, compiled": stepping(ours, lambda rows: ours_compiled(*rows)),
        "diffusers": stepping(twin, lambda rows: twin(*rows).sample),
        "diffusers, compiled": stepping(twin, lambda rows: twin_compiled(*rows).sample),
    }


def operations(model: ModelConfig, rows: int, *, training: bool) -> int:
    """Return the floating-point operations of all convolutions and matrix products: a product and a sum count two."""
    network = build_network(model, CLASSES, 1000).requires_grad_(training)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = network(*inputs(model, rows))
        if training:
            output.sum().backward()
    return counter.get_total_flops()


def matrix_product() -> Work:
    """Return a product of two large matrices, with PRODUCT_OPERATIONS."""
    a, b = torch.randn(PRODUCT_SIDE, PRODUCT_SIDE), torch.randn(PRODUCT_SIDE, PRODUCT_SIDE)
    return torch.inference_mode()(lambda rows: a @ b)


def measure(works: Mapping[str, Work], rows: Inputs, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the median milliseconds of each in every round. They take turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work(rows)
    for _ in range(rounds):
        for name, work in works.items():
            times, until = list[float](), time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                work(rows)
                times.append(time.perf_counter() - began)
            found[name].append(1000.0 * statistics.median(times))
    return found


def table(model: ModelConfig, works: Mapping[str, Work], arguments: argparse.Namespace, *, training: bool) -> None:
    """Print milliseconds by rows, and two figures of Darkroom's first way.

    The ratio is that of the better of diffusers' ways to it. Its share of the peak counts the operations of the network
    as it is written, whatever it is converted to.
    """
    print(f"| rows | {' | '.join(works)} | ratio | of the peak |\n|" + " ---: |" * (len(works) + 3))
    for rows in arguments.batches:
        contenders = {**works, PEAK: matrix_product()}
        times = measure(contenders, inputs(model, rows), arguments.rounds, arguments.seconds)
        products, ours = times.pop(PEAK), times["darkroom"]
        best = [
            min(one) for one in zip(*(of for name, of in times.items() if name.startswith("diffusers")), strict=True)
        ]
        share = operations(model, rows, training=training) / PRODUCT_OPERATIONS
        shares = [100.0 * share * product / own for product, own in zip(products, ours, strict=True)]
        ratios = [theirs / own for theirs, own in zip(best, ours, strict=True)]
        cells = [*(with_spread(of, 2) for of in times.values()), with_spread(ratios, 2), f"{with_spread(shares, 0)} %"]
        print(f"| {rows} | {' | '.join(cells)} |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.compute", description=(__doc__ or "").split(":")[0] + ".")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/fashion-mnist.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contender in a round")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64])
    arguments = parser.parse_args(argv)
    model = without_patches(load_recipe(arguments.recipe).model)
    print(f"{arguments.recipe}, {torch.get_num_threads()} threads: milliseconds of a forward pass\n")
    table(model, forwards(model), arguments, training=False)
    print("\nmilliseconds of a training step\n")
    table(model, trainings(model), arguments, training=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
