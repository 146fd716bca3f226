"""The states of all rows of a version that are being drawn, in one tensor on the device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.model.machine.device import uploaded
from darkroom.model.samplers.step import STATE

FIRST_ROWS = 64
"""Rows that the tensor has room for at first. It doubles when they are too few."""

PADDING = 0
"""The place that no row has. Rows that pad a batch read and write it."""


@dataclass(eq=False)
class Place:
    """Where a row's state lies. Its last owner gives it back by dropping it."""

    states: "RowStates"
    number: int

    def __del__(self) -> None:
        self.states.free.append(self.number)

    @property
    def image(self) -> Tensor:
        """The row's current point, (C, H, W): a view that the row's next step changes."""
        return self.states.tensor[self.number, 0]


class RowStates:
    """A pool of states (STATE, C, H, W). The engine's thread calls the methods; any thread may drop a place."""

    def __init__(self, image_shape: tuple[int, int, int], device: torch.device) -> None:
        self.tensor = torch.zeros(FIRST_ROWS, STATE, *image_shape, device=device)
        self.free = list(range(FIRST_ROWS - 1, PADDING, -1))

    def take(self, states: Tensor) -> list[Place]:
        """Keep the states (B, STATE, C, H, W) of rows before their first step; returns their places."""
        while len(self.free) < len(states):
            held = len(self.tensor)
            self.tensor = torch.cat([self.tensor, torch.zeros_like(self.tensor)])
            self.free += range(2 * held - 1, held - 1, -1)
        numbers = sorted(self.free.pop() for _ in range(len(states)))  # in a row if they can be, see `changing`
        self.put(uploaded(numbers, self.tensor.device), states)
        return [Place(self, number) for number in numbers]

    @contextmanager
    def changing(self, places: Sequence[Place]) -> Iterator[Tensor]:
        """Yield the states at these places, (B, STATE, C, H, W), to be changed. States in a row are not copied."""
        first, count = places[0].number, len(places)
        if [place.number for place in places] == list(range(first, first + count)):
            yield self.tensor[first : first + count]
            return
        numbers = uploaded([place.number for place in places], self.tensor.device)
        states = self.tensor.index_select(0, numbers)
        yield states
        self.put(numbers, states)

    def put(self, numbers: Tensor, states: Tensor) -> None:
        """Write the states at these places."""
        self.tensor.index_copy_(0, numbers, states)
