"""Weights files: safetensors with the complete configuration in the header, named by their content's SHA-256.

A file holds the EMA weights in float32 and, as JSON in the header, everything needed to sample from them. Reading one
executes nothing: tensors are raw numbers, and the header is validated like any other input.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.config import Config, ModelConfig, ModelName, Recipe, SamplingConfig
from model.denoiser import Denoiser
from model.unet import UNet

_HEADER_KEY = "darkroom"


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names the file and its fault."""


class CheckpointHeader(Config):
    """What a weights file says of itself."""

    format_version: int = Field(1, ge=1, le=1)
    name: ModelName
    model: ModelConfig
    sampling: SamplingConfig
    class_names: tuple[str, ...] = Field(min_length=1)
    images_seen: int = Field(ge=0)
    dataset_digest: str
    metrics: dict[str, float] = Field(default_factory=dict)
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A weights file in memory. digest: "sha256:..." of its bytes."""

    header: CheckpointHeader
    weights: Mapping[str, Tensor]
    digest: str

    def denoiser(self, device: torch.device | None = None) -> Denoiser:
        """The network with these weights, ready to sample on `device` (default: the CPU).

        Raises CheckpointError when the weights do not fit the configuration.
        """
        header = self.header
        with torch.device("meta"):  # takes no memory, however large a network the header claims
            network = UNet(header.model.unet, len(header.class_names))
        try:
            weights = {name: value.to(torch.float32, copy=True) for name, value in self.weights.items()}
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise CheckpointError(f"{self.digest}: the weights do not fit the configuration: {error}") from error
        network = network.place(device or torch.device("cpu")).eval().requires_grad_(False)
        return Denoiser(header.model, header.class_names, network, device)


def digest_of(data: bytes) -> str:
    """The bytes' SHA-256 as "sha256:..."."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file by one that holds `data`: after a crash it holds the old or the new bytes, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def encode_checkpoint(header: CheckpointHeader, weights: Mapping[str, Tensor]) -> bytes:
    """The bytes of a weights file."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    return save(tensors, metadata={_HEADER_KEY: header.model_dump_json()})


def decode_checkpoint(data: bytes, *, source: str) -> Checkpoint:
    """Read a weights file's bytes; raises CheckpointError naming `source` and the fault."""
    metadata = read_metadata(data, source=source)
    if _HEADER_KEY not in metadata:
        raise CheckpointError(f"{source}: a safetensors file, but not one of Darkroom's (no header)")
    try:
        header = CheckpointHeader.model_validate_json(metadata[_HEADER_KEY])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"{source}: invalid header: {faults}") from error
    return Checkpoint(header, load(data), digest_of(data))


def read_metadata(data: bytes, *, source: str) -> dict[str, str]:
    """The string pairs in a safetensors file's header; raises CheckpointError when the file is damaged."""
    try:
        load(data)  # validates the layout: lengths, offsets, overlaps
    except SafetensorError as error:
        raise CheckpointError(f"{source}: not a readable safetensors file: {error}") from error
    except KeyError as error:
        raise CheckpointError(f"{source}: holds numbers of a type that torch does not have: {error}") from error
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return {str(key): str(value) for key, value in metadata.items()}


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file; raises CheckpointError when it is missing, damaged or not one of Darkroom's."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    return decode_checkpoint(data, source=str(path))
