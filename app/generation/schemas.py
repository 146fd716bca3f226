"""What requests for images ask and what their answers tell; no torch, as `darkroom generate` reads it too."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, create_model

from darkroom.app.engine.request import Timings
from darkroom.model.config import SAMPLER_SETTINGS, Quality, SamplingConfig
from darkroom.model.provenance import Choice, Provenance

Format = Literal["png", "webp", "zip", "npz", "json"]

LARGEST_SEED = 2**63 - 1
LARGEST_INDEX = 2**31 - 1

DEADLINE_SHARE = 0.8
"""The share of a deadline that settings may be expected to take: requests that arrive later want the device, too."""

QUALITY_DESCRIPTION = (
    "picks sampler and steps from the frontier that was measured of the version (GET /v1/models/NAME shows it), at the "
    "guidance nearest to the request's: best is the lowest distance; balanced and fast take the fewest network "
    "evaluations within 1.05 and 1.25 times that. Without a frontier: unipc with 10 steps, dpmpp_2m with 20, dpmpp_2m "
    f"with 50. The answer's `choice` tells. Not together with {', '.join(SAMPLER_SETTINGS)}"
)
DEADLINE_DESCRIPTION = (
    "refused at once when it cannot be met. A request that names none of quality, "
    f"{', '.join(SAMPLER_SETTINGS)} gets the best settings on the version's frontier that the measured speed says can "
    f"be met in {DEADLINE_SHARE:.0%} of it; without a frontier the model card's, else those that quality means then"
)

ClassReference = StrictInt | StrictStr
"""A class of the model, as `find_class` reads it."""

CLASS_DESCRIPTION = (
    "a name, else a name in another case, else an index: 2 is the class of the name 2 where there is one"
)
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
ImageIndex = Annotated[int, Field(ge=0, le=LARGEST_INDEX)]


def _left_out(config: type[BaseModel]) -> dict[str, Any]:
    """The fields of `config` for `create_model`, each of which may be left out and is None then."""
    fields: Mapping[str, Any] = config.model_fields
    return {
        name: (Annotated[(field.annotation | None, *field.metadata, Field(description=field.description))], None)
        for name, field in fields.items()
    }


if TYPE_CHECKING:  # a base class that is computed is none for mypy
    _Settings = BaseModel
else:
    _Settings = create_model("_Settings", **_left_out(SamplingConfig))


class SettingsFields(_Settings):
    """How images are drawn, and by which model.

    The model's card supplies the settings that a request leaves out. Those of the card that do not go with the named
    ones take their defaults: the spacing first (`trailing`), then steps, guide, variance, guidance, threshold and
    guidance_interval. The answer tells what was taken.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(@[A-Za-z0-9:._-]{1,80})?$",
        description="NAME, NAME@production, NAME@NUMBER or NAME@sha256:...",
    )

    quality: Quality | None = Field(
        None, description=QUALITY_DESCRIPTION, json_schema_extra={"x-picks": list(SAMPLER_SETTINGS)}
    )

    @property
    def named(self) -> dict[str, Any]:
        """The settings that the request names."""
        return self.model_dump(include=set(SamplingConfig.model_fields), exclude_none=True)


class SamplingFields(SettingsFields):
    """Fields that every request has whose images are drawn at once."""

    deadline_seconds: float | None = Field(None, gt=0.0, le=86_400.0, description=DEADLINE_DESCRIPTION)
    format: Format | None = Field(None, description="without it the Accept header decides; else png")
    grid: bool | None = Field(None, description="png and webp of several images are always one grid")
    stream: bool = Field(False, description="server-sent events with previews")
    preview_every_steps: int = Field(5, ge=1, le=1000, description="with stream")


class GenerateRequest(SamplingFields):
    """What to draw. Image j of a class depends on (seed, j), the class and the settings alone.

    So asking for more keeps the first ones, and in a list of classes each has the images that it has alone.
    """

    class_: Annotated[
        ClassReference | Annotated[list[ClassReference], Field(min_length=1, max_length=1000)],
        Field(alias="class", description=f"{CLASS_DESCRIPTION}; or a list of these"),
    ]
    n: int = Field(1, ge=1, description="images of each class")
    seed: Seed | None = Field(None, description="drawn at random when left out; the answer tells it")
    first_index: ImageIndex = Field(
        0, description="index of the first image of each class: goes on behind what was drawn, or makes one image again"
    )
    best_of: int | None = Field(
        None,
        ge=1,
        description="draw so many of each class, with the indices from first_index on, and answer the n of them that "
        "score best, best first. The score is the log-likelihood ratio of class and no class in the eyes of the "
        "network that drew the image, estimated at 8 noise levels, which cost 16 forward rows an image: higher shows "
        "the class more clearly. It depends on model, image and class alone, and compares within a class",
    )


class InterpolateRequest(SamplingFields):
    """Two images and how many to draw from the first to the second, both included."""

    seeds: Annotated[list[Seed], Field(min_length=2, max_length=2)]
    indices: Annotated[list[ImageIndex], Field(min_length=2, max_length=2)] = Field(
        [0, 0], description="of the two images within what generate draws from their seeds"
    )
    class_: Annotated[
        ClassReference | Annotated[list[ClassReference], Field(min_length=2, max_length=2)],
        Field(
            alias="class",
            description=f"one class ({CLASS_DESCRIPTION}), or a list of two: where the way begins and ends",
        ),
    ]
    count: int = Field(8, ge=2, le=64)


class GeneratedImage(BaseModel):
    """One image of a JSON answer."""

    model_config = ConfigDict(serialize_by_alias=True)

    index: int = Field(description="with the seed it fixes the image")
    class_: str = Field(alias="class")
    class_index: int
    score: float | None = Field(description="with best_of")
    png: str = Field(description="base64")


class GenerateAnswer(Provenance):
    """The facts about a request's images: as JSON, in the Darkroom-* headers, and in the files themselves.

    Before they are drawn there are no timings and no images.
    """

    id: str
    n: int = Field(description="images of each class")
    first_index: int
    classes: list[str]
    class_indices: list[int]
    choice: Choice | None = Field(description="how sampler and steps were picked, where the request left it open")
    best_of: int | None = Field(description="images of each class that were drawn; null for n")
    score: str | None = Field(description="the score's name, with best_of")
    indices: list[int] | None = Field(None, description="the images', with best_of")
    scores: list[float] | None = Field(None, description="the images', with best_of")
    timings: Timings = Timings(0.0, 0.0)
    images: tuple[GeneratedImage, ...] = ()


class InterpolationAnswer(Provenance):
    """Like GenerateAnswer, of an interpolation. seed: the first of the two."""

    id: str
    seeds: list[int]
    indices: list[int]
    classes: list[str]
    class_indices: list[int]
    mixes: list[float] = Field(description="0 is the first image, 1 the last")
    choice: Choice | None = Field(description="how sampler and steps were picked, where the request left it open")
    timings: Timings = Timings(0.0, 0.0)
    images: tuple[GeneratedImage, ...] = ()


Answer = GenerateAnswer | InterpolationAnswer
