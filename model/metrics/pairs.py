"""All pairs of two sets of features, in blocks: one matrix product serves kernel values and distances alike.

Products are taken around the second set's mean c, where they lose the fewest digits:

    |x - y|^2 = |x - c|^2 + |y - c|^2 - 2 (x - c) . (y - c)
    x . y     = (x - c) . (y - c) + x . c + y . c - c . c
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

ROWS = 1024
"""Rows of a block: the pairs are never held all at once."""


@dataclass(frozen=True)
class Block:
    """The pairs of x[first : first + B] with all of y, (B, N).

    centred: their products around c. x_squares, y_squares: (B,), (N,), squared lengths around c. x_along, y_along:
    products with c, less half of c . c each.
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


class OfPairs(Protocol):
    """What is made of all pairs."""

    def add(self, block: Block) -> None:
        """Take in a block; they come in order."""
        ...


def blocks(x: Tensor, y: Tensor) -> Iterator[Block]:
    """Those of x (M, D) with y (N, D), in their own type."""
    centre = y.mean(0)
    half = 0.5 * (centre @ centre)
    x_along, y_along = x @ centre - half, y @ centre - half
    x, y = x - centre, y - centre
    x_squares, y_squares = x.square().sum(1), y.square().sum(1)
    for first in range(0, len(x), ROWS):
        rows = slice(first, first + ROWS)
        yield Block(first, x[rows] @ y.T, x_squares[rows], y_squares, x_along[rows], y_along)


def go_through(x: Tensor, y: Tensor, *sinks: OfPairs) -> None:
    """Hand every block to every sink."""
    for block in blocks(x, y):
        for sink in sinks:
            sink.add(block)
