"""What every request for training has: one job or a sweep of them."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from darkroom.app.api.problems import invalid
from darkroom.model.config import ModelName
from darkroom.store.tables import Device, Promotion

LARGEST_ID = 2**63 - 1
LONGEST_TRAINING_IMAGES = 10**15
DEEPEST_NESTING = 16

Identifier = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
Images = Annotated[int, Field(strict=True, ge=1, le=LONGEST_TRAINING_IMAGES)]


class TrainFields(BaseModel):
    """What every request for training has. Fields that are left out are as in the recipe."""

    model_config = ConfigDict(extra="forbid")

    recipe: ModelName | dict[StrictStr, Any] | None = Field(
        None,
        description="a recipe's name, or a whole configuration (its `dataset` and `name` may be left out); only a job "
        "that goes on from another one needs none",
    )
    overrides: dict[StrictStr, Any] = Field(
        {},
        max_length=100,
        description='fields of the recipe by dotted name: {"training.total_images": 200000}; of a section given as an '
        "object, what it names",
    )
    dataset: StrictStr | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="a registered data set's name; default: the one that was registered as the recipe reads it",
    )
    model: ModelName | None = Field(None, description="what the model is called; default: the recipe's name")
    priority: Annotated[int, Field(strict=True)] = Field(0, ge=-100, le=100, description="higher ones run first")
    device: Device = "auto"
    promote: Promotion = Field(
        "never",
        description="best: the best checkpoint becomes the model's production version, which needs the scope admin, "
        "as PUT /v1/models/NAME/alias/production does",
    )
    max_attempts: Annotated[int, Field(strict=True)] = Field(
        3, ge=1, le=100, description="bad ends in a row, without a new checkpoint, after which the job fails for good"
    )
    keep_last: Annotated[int, Field(strict=True)] = Field(
        3, ge=1, le=1000, description="checkpoints kept besides the best one and those with an alias"
    )
    evaluate_every_images: Images | None = Field(None, description="evaluation.every_images of the recipe")
    from_job: Identifier | None = Field(
        None,
        description="go on from this job's training state, for longer or aside: the data set, `optimizer.name` and "
        "(but for dropout) the recipe's `model` must be its own",
    )
    images_seen: Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)] | None = Field(
        None, description="with from_job: which of its kept states; default: the newest"
    )
    from_model: StrictStr | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,62}@[A-Za-z0-9:._-]{1,80}$",
        description="begin with the weights of NAME@NUMBER, NAME@ALIAS or NAME@sha256:...: the recipe's `model` must "
        "be theirs (but for dropout); classes go by name where both have the same names, else by number",
    )


def token(text: str) -> str:
    """A part of a JSON pointer (RFC 6901)."""
    return text.replace("~", "~0").replace("/", "~1")


def require_storable(body: BaseModel) -> None:
    """Refuse what no database column holds: NUL, lone surrogates, numbers that are none; raises Problem."""
    faults = list(_unstorable(body.model_dump()))
    if faults:
        raise invalid(faults)


def _unstorable(value: Any, pointer: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > DEEPEST_NESTING:
        yield pointer, "is nested too deeply"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if _is_unstorable_text(key):
                yield pointer, "a name in it holds characters that cannot be stored"
            else:
                yield from _unstorable(inner, f"{pointer}/{token(key)}", depth + 1)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _unstorable(inner, f"{pointer}/{place}", depth + 1)
    elif isinstance(value, str) and _is_unstorable_text(value):
        yield pointer, "holds characters that cannot be stored"
    elif isinstance(value, float) and not math.isfinite(value):
        yield pointer, "must be a finite number"


def _is_unstorable_text(text: str) -> bool:
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
