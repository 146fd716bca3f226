"""The forms of a job's `configuration`, validated when it is written and again when a worker reads it."""

from typing import Any, Literal

from pydantic import Field

from darkroom.model.config import Config, ModelName, Recipe, SamplingConfig
from darkroom.model.provenance import Choice, Provenance


class ContinueFrom(Config):
    """Go on from another job's training state, with its optimizer and images seen."""

    job_id: int
    images_seen: int = Field(ge=0)


class ForkFrom(Config):
    """Begin with a model version's weights, with a fresh optimizer and no images seen."""

    model: ModelName
    digest: str


class PlannedField(Config):
    """Why a plan sets a field of the recipe. field: its dotted name."""

    field: str
    value: Any
    why: str


class Planned(Config):
    """How a recipe was planned. worker: whose measured speed was used. passes: over the distinct images."""

    minutes: float
    images_per_second: float
    passes: float
    worker: str
    expectation: str
    choices: tuple[PlannedField, ...]
    warnings: tuple[str, ...] = ()


class TrainWork(Config):
    """A train job. recipe: complete; its dataset section says how the registered data set was read.

    keep_last: how many checkpoints are kept besides the best one and those with an alias. planned: null for a recipe
    that a person wrote. expected_seconds: of training, as estimated when the job was submitted.
    """

    recipe: Recipe
    start: ContinueFrom | ForkFrom | None = None
    keep_last: int = Field(3, ge=1, le=1000)
    planned: Planned | None = None
    expected_seconds: float | None = None


class SampleWork(Config):
    """One shard of a generate job: `rows` images from `first_row` on, in the order of the request."""

    first_row: int = Field(ge=0)
    rows: int = Field(ge=1)


class GenerateRun(Config):
    """A generate job's `configuration`: `images_per_class` images of each class, numbered as by POST /generate.

    Row r is image r mod images_per_class of class class_indices[r div images_per_class].
    choice: how sampler and steps were picked; `sampling` has them.
    """

    class_indices: tuple[int, ...] = Field(min_length=1)
    images_per_class: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**63)
    sampling: SamplingConfig
    format: Literal["npz", "zip"]
    choice: Choice | None = None

    @property
    def total_images(self) -> int:
        """Images in all."""
        return len(self.class_indices) * self.images_per_class


class JobProvenance(Provenance):
    """The provenance of a generate job's images, as POST /generate gives it for the same images."""

    id: int
    choice: Choice | None = Field(description="how sampler and steps were picked, where quality was asked for")
    n: int = Field(description="images of each class")
    classes: list[str]
    class_indices: list[int]
