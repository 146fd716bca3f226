"""A fault of a recipe, which checks find before a training begins."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Misfit:
    """One fault of a recipe. fields: dotted names of the fields that do not go together, the likeliest cause first."""

    fields: Sequence[str]
    text: str

    def __str__(self) -> str:
        return f"{self.fields[0]}: {self.text}"
