"""Compares the network's speed with diffusers' UNet2DModel of the same shape: `python -m bench.compute`.

The contenders work in turns, with the same input and number of threads. The two tables give median milliseconds: of a
forward pass as each library draws, and of a whole training step with AdamW.
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

from bench.peers.unet_twin import diffusers_twin
from darkroom.model.config import ModelConfig, load_recipe
from darkroom.model.diffusion.network import build_network, form_of, place, prepare_network

CLASSES = 10
BATCHES = (1, 4, 16, 64)
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

    def stepping(network: nn.Module, predict: Callable[[Inputs], Tensor]) -> Work:
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

        def step(rows: Inputs) -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(F.mse_loss(predict(rows), rows[0]))
            optimizer.step()

        return step

    return {
        "darkroom": stepping(ours, lambda rows: ours(*rows)),
        "diffusers": stepping(twin, lambda rows: twin(*rows).sample),
    }


def measure(works: Mapping[str, Work], rows: Inputs, rounds: int, seconds: float) -> dict[str, float]:
    """Return the median milliseconds of each, over rounds in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work(rows)
    for _ in range(rounds):
        for name, work in works.items():
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                work(rows)
                found[name].append(time.perf_counter() - began)
    return {name: 1000.0 * statistics.median(times) for name, times in found.items()}


def table(model: ModelConfig, works: Mapping[str, Work], rounds: int, seconds: float) -> None:
    """Print milliseconds by rows, and the ratio of the better of diffusers' ways to Darkroom's first one."""
    print("| rows | " + " | ".join(works) + " | ratio |\n|" + " ---: |" * (len(works) + 2))
    for rows in BATCHES:
        times = measure(works, inputs(model, rows), rounds, seconds)
        ratio = min(value for name, value in times.items() if name.startswith("diffusers")) / times["darkroom"]
        print(f"| {rows} | " + " | ".join(f"{value:.2f}" for value in times.values()) + f" | {ratio:.2f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.compute", description=(__doc__ or "").split(":")[0] + ".")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/fashion-mnist.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contender in a round")
    arguments = parser.parse_args(argv)
    model = without_patches(load_recipe(arguments.recipe).model)
    print(f"{arguments.recipe}, {torch.get_num_threads()} threads: milliseconds of a forward pass\n")
    table(model, forwards(model), arguments.rounds, arguments.seconds)
    print("\nmilliseconds of a training step\n")
    table(model, trainings(model), arguments.rounds, arguments.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
