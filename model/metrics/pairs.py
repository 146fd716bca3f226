"""All pairs of two sets of features, in blocks: one matrix product gives both kernel values and distances.

Products are computed around the second set's mean c, where they lose the fewest digits:

    |x - y|^2 = |x - c|^2 + |y - c|^2 - 2 (x - c) . (y - c)
    x . y     = (x - c) . (y - c) + x . c + y . c - c . c
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

BLOCK_FEATURES = 1024
"""Features x of a block; memory never holds all pairs at once."""


@dataclass(frozen=True)
class Block:
    """The pairs of x[first : first + B] with all of y (N, D).

    centred: (B, N), products (x - c) . (y - c).
    x_squares, y_squares: (B,) and (N,), |x - c|^2 and |y - c|^2.
    x_along, y_along: (B,) and (N,), x . c - c . c / 2 and y . c - c . c / 2.
    """

    first: int
    centred: Tensor
    x_squares: Tensor
    y_squares: Tensor
    x_along: Tensor
    y_along: Tensor

    @property
    def products(self) -> Tensor:
        """x . y, (B, N)."""
        return (self.centred + self.x_along[:, None]).add_(self.y_along)

    @property
    def squared_distances(self) -> Tensor:
        """|x - y|^2, (B, N)."""
        return self.centred.mul(-2.0).add_(self.x_squares[:, None]).add_(self.y_squares).clamp_(min=0.0)


class PairMeasure(Protocol):
    """Computes something from all pairs, which arrive in blocks."""

    def add(self, block: Block) -> None:
        """Add a block; blocks arrive in order."""
        ...


def blocks(x: Tensor, y: Tensor) -> Iterator[Block]:
    """Yield the blocks of all pairs of x (M, D) with y (N, D), in their own type."""
    centre = y.mean(0)
    half = 0.5 * (centre @ centre)
    x_along, y_along = x @ centre - half, y @ centre - half
    x, y = x - centre, y - centre
    x_squares, y_squares = x.square().sum(1), y.square().sum(1)
    for first in range(0, len(x), BLOCK_FEATURES):
        part = slice(first, first + BLOCK_FEATURES)
        yield Block(first, x[part] @ y.T, x_squares[part], y_squares, x_along[part], y_along)


def add_pairs(x: Tensor, y: Tensor, *measures: PairMeasure) -> None:
    """Add every block of pairs of x (M, D) with y (N, D) to every measure."""
    for block in blocks(x, y):
        for measure in measures:
            measure.add(block)
