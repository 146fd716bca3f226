"""A model version as the service knows it."""

from dataclasses import dataclass
from functools import cached_property

from darkroom.model.checkpoint import (
    CheckpointHeader,
)
from darkroom.model.figure import Figure
from darkroom.model.metrics.frontier import Frontier, frontiers


class UnknownModel(LookupError):
    """A model or version that does not exist; the message lists the names that do."""


@dataclass(frozen=True)
class Version:
    """A model version. number: its place in the store, None until it is registered.

    measured: points of its frontier that the store has, beside those in the header.
    """

    name: str
    digest: str
    header: CheckpointHeader
    number: int | None = None
    measured: tuple[Figure, ...] = ()

    @cached_property
    def frontiers(self) -> tuple[Frontier, ...]:
        """What was measured of it by sampler and steps."""
        return frontiers([*self.header.evaluations, *self.measured], self.header.model.schedule)
