"""Schemas of requests for images and of their answers. Does not import torch: `darkroom generate` starts faster."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, create_model

from darkroom.app.engine.request import Timings
from darkroom.model.config import SAMPLER_SETTINGS, Quality, SamplingConfig
from darkroom.model.provenance import LARGEST_INDEX, LARGEST_SEED, Choice, Provenance

Format = Literal["png", "webp", "zip", "npz", "json"]

DEADLINE_SHARE = 0.8
"""Settings may be expected to take this share of a deadline. The rest is for requests that arrive meanwhile."""

QUALITY_DESCRIPTION = (
    "picks sampler and steps from the version's measured frontier (GET /v1/models/NAME shows it), at the guidance "
    "nearest to the request's. best: the lowest distance. balanced, fast: the fewest network evaluations with a "
    "distance of at most 1.05 and 1.25 times the lowest. Without a frontier, fast is unipc with 10 steps, balanced is "
    "dpmpp_2m with 20 and best is dpmpp_2m with 50. The answer's `choice` says what was picked. Cannot be combined "
    f"with {', '.join(SAMPLER_SETTINGS)}"
)
DEADLINE_DESCRIPTION = (
    "a request whose deadline cannot be met is refused at once. If it names none of quality, "
    f"{', '.join(SAMPLER_SETTINGS)}, it gets the best settings of the version's frontier that are expected to take at "
    f"most {DEADLINE_SHARE:.0%} of the deadline. Without a frontier it gets the model's own settings if they fit, else "
    "the best settings of `quality` that fit"
)

ClassReference = StrictInt | StrictStr
"""A class of the model; `find_class` finds it."""

CLASS_DESCRIPTION = (
    "an exact name, else a name in any case, else an index. If a class has the name 2, then 2 is that class"
)
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
ImageIndex = Annotated[int, Field(ge=0, le=LARGEST_INDEX)]


def _left_out(config: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of `config` for `create_model`, each optional with the default None."""
    fields: Mapping[str, Any] = config.model_fields
    return {
        name: (Annotated[(field.annotation | None, *field.metadata, Field(description=field.description))], None)
        for name, field in fields.items()
    }


if TYPE_CHECKING:  # mypy does not accept a computed base class
    _Settings = BaseModel
else:
    _Settings = create_model("_Settings", **_left_out(SamplingConfig))


class SettingsFields(_Settings):
    """The model and the sampling settings of a request.

    Settings that a request leaves out are the model's own. If one of these does not suit the named settings, it takes
    its default: first the spacing (`trailing`), then steps, guide, variance, guidance, threshold and
    guidance_interval. The answer has all settings that were used.
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
    """Fields of the requests that draw images while the client waits."""

    deadline_seconds: float | None = Field(None, gt=0.0, le=86_400.0, description=DEADLINE_DESCRIPTION)
    format: Format | None = Field(None, description="default: the Accept header decides, else png")
    grid: bool | None = Field(None, description="png and webp of several images are always one grid")
    stream: bool = Field(False, description="answer with server-sent events, including previews")
    preview_every_steps: int = Field(5, ge=1, le=1000, description="steps between two previews of an image")


class GenerateRequest(SamplingFields):
    """What to draw. Image j of a class depends only on (seed, j), the class and the settings.

    So a larger n adds images and keeps the first ones. A class's images do not depend on the other classes.
    """

    class_: Annotated[
        ClassReference | Annotated[list[ClassReference], Field(min_length=1, max_length=1000)],
        Field(alias="class", description=f"{CLASS_DESCRIPTION}; or a list of these"),
    ]
    n: int = Field(1, ge=1, description="images of each class")
    seed: Seed | None = Field(None, description="default: random; the answer has it")
    first_index: ImageIndex = Field(
        0, description="index of the first image of each class. Use it to draw more images, or one image again"
    )
    best_of: int | None = Field(
        None,
        ge=1,
        description="draw this many images of each class, with indices from first_index on, and answer the n that "
        "score best, best first. The score is the log-likelihood ratio of class and no class, which the network that "
        "drew the image estimates at 8 noise levels, for 16 network rows an image. A higher score shows the class "
        "more clearly. It depends only on model, image and class. Compare it only within a class",
    )


class InterpolateRequest(SamplingFields):
    """Two images, and the number of images to draw from the first to the second, both included."""

    seeds: Annotated[list[Seed], Field(min_length=2, max_length=2)]
    indices: Annotated[list[ImageIndex], Field(min_length=2, max_length=2)] = Field(
        [0, 0], description="index of each of the two images, as in POST /generate"
    )
    class_: Annotated[
        ClassReference | Annotated[list[ClassReference], Field(min_length=2, max_length=2)],
        Field(
            alias="class",
            description=f"one class ({CLASS_DESCRIPTION}), or a list of two: of the first and the last image",
        ),
    ]
    count: int = Field(8, ge=2, le=64, description="images in all")


class GeneratedImage(BaseModel):
    """One image of a JSON answer."""

    model_config = ConfigDict(serialize_by_alias=True)

    index: int = Field(description="fixes the image, together with the seed")
    class_: str = Field(alias="class")
    class_index: int
    score: float | None = Field(description="null without best_of")
    png: str = Field(description="base64")


class DrawnHere(Provenance):
    """The provenance of images that this service has drawn."""

    drawn_on: str | None = Field(
        None,
        description='the kind of GPU and the precision, such as "cuda, bfloat16"; null on a CPU. Another kind draws '
        "images that differ slightly",
    )


class GenerateAnswer(DrawnHere):
    """The facts about a request's images: the JSON answer and the Darkroom-* headers. Files omit id, timings, choice.

    Before the images are drawn, timings are 0 and images is empty.
    """

    id: str
    n: int = Field(description="images of each class")
    first_index: int
    classes: list[str]
    class_indices: list[int]
    choice: Choice | None = Field(description="how sampler and steps were picked; null if the request named them")
    best_of: int | None = Field(description="images drawn of each class; null for n")
    score: str | None = Field(description="the score's name; null without best_of")
    indices: list[int] | None = Field(None, description="of the images, in their order; null without best_of")
    scores: list[float] | None = Field(None, description="of the images, in their order; null without best_of")
    timings: Timings = Timings(0.0, 0.0)
    images: tuple[GeneratedImage, ...] = ()


class InterpolationAnswer(DrawnHere):
    """The facts about an interpolation's images, like GenerateAnswer. seed: the first of the two."""

    id: str
    seeds: list[int]
    indices: list[int]
    classes: list[str]
    class_indices: list[int]
    mixes: list[float] = Field(description="0 is the first image, 1 the last")
    choice: Choice | None = Field(description="how sampler and steps were picked; null if the request named them")
    timings: Timings = Timings(0.0, 0.0)
    images: tuple[GeneratedImage, ...] = ()


Answer = GenerateAnswer | InterpolationAnswer
