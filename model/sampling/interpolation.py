"""Interpolation between two start noises."""

import torch
from torch import Tensor


def slerp(start: Tensor, end: Tensor, mix: Tensor) -> Tensor:
    """Interpolate rows spherically (Shoemake 1985; for DDIM latents, Song et al. 2021, appendix D.5).

    start, end: (B, ...); mix: (B,) in 0..1; returns (B, ...). Parallel rows are interpolated linearly. mix = 0 and 1
    return the end points unchanged.
    """
    shape = (-1, *[1] * (start.ndim - 1))
    a, b = start.flatten(1).double(), end.flatten(1).double()
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    mix = mix.to(angle)
    parallel = sine < 1e-6
    safe = torch.where(parallel, 1.0, sine)
    weight_a = torch.where(parallel, 1.0 - mix, torch.sin((1.0 - mix) * angle) / safe)
    weight_b = torch.where(parallel, mix, torch.sin(mix * angle) / safe)
    between = weight_a.reshape(shape) * start.double() + weight_b.reshape(shape) * end.double()
    at_end = (mix == 1.0).reshape(shape)
    return torch.where(at_end, end, torch.where((mix == 0.0).reshape(shape), start, between.to(start.dtype)))
