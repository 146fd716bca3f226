"""The fields of requests to register a data set, and of answers about data sets."""

import re
import unicodedata
from datetime import datetime
from itertools import groupby
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from darkroom.model.config import FIT, GROUND, SKIP_DAMAGED, Colour, DatasetFormat, Fit, UploadFormat
from darkroom.model.extension_points import FORMATS


def _plain_name(name: str) -> str:
    """Return the name in Unicode's composed form, so that names that look equal are equal. Raises ValueError."""
    name = unicodedata.normalize("NFC", name)
    if len(name) > 100:
        raise ValueError("must have at most 100 characters")
    if name != name.strip():
        raise ValueError("must not begin or end with a space")
    if name in (".", "..") or any(character in "/\\" for character in name):
        raise ValueError("must be a name, not a path: without / and \\")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ValueError("must not contain control characters")
    return name


DatasetName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_plain_name)]


def _without_version(name: str) -> str:
    """Return the name. Raises ValueError when it is one of an earlier version, which only a replacement gives."""
    if re.search(r"@\d+$", name):
        raise ValueError("must not end in @ and a number: that names an earlier version of a data set")
    return name


NewDatasetName = Annotated[DatasetName, AfterValidator(_without_version)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: NewDatasetName = Field(description="1 to 100 characters of any script, without / and \\; unique")
    split: Literal["train", "test", "all"] = Field("train", description="all: the train split, then the test split")
    image_size: int | None = Field(
        None,
        ge=4,
        le=1024,
        description="side in pixels of the stored squares; without one, squares of one size stay as they are if they "
        "fit into memory, and for others the service chooses a side",
    )
    fit: Fit = Field("crop", description=FIT)
    ground: Colour = Field("#ffffff", description=GROUND)
    skip_damaged: bool = Field(False, description=SKIP_DAMAGED)
    class_names: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = Field(
        None, max_length=10_000, description="names of the classes, for formats that do not contain them"
    )


_UPLOADS = {name: one.upload for name, one in FORMATS.items() if one.upload is not None}

BUNDLED_FORMATS = ", ".join(name for name, one in FORMATS.items() if one.bundled)


def _describe_uploads() -> str:
    """Describe an upload of each format. Neighbouring formats with the same text share it."""
    groups = [(text, list(names)) for text, names in groupby(_UPLOADS, key=_UPLOADS.__getitem__)]
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in groups)


class UploadQuery(_Fields):
    """The query of an upload; the body is the archive."""

    format: UploadFormat = Field(description=_describe_uploads())


class PathBody(_Fields):
    """A data set at a path that the workers can read."""

    format: DatasetFormat
    path: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00]*$",
        description="absolute path of a file or folder, below a folder that the operator allows; left out for "
        f"{BUNDLED_FORMATS}",
    )


class DatasetChanges(BaseModel):
    """What to change of a data set."""

    model_config = ConfigDict(extra="forbid")

    name: NewDatasetName = Field(default_factory=str, description="its new name")
    keep: StrictBool = Field(default_factory=bool, description="while it is set, nobody can delete the data set")
    shared: Literal[True] = Field(True, description="true: it belongs to nobody from now on, and every key may use it")

    @model_validator(mode="after")
    def _require_a_change(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("nothing is to be changed: give name, keep or shared")
        return self


class ClassAnswer(BaseModel):
    """One class."""

    name: str
    images: int


class SplitAnswer(BaseModel):
    """A folder of the upload that holds the class folders of a split."""

    folder: str
    images: int
    used: bool = Field(description="true if its images are in the data set")


class LeftOutAnswer(BaseModel):
    """The files that are not in the data set."""

    junk: int = Field(description="files that are no pictures, such as Thumbs.db and texts")
    damaged: int = Field(description="pictures that cannot be read")
    damaged_pictures: list[str] = Field(description="the first of these, each with its fault")


class DatasetAnswer(BaseModel):
    """A registered data set."""

    name: str
    format: str
    source: Literal["upload", "path"]
    path: str | None = Field(description="the path it is read from; null for an upload")
    digest: str = Field(description="of the decoded images and labels; the same for every format")
    classes: list[ClassAnswer]
    images: int
    image_shape: tuple[int, int, int] = Field(description="channels, height, width")
    size_bytes: int = Field(description="of the decoded images")
    contact_sheet: str = Field(
        description="address of a PNG with the first images of each class, one line for each class"
    )
    keep: bool = Field(description="marked: nobody can delete it")
    created_at: datetime
    version: int = Field(description="counts the uploads under this name")
    replaced: bool = Field(description="true for an earlier version, whose name a later upload has taken")
    flat_grounds: float | None = Field(
        description="share of the images on a ground of one colour; null for a data set of an older service"
    )
    left_out: LeftOutAnswer | None = Field(description="null for a data set of an older service")
    splits: list[SplitAnswer] = Field(description="the splits that the upload has, if it has any")
    shared: bool = Field(description="belongs to no key: every key may use it")


class PictureAnswer(BaseModel):
    """One image. index: its number in the data set, as `pictures?index=` takes it."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    dataset: str
    index: int
    class_: str = Field(alias="class")


class AlikeAnswer(BaseModel):
    """Pictures that look alike. identical: pixel by pixel. pictures: at most ten of `count`."""

    count: int
    identical: bool
    several_classes: bool
    both_datasets: bool
    pictures: list[PictureAnswer]


class CheckAnswer(BaseModel):
    """What a check found. The lists hold at most 50 entries each; the counts count all."""

    dataset: str
    digest: str
    against: str | None
    images: int
    findings: list[str] = Field(description="the results in words, with advice")
    alike_groups: int
    alike: list[AlikeAnswer]
    unlike_count: int
    unlike: list[PictureAnswer] = Field(description="pictures far from the mean of their class")
    flat_count: int
    flat: list[PictureAnswer] = Field(description="pictures of one colour")


class DatasetsAnswer(BaseModel):
    """One page of data sets."""

    datasets: list[DatasetAnswer]
    next_after: str | None = Field(description="pass as `after` for the next page; null on the last")
