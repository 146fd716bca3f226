"""A metric's measured value. Measures, weights files, the database and answers all use this class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, FiniteFloat

from darkroom.model.protocol import Facts, protocol_digest, protocol_string


@dataclass(frozen=True)
class Figure:
    """A metric's value, and all that determines it except the model's weights. Raises ValueError for nan and inf.

    metric: full name, such as "fid-efficientnet-lite0"; never plain "FID", which means Inception's features.
    protocol: only values with equal protocols can be compared.
    seconds: wall-clock time of the pass that measured the figure; several figures may share a pass. It includes
    reference statistics that were not cached. None when unknown: weights files leave it out, so that measuring again
    gives the same bytes.
    """

    metric: str
    value: FiniteFloat
    protocol: Facts
    seconds: Annotated[float | None, Field(exclude=True)] = None

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):  # neither a weights file nor the database could hold it
            raise ValueError(f"{self.metric} is {self.value}: this model cannot be judged by it")

    @property
    def protocol_digest(self) -> str:
        """ "sha256:..." of the protocol."""
        return protocol_digest(self.protocol)

    @property
    def protocol_string(self) -> str:
        """The protocol as one line, for people."""
        return protocol_string(self.protocol)

    def with_facts(self, facts: Facts, seconds: float) -> Self:
        """Return the figure with its name and `facts` added to its protocol, which has only the measure's own facts."""
        return replace(self, protocol={"metric": self.metric, **self.protocol, **facts}, seconds=seconds)

    def plain(self) -> Mapping[str, Any]:
        """Return the figure as plain data, with the protocol's digest and line."""
        return {
            "metric": self.metric,
            "value": self.value,
            "protocol": dict(self.protocol),
            "protocol_digest": self.protocol_digest,
            "protocol_string": self.protocol_string,
            "seconds": self.seconds,
        }


def figures_table(found: Sequence[Figure]) -> str:
    """A markdown table; values with all their digits."""
    lines = ["| metric | value | protocol |", "| --- | ---: | --- |"]
    lines += [f"| {one.metric} | {one.value!r} | {one.protocol_string} |" for one in found]
    return "\n".join(lines)
