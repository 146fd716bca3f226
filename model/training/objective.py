"""The training loss."""

import numpy as np
import torch
from torch import Tensor

from darkroom.model.config import ObjectiveConfig, PredictionName
from darkroom.model.diffusion.prediction import per_row
from darkroom.model.diffusion.schedule import NoiseSchedule, Table


def loss_weights(schedule: NoiseSchedule, prediction: PredictionName, config: ObjectiveConfig) -> Table:
    """Return the weight of each time's squared error, (T + 1,) float64.

    `simple`: 1 for every t (L_simple, Ho et al. 2020, equation 14).
    `min_snr`: min(SNR, gamma) on the x_0 error (Hang et al. 2023, equation 8), which is min(SNR, gamma) / SNR on
    the eps error and min(SNR, gamma) / (SNR + 1) on the v error.
    """
    snr = schedule.snr
    if config.weighting == "simple":
        return np.ones_like(snr)
    clipped = np.minimum(snr, config.min_snr_gamma)
    with np.errstate(invalid="ignore"):
        divisors: dict[PredictionName, Table] = {"x0": np.ones_like(snr), "eps": snr, "v": snr + 1.0}
        return np.asarray(clipped / divisors[prediction], dtype=np.float64)


def row_losses(weights: Table, output: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """Return each row's weighted mean squared error, (B,) float32. output, target: (B, ...); t: (B,)."""
    error = (output.float() - target.float()).square().flatten(1).mean(1)
    return per_row(weights, t, error) * error


def drop_labels(labels: Tensor, null_label: int, probability: float, generator: torch.Generator) -> Tensor:
    """Replace each of the labels (B,) by the null label with `probability` (Ho & Salimans 2022, algorithm 1)."""
    dropped = torch.rand(labels.shape, generator=generator, device=generator.device).to(labels.device) < probability
    return torch.where(dropped, null_label, labels)
