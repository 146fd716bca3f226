"""All that a run needs to go on as if it had never stopped: weights, EMA, optimizer state, images and iterations."""

from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from model.checkpoint import CheckpointError, read_metadata, write_atomically
from model.ema import ExponentialMovingAverage

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_training_state(
    path: Path,
    network: nn.Module,
    ema: ExponentialMovingAverage,
    optimizer: torch.optim.AdamW,
    *,
    images_seen: int,
    iteration: int,
    recipe_json: str,
    dataset_digest: str,
) -> None:
    """Write the state as one safetensors file, atomically."""
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.weights.items()}
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {f"optimizer.{name}.{moment}": state[moment] for moment in _MOMENTS if moment in state}
    metadata = {
        "images_seen": str(images_seen),
        "iteration": str(iteration),
        "recipe": recipe_json,
        "dataset_digest": dataset_digest,
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(contiguous, metadata=metadata))


@torch.no_grad()
def load_training_state(
    path: Path,
    network: nn.Module,
    ema: ExponentialMovingAverage,
    optimizer: torch.optim.AdamW,
    *,
    recipe_json: str,
    dataset_digest: str,
) -> tuple[int, int]:
    """Restore a state in place; returns (images_seen, iteration).

    Raises CheckpointError when the file is missing, damaged or belongs to another recipe or data set.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    metadata = read_metadata(data, source=str(path))
    if metadata.get("recipe") != recipe_json:
        raise CheckpointError(f"{path}: was written by another recipe; resume with that one or choose another folder")
    if metadata.get("dataset_digest") != dataset_digest:
        raise CheckpointError(f"{path}: was trained on another data set ({metadata.get('dataset_digest')})")
    tensors = load(data)
    iteration = int(metadata["iteration"])
    try:
        network.load_state_dict(_part(tensors, "model."))
        ema.load(_part(tensors, "ema."))
        for name, parameter in network.named_parameters():
            if iteration == 0:
                continue
            state: dict[str, Tensor] = {"step": torch.tensor(float(iteration))}
            for moment in _MOMENTS:
                # Into memory laid out like the parameter, so that the arithmetic is the same as before the stop.
                state[moment] = torch.zeros_like(parameter).copy_(tensors[f"optimizer.{name}.{moment}"])
            if parameter.device.type != "cpu":
                state["step"] = state["step"].to(parameter.device)
            optimizer.state[parameter] = state
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit the recipe's network: {error}") from error
    return int(metadata["images_seen"]), iteration


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
