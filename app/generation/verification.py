"""POST /verify: draws a PNG file again from its own description, and compares."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.engine.request import Pixels, RowRequest
from darkroom.app.generation.drawing import ENCODERS, draw
from darkroom.app.generation.encoding import sheet, sheet_size
from darkroom.app.generation.interpolation import path_mixes, path_rows
from darkroom.app.generation.schemas import ImageIndex, SamplingFields, Seed
from darkroom.app.generation.service import EngineRoute, find_version, require_room
from darkroom.app.http.problems import Problem, documented, pointer_part
from darkroom.app.http.upload import require_file_itself
from darkroom.app.versions.version import UnknownModel, Version
from darkroom.model.config import SamplingConfig
from darkroom.model.images.described_png import DescribedPng, NotDescribed, described_png
from darkroom.model.images.pictures import default_columns
from darkroom.model.provenance import LARGEST_INDEX
from darkroom.model.sampling_fit import Unfit, fitted
from darkroom.model.user_error import fault_text
from darkroom.model.words import several

router = APIRouter(tags=["sampling"], route_class=EngineRoute)

MOST_BYTES = 64 << 20
"""Most bytes of a file."""

_NOT_NEEDED = ("id", "choice", "timings", "row", "score", "scores", "classes", "class", "best_of", "mixes", "drawn_on")
"""Members of a description that change no pixel; `_untrue` checks classes. Earlier services wrote the first four."""


class Description(SamplingConfig):
    """The members of a PNG's description that its pixels depend on.

    index, class_index: of a picture with one image. n, first_index, class_indices: of a grid; indices: of its images
    if they are the best of more. seeds, indices, class_indices: of an interpolation with `images` images.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    version: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    seed: Seed
    index: ImageIndex | None = None
    class_index: ImageIndex | None = None
    n: int | None = Field(None, ge=1, le=LARGEST_INDEX)
    first_index: ImageIndex = 0
    class_indices: list[ImageIndex] = Field([], max_length=1000)
    indices: list[ImageIndex] | None = None
    seeds: list[Seed] | None = Field(None, min_length=2, max_length=2)
    images: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _require_images(self) -> Self:
        listed = len(self.indices or ())
        if self.seeds is not None:
            known = listed == len(self.class_indices) == 2 <= self.images and (self.index or 0) < self.images
        elif self.index is not None:
            known = self.class_index is not None
        else:
            last = self.first_index + (self.n or 1) - 1
            known = self._in_grid > 0 and listed in (0, self._in_grid) and last <= LARGEST_INDEX
        if not known:
            raise ValueError("the members that say which images it shows are missing or contradict each other")
        return self

    @property
    def _in_grid(self) -> int:
        return (self.n or 0) * len(self.class_indices)

    @property
    def drawn(self) -> int:
        """Number of images to draw."""
        if self.index is not None:
            return 1
        return self._in_grid if self.seeds is None else self.images

    @property
    def columns(self) -> int:
        """Number of images in a line."""
        if self.seeds is not None:
            return self.drawn
        return default_columns(len(self.class_indices), self.n or 1)

    def rows(self, sampling: SamplingConfig) -> list[RowRequest]:
        """Return the rows that draw its images, in their order."""
        if self.seeds is not None:
            rows = path_rows(self.seeds, self.indices or (), self.class_indices, path_mixes(self.images), sampling)
            return rows if self.index is None else rows[self.index : self.index + 1]
        if self.index is not None:
            return [RowRequest(self.class_index, self.seed, self.index, sampling)]
        n = self.n or 1
        labels = itertools.chain.from_iterable([label] * n for label in self.class_indices)
        indices = self.indices or [self.first_index + number for number in range(n)] * len(self.class_indices)
        return [RowRequest(label, self.seed, index, sampling) for label, index in zip(labels, indices, strict=True)]


class VerifyAnswer(BaseModel):
    """What drawing a file again has shown."""

    same_pixels: bool = Field(description="every pixel of the file is as it is drawn now")
    same_bytes: bool = Field(description="so is every byte of the file")
    finding: str = Field(description="the same in words, with advice")
    different_pixels: int = Field(description="how many pixels differ; all, if the size differs")
    largest_difference: int = Field(description="of a value in 0..255")
    images: int = Field(description="images that the file shows")
    model: str
    version: str = Field(description="digest of the weights that drew the file")
    seed: int


def described(facts: Mapping[str, Any]) -> Description:
    """Return a file's description. Raises Problem (422) for a description of another version of Darkroom."""
    known = {name: value for name, value in facts.items() if name not in _NOT_NEEDED}
    mixes = facts.get("mixes")
    if isinstance(mixes, list):
        known["images"] = len(mixes)
    try:
        return Description.model_validate(known)
    except ValidationError as error:
        faults = [
            ("".join(f"/{pointer_part(str(part))}" for part in fault["loc"]), fault_text(fault))
            for fault in error.errors()
        ]
        named = "; ".join(f"{pointer or 'as a whole'}: {text}" for pointer, text in faults[:3])
        raise Problem(
            422,
            "description-unknown",
            "this service cannot read the file's description, which another version of Darkroom may have written: "
            f"{named[:300]}. Verify the file with the version that drew it",
            errors=[{"pointer": pointer, "detail": text} for pointer, text in faults[:50]],
        ) from error


