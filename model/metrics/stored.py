"""Statistics of a data set as a file, with the facts of what they are the statistics of."""

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor

from darkroom.model.checkpoint import CheckpointError, load_tensors, read_metadata
from darkroom.model.protocol import Facts

_HEADER_KEY = "darkroom-reference-statistics"

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each tensor by name."""


class StatisticsError(ValueError):
    """Stored reference statistics cannot be used; the message says why."""


def encode_statistics(tensors: Mapping[str, Tensor], facts: Facts) -> bytes:
    """Return a safetensors file of the tensors; facts: what they are the statistics of."""
    header = json.dumps(dict(facts), sort_keys=True, allow_nan=False)
    return save({name: value.cpu().contiguous() for name, value in tensors.items()}, metadata={_HEADER_KEY: header})


def decode_statistics(data: bytes, facts: Facts, layout: Layout) -> dict[str, Tensor]:
    """Read tensors back; raises StatisticsError when they are damaged or have other facts or another layout."""
    source = "reference statistics"
    try:
        tensors = load_tensors(data, source=source)
        stored = json.loads(read_metadata(data, source=source)[_HEADER_KEY])
    except (CheckpointError, ValueError, KeyError) as error:
        raise StatisticsError(f"these are not reference statistics: {error}") from error
    if stored != dict(facts):
        raise StatisticsError(f"these are the statistics of {stored}, not of {dict(facts)}")
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    if found != dict(layout):
        raise StatisticsError(f"reference statistics hold {found} instead of {dict(layout)}")
    return tensors
