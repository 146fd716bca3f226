"""A measured figure: the one class of it, from a measure to weights files, the database and answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, FiniteFloat

from darkroom.model.protocol import Facts, protocol_digest, protocol_string


@dataclass(frozen=True)
class Figure:
    """A metric's value, with everything besides the model's weights that fixes it. Raises ValueError for nan and inf.

    metric: its full name, "fid-efficientnet-lite0"; never plain FID, which is measured in the features of Inception.
    protocol: values compare where it is equal.
    seconds: the wall-clock time of the pass that it came from, which several figures may share; it includes the
    reference statistics where they were not kept yet. None where it is not known: a weights file does not hold it, so
    that measuring again gives the same bytes.
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
        """The figure with its name and `facts` in its protocol, too: a measure tells only what it alone knows."""
        return replace(self, protocol={"metric": self.metric, **self.protocol, **facts}, seconds=seconds)

    def plain(self) -> Mapping[str, Any]:
        """As plain data, the protocol's digest and line included."""
        return {
            "metric": self.metric,
            "value": self.value,
            "protocol": dict(self.protocol),
            "protocol_digest": self.protocol_digest,
            "protocol_string": self.protocol_string,
            "seconds": self.seconds,
        }