class _Verdict(NamedTuple):
    different_pixels: int
    largest_difference: int
    same_bytes: bool
    finding: str


def _of_other_size(size: tuple[int, int], drawn: tuple[int, int]) -> _Verdict:
    (width, height), (wide, high) = size, drawn
    finding = f"The picture has {width}x{height} pixels, and its description draws {wide}x{high}: it was scaled or cut."
    return _Verdict(width * height, 255, False, finding)


def _untrue(facts: Mapping[str, Any], found: Description, sampling: SamplingConfig, version: Version) -> list[str]:
    """Return the members of a description that the service would have written otherwise."""
    names = version.header.class_names
    true = sampling.model_dump(mode="json") | {"classes": [names[label] for label in found.class_indices]}
    if found.index is not None and found.class_index is not None:
        true["class"] = names[found.class_index]
    if found.seeds is not None:
        true["seed"] = found.seeds[0]
    return [name for name, value in true.items() if name not in facts or facts[name] != value]


def _compared(content: bytes, png: DescribedPng, again: Pixels, untrue: Sequence[str]) -> _Verdict:
    """Compare a file with its pixels drawn again, (H, W, C). Raises NotDescribed if the file's pixels are damaged.

    untrue: members of its description that the service would have written otherwise. Scores are not drawn again.
    """
    difference = np.abs(png.pixels(again.shape[2]).astype(np.int16) - again).max(axis=2)
    different, largest = int(np.count_nonzero(difference)), int(difference.max())
    if different:
        finding = (
            f"{different} of {difference.size} pixels differ, by at most {largest} of 255. Small differences come from "
            "a worker, another device or another version; large ones mean that the picture was changed."
        )
        return _Verdict(different, largest, False, finding)
    if untrue:
        finding = f"Every pixel is the same, but the description was changed: {', '.join(untrue)} are not as drawn."
        return _Verdict(0, 0, False, finding)
    if described_png(again, png.facts) == content:
        scored = " Its scores were not computed again." if png.facts.get("score") is not None else ""
        return _Verdict(0, 0, True, f"The file is the same, byte by byte.{scored}")
    finding = "Every pixel is the same. The bytes differ: another program or version has stored or cut the file."
    return _Verdict(0, 0, False, finding)


def _settings(found: Description, version: Version, limit: int) -> SamplingConfig:
    """Return the settings to draw with. limit: most images. Raises Problem for what no request could have drawn."""
    classes, labels = len(version.header.class_names), [found.class_index or 0, *found.class_indices]
    if found.drawn > limit:
        raise _unfit(f"it has {several(found.drawn, 'image')}, and one request may draw {limit}")
    if max(labels) >= classes:
        raise _unfit(f"it names class {max(labels)}, and {version.name} has {several(classes, 'class')}")
    try:
        return fitted(version.header, found.model_dump(include=set(SamplingConfig.model_fields)))
    except Unfit as unfit:
        raise _unfit(f"{', '.join(unfit.fields)}: {unfit}") from unfit


def _unfit(fault: str) -> Problem:
    return Problem(422, "description-unfit", f"the file's description cannot be drawn: {fault}")


async def _version(services: ServicesHere, caller: CallerHere, found: Description) -> Version:
    try:
        return await find_version(services, f"{found.model}@{found.version}", caller.owner)
    except UnknownModel as error:
        detail = f"the version that drew the file is gone: {error}. Add its weights with `darkroom models add`"
        raise Problem(410, "version-gone", detail) from error


@router.post(
    "/verify",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=documented(400, 403, 410, 413, 415, 422, 429, 500, 503),
)
async def verify(request: Request, services: ServicesHere, caller: CallerHere) -> VerifyAnswer:
    """Draw a PNG file of this service again from its own description, and say whether pixels and bytes are the same.

    The body is the file: `curl --data-binary @sneaker.png http://HOST/v1/verify`. It costs as much as drawing the
    images. A file without a description gets 422 `not-described`, one of a version that is gone 410, and one that
    another version of Darkroom has described 422 `description-unknown`.
    """
    require_file_itself(request)
    content = await request.body()
    in_encoder = asyncio.get_running_loop().run_in_executor
    try:
        png = await in_encoder(ENCODERS, DescribedPng, content)
        found = described(png.facts)
        version = await _version(services, caller, found)
        sampling = _settings(found, version, services.settings.request_rows)
        size = sheet_size(found.drawn, found.columns, version.header.model.image_size)
        if png.size == size:
            fields, rows = SamplingFields(), found.rows(sampling)
            require_room(fields, services, caller, version, sampling, len(rows))
            drawn, _ = await draw(services, request, fields, version, rows)
            images = [drawn[row].image for row in range(len(rows))]
            again = await in_encoder(ENCODERS, sheet, images, found.columns)
            untrue = _untrue(png.facts, found, sampling, version)
            verdict = await in_encoder(ENCODERS, _compared, content, png, again, untrue)
        else:
            verdict = _of_other_size(png.size, size)
    except NotDescribed as error:
        raise Problem(422, "not-described", str(error)) from error
    return VerifyAnswer(
        same_pixels=verdict.different_pixels == 0,
        **verdict._asdict(),
        images=found.drawn,
        model=version.name,
        version=version.digest,
        seed=found.seed,
    )
