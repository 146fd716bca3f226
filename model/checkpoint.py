"""Weights files: safetensors with the complete configuration in the header, named by their content's SHA-256.

A file holds the EMA weights in float32 and, as JSON in the header, everything needed to sample from them. Reading one
executes nothing: tensors are raw numbers, and the header is validated like any other input.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from darkroom.model.config import (
    Config,
    ModelConfig,
    ModelName,
    Recipe,
    SamplingConfig,
    ScheduleConfig,
    UNetConfig,
    faults_of,
    image_form_moved,
)
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.network import DenoisingNetwork, Purpose, make_denoiser, parameters_of, unfilled
from darkroom.model.diffusion.unet import EMBEDDED_STEPS
from darkroom.model.digest import digest_of
from darkroom.model.figure import Figure
from darkroom.model.sampling.draw import draws_finite
from darkroom.model.user_error import UserError

_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, a number of this many bytes."""

_HEADER_KEY = "darkroom"
_STATE_KEYS = {"iteration", "dataset_digest"}
"""Keys that tell a training state (`model/training/state.py`) from other safetensors files."""

_SNAPSHOT_PREFIX = "snapshot."
_DIVERGED = "its training has diverged: use an earlier checkpoint"


class CheckpointError(UserError, ValueError):
    """A weights file that cannot be used; the message names the file and its fault."""


class SnapshotHeader(Config):
    """Describes the second network that a weights file carries to guide sampling: a snapshot, or a smaller network.

    unet: the second network's configuration, None where it equals the model's. Everything else equals the model's.
    """

    images_seen: int = Field(ge=0)
    unet: UNetConfig | None = None


class CheckpointHeader(Config):
    """The header of a weights file. evaluations: figures with their protocols; metrics: figures without.

    embedding_steps: as `UNet` takes it. Files from before times were scaled lack it; the default embeds their times
    unscaled. undrawn: the indices of classes without training images, which are never drawn.
    """

    format_version: int = Field(1, ge=1, le=1)
    name: ModelName
    model: ModelConfig
    embedding_steps: int = Field(EMBEDDED_STEPS, ge=2)
    sampling: SamplingConfig
    class_names: tuple[str, ...] = Field(min_length=1)
    undrawn: tuple[int, ...] = ()
    images_seen: int = Field(ge=0)
    dataset_digest: str
    metrics: dict[str, float] = Field(default_factory=dict)
    evaluations: tuple[Figure, ...] = ()
    recipe: Recipe | None = None
    snapshot: SnapshotHeader | None = None

    @property
    def null_class(self) -> bool:
        """True when the network also learned to predict without a class, as guidance needs; assumed for no recipe."""
        return self.recipe is None or self.recipe.objective.label_drop > 0.0

    @property
    def parameters(self) -> int:
        """The number of the network's parameters, without those of the snapshot."""
        return parameters_of(self.unfilled_network(self.model))

    @property
    def snapshot_parameters(self) -> int:
        """The number of parameters of a snapshot's network."""
        return parameters_of(self.unfilled_network(self.snapshot_model))

    def unfilled_network(self, model: ModelConfig) -> DenoisingNetwork:
        """Build a network without weights. It takes no memory, however large a network the header claims."""
        return unfilled(model, len(self.class_names), self.embedding_steps)

    @property
    def snapshot_model(self) -> ModelConfig:
        """The snapshot's configuration: the model's, with the snapshot's own network where it has one."""
        own = None if self.snapshot is None else self.snapshot.unet
        return self.model if own is None else self.model.model_copy(update={"unet": own})

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, data: Any) -> Any:
        """Move the image's form out of the snapshot's network, where older files repeat it."""
        model, snapshot = (data.get(one) if isinstance(data, Mapping) else None for one in ("model", "snapshot"))
        if not isinstance(model, Mapping) or not isinstance(snapshot, Mapping):
            return data
        own = image_form_moved({**image_form_moved(model), "unet": snapshot.get("unet")})
        return {**data, "snapshot": {**snapshot, "unet": own["unet"]}}

    @model_validator(mode="after")
    def _snapshot_fits(self) -> Self:
        if self.sampling.guide == "snapshot" and self.snapshot is None:
            raise ValueError("sampling.guide is snapshot, but the file carries no snapshot")
        self.snapshot_model.unet.require_image_size(self.model.image_size)
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A weights file in memory. digest: "sha256:..." of its bytes; snapshot: the second network's weights, or None."""

    header: CheckpointHeader
    weights: Mapping[str, Tensor]
    digest: str
    snapshot: Mapping[str, Tensor] | None = None

    def denoiser(self, device: torch.device | None = None, purpose: Purpose = "draw") -> Denoiser:
        """Build the network with these weights, ready to sample on `device` (default: the CPU).

        Raises CheckpointError when the weights do not fit the configuration, or draw images that are not finite.
        """
        header = self.header
        snapshot = None
        if header.snapshot is not None and self.snapshot is not None:
            snapshot = self._network(header.snapshot_model, self.snapshot), header.snapshot_model
        denoiser = make_denoiser(
            header.model,
            header.class_names,
            self._network(header.model, self.weights),
            device or torch.device("cpu"),
            purpose,
            snapshot=snapshot,
            null_class=header.null_class,
        )
        if not draws_finite(denoiser):
            raise CheckpointError(f"{self.digest}: draws images that are not finite; {_DIVERGED}")
        return denoiser

    def _network(self, model: ModelConfig, weights: Mapping[str, Tensor]) -> DenoisingNetwork:
        network = self.header.unfilled_network(model)
        try:
            own = {name: value.to(torch.float32, copy=True) for name, value in weights.items()}
            network.load_state_dict(own, assign=True)
        except RuntimeError as error:
            raise CheckpointError(f"{self.digest}: the weights do not fit the configuration: {error}") from error
        return network


