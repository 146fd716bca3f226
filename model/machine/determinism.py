"""The setting DARKROOM_DETERMINISTIC: the same bits for the same work on one machine, at a cost of speed."""

import os

import torch
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from darkroom.model.user_error import UserError, fault_text

CUBLAS_VARIABLE, CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""Without such a fixed workspace, cuBLAS may add in another order from call to call. It reads this at its start."""


class ComputeSettings(BaseSettings):
    """Settings of every process that computes. Each field is the environment variable DARKROOM_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="DARKROOM_", extra="ignore")

    deterministic: bool = Field(
        False,
        description="on a GPU, compute with algorithms that give the same bits each time, in batches of one fixed size "
        "and without compilation; slower. On a CPU, keep the number of threads of a training or an evaluation. A CPU "
        "draws the same bits in any case",
    )


def follow_settings() -> None:
    """Let PyTorch use deterministic algorithms alone when the environment asks for it. Call before the device computes.

    Raises UserError for a value that is neither true nor false.
    """
    try:
        wanted = ComputeSettings().deterministic
    except ValidationError as error:
        faults = "; ".join(fault_text(fault) for fault in error.errors())
        raise UserError(f"DARKROOM_DETERMINISTIC cannot be used: {faults}") from error
    if wanted:
        compute_deterministically()


def compute_deterministically() -> None:
    """Let PyTorch use deterministic algorithms alone, from now on and in every thread."""
    os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)


def computes_deterministically() -> bool:
    """Return True after `compute_deterministically`."""
    return torch.are_deterministic_algorithms_enabled()
