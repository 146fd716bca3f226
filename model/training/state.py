"""The training state: weights, EMA, optimizer moments, images and iterations, so that a run resumes bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from darkroom.model.checkpoint import CheckpointError, load_tensors, read_metadata, require_finite
from darkroom.model.config import Recipe, faults_of
from darkroom.model.diffusion.unet import EMBEDDED_STEPS
from darkroom.model.training.ema import ExponentialMovingAverage
from darkroom.model.training.muon import MuonAdamW

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class StateHeader:
    """The header of a training state. embedding_steps: as in `CheckpointHeader`. snapshot_images: of the snapshot.

    seconds, place: as in `Trainer`; a state without a place is of a run without `training.minutes`.
    """

    images_seen: int
    iteration: int
    recipe: Recipe
    dataset_digest: str
    embedding_steps: int
    snapshot_images: int | None = None
    seconds: float = 0.0
    place: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """A copy of the EMA weights after `images_seen` images, which guides the sampling of later checkpoints."""

    images_seen: int
    weights: Mapping[str, Tensor]


def state_tensors(
    network: nn.Module, ema: ExponentialMovingAverage, optimizer: torch.optim.AdamW, snapshot: Snapshot | None
) -> dict[str, Tensor]:
    """Return all tensors of a state by their names in its file."""
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.weights.items()}
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {f"optimizer.{name}.{moment}": state[moment] for moment in _MOMENTS if moment in state}
    if snapshot is not None:
        tensors |= {f"snapshot.{name}": value for name, value in snapshot.weights.items()}
    return tensors


def encode_training_state(header: StateHeader, tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a state, one safetensors file. tensors: from `state_tensors`."""
    metadata = {
        "images_seen": str(header.images_seen),
        "iteration": str(header.iteration),
        "recipe": header.recipe.model_dump_json(),
        "dataset_digest": header.dataset_digest,
        "embedding_steps": str(header.embedding_steps),
    }
    if header.snapshot_images is not None:
        metadata["snapshot_images"] = str(header.snapshot_images)
    if header.place is not None:
        metadata |= {"seconds": str(header.seconds), "place": str(header.place)}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(contiguous, metadata=metadata)


def read_state_header(data: bytes, *, source: str) -> StateHeader:
    """Read a state's header; raises CheckpointError, naming `source`, when the bytes are not a state."""
    metadata = read_metadata(data, source=source)
    try:
        return StateHeader(
            int(metadata["images_seen"]),
            int(metadata["iteration"]),
            Recipe.model_validate_json(metadata["recipe"]),
            metadata["dataset_digest"],
            int(metadata.get("embedding_steps", EMBEDDED_STEPS)),
            int(metadata["snapshot_images"]) if "snapshot_images" in metadata else None,
            float(metadata.get("seconds", 0.0)),
            int(metadata["place"]) if "place" in metadata else None,
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: a safetensors file, but not a training state (no {error})") from error
    except ValidationError as error:
        raise CheckpointError(f"{source}: holds a recipe that is not valid: {faults_of(error)}") from error
    except ValueError as error:
        raise CheckpointError(f"{source}: not a training state: {error}") from error


def require_sound_state(data: bytes, *, source: str) -> None:
    """Raise CheckpointError, naming `source`, when the bytes are damaged or hold numbers that are not finite."""
    require_finite(load_tensors(data, source=source), source)


@torch.no_grad()
def restore_training_state(
    data: bytes,
    network: nn.Module,
    ema: ExponentialMovingAverage,
    optimizer: torch.optim.AdamW,
    *,
    header: StateHeader,
    source: str,
) -> Snapshot | None:
    """Restore network, EMA and optimizer in place; returns the state's snapshot, or None.

    Raises CheckpointError, naming `source`, when tensors do not fit or are not finite. Discard network, EMA and
    optimizer then, because they may be partly restored.
    """
    tensors = load_tensors(data, source=source)
    require_finite(tensors, source)
    try:
        network.load_state_dict(_part(tensors, "model."))
        ema.load(_part(tensors, "ema."))
        for name, parameter in network.named_parameters():
            if header.iteration == 0:
                continue
            moments = _moments(optimizer, parameter)
            state: dict[str, Tensor] = {}
            if moments == _MOMENTS:  # fused AdamW also counts steps, on the parameter's device
                state["step"] = torch.tensor(float(header.iteration), device=parameter.device)
            for moment in moments:
                # Same memory layout as the parameter, so that the arithmetic stays bit for bit the same.
                state[moment] = torch.zeros_like(parameter).copy_(tensors[f"optimizer.{name}.{moment}"])
            optimizer.state[parameter] = state
        if header.snapshot_images is None:
            return None
        kept = _part(tensors, "snapshot.")
        return Snapshot(header.snapshot_images, {name: kept[name] for name in ema.weights})
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{source}: does not fit the recipe's network: {error}") from error


def _moments(optimizer: torch.optim.AdamW, parameter: nn.Parameter) -> tuple[str, ...]:
    """Return the names of the moments that the optimizer keeps for a parameter."""
    return _MOMENTS[:1] if isinstance(optimizer, MuonAdamW) and optimizer.is_matrix(parameter) else _MOMENTS


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
