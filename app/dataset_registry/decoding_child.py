"""Decodes one data set in a process of its own: bytes from outside must not harm the service.

`python -m darkroom.app.dataset_registry.decoding_child` reads a `Task` from standard input and writes a `Result` to
standard output, both as JSON. The process imports neither PyTorch nor the service, so it starts in a quarter of a
second.
"""

import base64
import resource
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Base64Bytes, BaseModel, BeforeValidator

from darkroom.app.dataset_registry.progress_board import ProgressBoard
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.class_folders import DamagedPictures
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.decoded import Decoded, SizesDiffer, SplitFolder
from darkroom.model.datasets.encoded import encode
from darkroom.model.datasets.load import decode_dataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.datasets.resize import proposed_side
from darkroom.model.machine.parent_death import die_with
from darkroom.model.planning.data_facts import look_at
from darkroom.model.progress import OnProgress, silent

MOST_DAMAGED, MOST_LEFT_OUT = 10_000, 100
"""How many damaged pictures a refusal lists, and how many the facts of a data set that leaves them out."""


Text = Annotated[str, BeforeValidator(lambda text: text.encode(errors="backslashreplace").decode())]
"""A message. It may name a file whose name is not UTF-8, which JSON could not hold."""


class Task(BaseModel):
    """What to decode, and how.

    encoded: descriptor of the file that receives the encoded data set; None writes none. board: descriptor of a
    `ProgressBoard`; None tells nobody.
    parent: the process id of the service. memory_bytes, cpu_seconds: limits of this process.
    """

    config: DatasetConfig
    entries: int
    encoded: int | None
    board: int | None
    parent: int
    memory_bytes: int
    cpu_seconds: int


class Found(BaseModel):
    """A decoded data set. config: how it was read; sheet: the contact sheet (PNG); the others as in `DatasetFacts`."""

    config: DatasetConfig
    digest: str
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    image_channels: int
    image_size: int
    distinct_count: int
    mirrors: tuple[bool, ...] | None
    flat_grounds: float | None
    junk: int
    damaged: int
    damaged_pictures: list[Text]
    splits: tuple[SplitFolder, ...]
    sheet: Base64Bytes


class Refused(BaseModel):
    """The data set cannot be used. damaged: the number of pictures that cannot be read; None for another fault."""

    detail: Text
    damaged: int | None = None
    damaged_pictures: list[Text] = []


class Result(BaseModel):
    """One of the members is set.

    errno: of the disk that should hold the encoded data set. out_of_memory: the limit was too small.
    fault: the traceback of a fault of this program.
    """

    found: Found | None = None
    refused: Refused | None = None
    errno: int | None = None
    out_of_memory: bool = False
    fault: str | None = None


def result_of(task: Task) -> Result:
    """Decode the data set, and write it to `task.encoded`. Chooses the side of pictures of several sizes."""
    on_progress = silent if task.board is None else ProgressBoard(task.board).write
    try:
        config, decoded = _decoded(task, on_progress)
    except DamagedPictures as error:
        refused = Refused(
            detail=str(error), damaged=len(error.faults), damaged_pictures=list(error.faults[:MOST_DAMAGED])
        )
        return Result(refused=refused)
    except DatasetError as error:
        return Result(refused=Refused(detail=str(error)))
    on_progress("storing the decoded images", 0, None)
    try:
        digest = _encoded(decoded, task.encoded)
    except OSError as error:
        return Result(errno=error.errno)
    return Result(found=_found(config, decoded, digest))


def _decoded(task: Task, on_progress: OnProgress) -> tuple[DatasetConfig, Decoded]:
    limits = ArchiveLimits(entries=task.entries)
    try:
        return task.config, decode_dataset(task.config, limits, on_progress)
    except SizesDiffer as error:
        config = task.config.model_copy(update={"image_size": proposed_side(error.shorter_side)})
    return config, decode_dataset(config, limits, on_progress)


def _encoded(decoded: Decoded, descriptor: int | None) -> str:
    if descriptor is None:
        return content_digest(decoded.images, decoded.labels, decoded.class_names)
    with open(descriptor, "wb", closefd=False) as file:
        return encode(decoded, file)


def _found(config: DatasetConfig, decoded: Decoded, digest: str) -> Found:
    facts = look_at(ImageDataset(decoded.images, decoded.labels, decoded.class_names, digest))
    reading = decoded.reading
    return Found(
        config=config,
        digest=digest,
        class_names=decoded.class_names,
        class_counts=facts.class_counts,
        image_channels=facts.channels,
        image_size=facts.side,
        distinct_count=facts.distinct,
        mirrors=facts.mirrors,
        flat_grounds=facts.flat_grounds,
        junk=len(reading.junk),
        damaged=len(reading.damaged),
        damaged_pictures=list(reading.damaged[:MOST_LEFT_OUT]),
        splits=reading.splits,
        sheet=base64.b64encode(contact_sheet(decoded)),
    )


def _limit(kind: int, most: int) -> None:
    """Lower a limit of this process; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def main() -> None:
    """Carry out the task on standard input."""
    task = Task.model_validate_json(sys.stdin.buffer.read())
    die_with(task.parent)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, task.cpu_seconds)
    _limit(resource.RLIMIT_AS, task.memory_bytes)
    with suppress(OSError):  # where the machine's memory ends first, Linux should end this process
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        result = result_of(task)
    except MemoryError:
        result = Result(out_of_memory=True)
    except Exception:
        result = Result(fault=traceback.format_exc())
    sys.stdout.buffer.write(result.model_dump_json().encode())


if __name__ == "__main__":
    main()
