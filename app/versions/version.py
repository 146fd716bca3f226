"""A model version as the service knows it."""

from dataclasses import dataclass
from functools import cached_property

from darkroom.model.checkpoint import (
    CheckpointHeader,
)
from darkroom.model.figure import Figure
from darkroom.model.metrics.frontier import Frontier, frontiers


class UnknownModel(LookupError):
    """A request names a model or version that does not exist. The message lists those that do."""


@dataclass(frozen=True)
class Version:
    """A model version. number: its number in the store, None until it is registered.

    measured: frontier figures in the store, in addition to those in the header.
    """

    name: str
    digest: str
    header: CheckpointHeader
    number: int | None = None
    measured: tuple[Figure, ...] = ()

    @cached_property
    def frontiers(self) -> tuple[Frontier, ...]:
        """The measured quality by sampler and number of steps."""
        return frontiers([*self.header.evaluations, *self.measured], self.header.model.schedule)