def require_scaled_times(embedding_steps: int, schedule: ScheduleConfig, source: str) -> None:
    """Raise CheckpointError, naming `source`, for weights that embed times in another way than training does now."""
    if embedding_steps != schedule.steps:
        raise CheckpointError(
            f"{source}: is of an earlier version, which did not scale the times of its {schedule.steps} diffusion "
            "steps before it embedded them. You can sample from it, but not train it further: begin from new weights"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file's content by `data`. After a crash the file holds either the old bytes or the new ones.

    Raises OSError, which names the file. On a full disk the old bytes stay, and nothing else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def encode_checkpoint(
    header: CheckpointHeader, weights: Mapping[str, Tensor], snapshot: Mapping[str, Tensor] | None = None
) -> bytes:
    """Return the bytes of a weights file.

    snapshot: the second network's weights. Raises ValueError when only one of it and `header.snapshot` is given.
    """
    if (header.snapshot is None) != (snapshot is None):
        raise ValueError("header.snapshot and the snapshot's weights must be given together: pass both or neither")
    named = dict(weights) | {_SNAPSHOT_PREFIX + name: value for name, value in (snapshot or {}).items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in named.items()}
    without = None if header.undrawn else {"undrawn"}  # so that earlier versions read the usual file
    return save(tensors, metadata={_HEADER_KEY: header.model_dump_json(exclude=without)})


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor with a number that is not finite in float32; None when all are finite."""
    return next((name for name, value in tensors.items() if not value.to(torch.float32).isfinite().all()), None)


def require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError, naming `source`, when a tensor holds a number that is not finite."""
    broken = first_not_finite(tensors)
    if broken is not None:
        raise CheckpointError(f"{source}: {broken} holds numbers that are not finite; {_DIVERGED}")


def decode_checkpoint(data: bytes, *, source: str) -> Checkpoint:
    """Read a weights file's bytes.

    Raises CheckpointError, naming `source`, when they are damaged or hold numbers that are not finite.
    """
    tensors, header = load_tensors(data, source=source), read_header(data, source=source)
    require_finite(tensors, source)
    if header.snapshot is None:
        return Checkpoint(header, tensors, digest_of(data))
    snapshot = {
        name.removeprefix(_SNAPSHOT_PREFIX): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(_SNAPSHOT_PREFIX)
    }
    return Checkpoint(header, tensors, digest_of(data), snapshot)


def read_header(beginning: bytes, *, source: str) -> CheckpointHeader:
    """Read the header of a weights file; raises CheckpointError naming `source` and the fault.

    beginning: the first `header_end` bytes or more.
    """
    metadata = read_metadata(beginning, source=source)
    if metadata.keys() >= _STATE_KEYS:
        raise CheckpointError(
            f"{source}: a training state, with which a run continues; name a weights file, such as those in the run's "
            "folder checkpoints/"
        )
    if _HEADER_KEY not in metadata:
        raise CheckpointError(f"{source}: a safetensors file, but not one of Darkroom's (no header)")
    try:
        return CheckpointHeader.model_validate_json(metadata[_HEADER_KEY])
    except ValidationError as error:
        raise CheckpointError(f"{source}: invalid header: {faults_of(error, 'header')}") from error


def header_end(beginning: bytes) -> int:
    """Return where a safetensors file's header ends, in bytes. beginning: its first 8 bytes or more."""
    return _LENGTH_BYTES + int.from_bytes(beginning[:_LENGTH_BYTES], "little")


def read_metadata(beginning: bytes, *, source: str) -> dict[str, str]:
    """Read the metadata in a safetensors file's header; raises CheckpointError when the header is damaged.

    beginning: the first `header_end` bytes or more.
    """
    unreadable = f"{source}: not a readable safetensors file: its header is "
    end = header_end(beginning)
    if len(beginning) < _LENGTH_BYTES or end > len(beginning):
        raise CheckpointError(f"{unreadable}cut off")
    try:
        header = json.loads(beginning[_LENGTH_BYTES:end])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{unreadable}not JSON: {error}") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else ()
    if not isinstance(metadata, dict | None):
        raise CheckpointError(f"{unreadable}not an object with metadata")
    return {str(key): str(value) for key, value in (metadata or {}).items()}


def load_tensors(data: bytes, *, source: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; raises CheckpointError when it is damaged."""
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{source}: not a readable safetensors file: {error}") from error
    except KeyError as error:
        raise CheckpointError(f"{source}: holds numbers of a type that torch does not have: {error}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file; raises CheckpointError when it is missing, damaged or not one of Darkroom's."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    return decode_checkpoint(data, source=str(path))
