"""Noise that depends only on (seed, image index, step), on any device and in any batch.

A counter-based generator, Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), in
integer tensor operations, and the Box-Muller transform in float64. No state is kept between calls, so a row's noise
cannot depend on other rows or on earlier draws.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from darkroom.model.machine.device import uploaded

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def _multiply(factor: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and low 32 bits of factor * word. The product wraps in int64, which keeps all its 64 bits."""
    product = word * factor
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Philox4x32-10: four 32-bit words for each counter. All tensors are int64 in 0..2^32 - 1 and broadcastable."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def normal_noise(
    seeds: Sequence[int], indices: Sequence[int], steps: Sequence[int], shape: Sequence[int], device: torch.device
) -> Tensor:
    """Return standard normal noise (B, *shape) in float32; row b is a function of (seeds[b], indices[b], steps[b]).

    seeds: 0..2^63 - 1; indices and steps: 0..2^32 - 1. Step 0 is the start noise x_T; step k >= 1 is the noise of the
    k-th sampler step.
    """
    seed, index, step = uploaded([seeds, indices, steps], device, torch.int64)
    return noise_of(seed, index, step, shape)


def noise_of(seeds: Tensor, indices: Tensor, steps: Tensor, shape: Sequence[int]) -> Tensor:
    """Like `normal_noise`, from int64 tensors (B,), on their device."""
    size = math.prod(shape)
    blocks = -(-size // 4)
    seed, index, step = seeds[:, None], indices[:, None], steps[:, None]
    block = torch.arange(blocks, dtype=torch.int64, device=seeds.device)[None]
    words = philox((block, torch.zeros_like(block), step, index), (seed & _MASK, seed >> 32))
    uniform = [(word.double() + 0.5) * 2.0**-32 for word in words]  # never 0, so the logarithm is finite
    pairs = []
    for first, second in ((uniform[0], uniform[1]), (uniform[2], uniform[3])):
        radius = torch.sqrt(-2.0 * torch.log(first))
        pairs += [radius * torch.cos(2.0 * math.pi * second), radius * torch.sin(2.0 * math.pi * second)]
    normal = torch.stack(pairs, dim=-1).reshape(len(seeds), 4 * blocks)[:, :size]
    return normal.float().reshape(len(seeds), *shape)
