"""Has a data set decoded by a child process with limits on memory, processor time and time."""

import os
import re
import signal
import subprocess
import sys
from tempfile import TemporaryFile
from typing import BinaryIO

from darkroom.app.dataset_registry.decoding_child import Found, Result, Task, result_of
from darkroom.app.dataset_registry.progress_board import ProgressBoard
from darkroom.app.dataset_registry.request_body import Registration
from darkroom.app.http.problems import Problem
from darkroom.app.settings import Settings
from darkroom.model.extension_points import FORMATS
from darkroom.model.words import several

COMMAND = (sys.executable, "-P", "-m", "darkroom.app.dataset_registry.decoding_child")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""NumPy reserves memory for each thread, and the engine needs the other cores."""

MOST_RESULT_BYTES = 256 << 20
FAULT = 300
"""Most characters about one picture, because names from the archive may be long."""
MESSAGE = 2000
"""Most characters of a message. It names ten pictures, whose names have up to 100 letters."""
_OBJECT = re.compile("<[^<>]{1,100} object at 0x[0-9a-f]+>")


def decode(
    wanted: Registration, settings: Settings, encoded: BinaryIO | None = None, board: ProgressBoard | None = None
) -> Found:
    """Decode the data set, and write it to `encoded`. Raises Problem, and OSError when the disk is full.

    encoded: a file with a descriptor; None writes nothing. board: shows how many pictures are decoded.
    """
    files = [file.fileno() for file in (wanted.file, encoded, board) if file is not None]
    task = Task(
        config=wanted.config,
        entries=settings.dataset_entries,
        encoded=None if encoded is None else encoded.fileno(),
        board=None if board is None else board.fileno(),
        parent=os.getpid(),
        memory_bytes=settings.dataset_memory_bytes,
        cpu_seconds=settings.dataset_cpu_seconds,
    )
    bundled = FORMATS[wanted.config.format].bundled  # comes with Darkroom
    result = result_of(task) if bundled else _result_of_child(task, files, settings)
    if result.errno is not None:
        raise OSError(result.errno, os.strerror(result.errno))
    if result.out_of_memory:
        raise _too_costly(f"{settings.dataset_memory_bytes} bytes of memory", "DARKROOM_DATASET_MEMORY_BYTES")
    if result.refused is not None:
        refused = result.refused
        pictures = None if refused.damaged is None else _shown(refused.damaged_pictures, wanted)
        raise unreadable(_without_path(refused.detail, wanted), damaged=refused.damaged, damaged_pictures=pictures)
    if result.found is None:
        raise RuntimeError(f"the decoder failed: {result.fault}")
    found = result.found
    return found.model_copy(update={"damaged_pictures": _shown(found.damaged_pictures, wanted)})


def unreadable(detail: str, *, damaged: int | None = None, damaged_pictures: list[str] | None = None) -> Problem:
    """Return the problem of a data set that cannot be used. damaged: the number of pictures that cannot be read."""
    return Problem(422, "dataset-unreadable", detail, damaged=damaged, damaged_pictures=damaged_pictures)


def _too_costly(limit: str, setting: str) -> Problem:
    advice = f"send fewer or smaller pictures, or ask the operator to raise {setting}"
    return Problem(422, "dataset-too-costly", f"decoding the data set takes more than {limit}: {advice}")


def _result_of_child(task: Task, files: list[int], settings: Settings) -> Result:
    with TemporaryFile() as answer:
        try:
            child = subprocess.run(
                COMMAND,
                input=task.model_dump_json().encode(),
                stdout=answer,
                pass_fds=files,
                env=os.environ | _ONE_THREAD,
                timeout=settings.dataset_seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise _too_costly(f"{settings.dataset_seconds:g} seconds", "DARKROOM_DATASET_SECONDS") from error
        if child.returncode == -signal.SIGXCPU:
            limit = f"{several(settings.dataset_cpu_seconds, 'second')} of processor time"
            raise _too_costly(limit, "DARKROOM_DATASET_CPU_SECONDS")
        if child.returncode < 0:
            end = signal.Signals(-child.returncode).name
            raise unreadable(
                f"the process that decodes it was ended by {end}; nothing was stored: send it again, or "
                "look for pictures that other programs cannot open either"
            )
        if child.returncode != 0 or answer.tell() > MOST_RESULT_BYTES:
            raise RuntimeError(f"the decoder ended with code {child.returncode} after {answer.tell()} bytes")
        answer.seek(0)
        return Result.model_validate_json(answer.read())


def _shown(faults: list[str], wanted: Registration) -> list[str]:
    return [_without_path(fault, wanted, FAULT) for fault in faults]


def _without_path(text: str, wanted: Registration, most: int = MESSAGE) -> str:
    """Return the text of an error, cut to `most` characters, without this process's temporary file and objects."""
    if wanted.file is not None:
        text = text.replace(str(wanted.config.path), wanted.called)
    text = _OBJECT.sub("the file", text)
    if len(text) <= most:
        return text
    end = min(most // 3, FAULT)  # says what to do now
    return f"{text[: most - end - 5]} ... {text[-end:]}"
