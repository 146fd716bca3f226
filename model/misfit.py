"""A fault of a recipe, as checks tell it before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Misfit:
    """One fault of a recipe. fields: by dotted name, those that do not go together, the likeliest first."""

    fields: Sequence[str]
    text: str

    def __str__(self) -> str:
        return f"{self.fields[0]}: {self.text}"
