"""`darkroom generate`: asks a running service for images, shows a progress bar and writes a file."""

import base64
import errno
import tempfile
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from darkroom.app.cli.assignments import assignments
from darkroom.app.cli.service_client import ServiceError, connect, events, json_body, require_success
from darkroom.app.cli.terminal import open_console, require_folder, say
from darkroom.app.generation.encoding import Drawn, encode
from darkroom.app.generation.schemas import Format, GenerateAnswer, GenerateRequest
from darkroom.model.images.pictures import default_columns
from darkroom.model.user_error import UserError, fault_text
from darkroom.model.words import several
from darkroom.progress import progress

_DECIDED_HERE = {"class_", "format", "grid", "stream", "preview_every_steps"}
"""Request fields that the command sets itself: it always asks for events, and the file's suffix decides the format."""


def generate_to_file(url: str | None, fields: Mapping[str, Any], out: Path) -> int:
    """Send POST /generate with `fields` and write the images in the format of `out`'s suffix. Returns the exit code."""
    console = open_console(stderr=True)
    suffix = out.suffix.removeprefix(".").lower()
    if suffix not in get_args(Format):
        raise UserError(f"{out}: the name must end in one of {', '.join(get_args(Format))}")
    wanted: Format = next(one for one in get_args(Format) if one == suffix)
    require_folder(out)
    if out.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(out))
    tempfile.TemporaryFile(dir=out.parent).close()  # fails now, not after drawing, when the folder is not writable
    drawn, answer = _receive(url, fields, console)
    columns = default_columns(len(fields["class"]), fields["n"])
    out.write_bytes(encode(drawn, answer, wanted, columns))
    say(
        console,
        f"{out}: {several(len(drawn), 'image')} by {answer.model} {answer.version[:19]}, seed {answer.seed}, "
        f"{answer.sampler} {answer.steps} steps, guidance {answer.guidance:g}, {answer.timings.run_seconds:.2f} s",
    )
    return 0


def request_settings(options: Sequence[str], given: Collection[str] = ()) -> dict[str, Any]:
    """Return the request fields that options of the form NAME=VALUE set. Raises UserError for unknown fields.

    given: names that other options have already set.
    """
    found = assignments(options, given=given)
    known = GenerateRequest.model_fields.keys() - _DECIDED_HERE
    unknown = sorted(found.keys() - known)
    if unknown:
        raise UserError(f"--set {', '.join(unknown)}: no such setting; choose from {', '.join(sorted(known))}")
    try:
        GenerateRequest.model_validate({"class": 0} | found)
    except ValidationError as error:
        faults = [f"--set {'.'.join(map(str, one['loc']))}: {fault_text(one)}" for one in error.errors()]
        raise UserError("; ".join(faults)) from error
    return found


def _receive(url: str | None, fields: Mapping[str, Any], console: Console) -> tuple[list[Drawn], GenerateAnswer]:
    """Return the images in order, and the rest of the service's answer."""
    body = dict(fields) | {"stream": True, "preview_every_steps": 1000}
    images: dict[int, Drawn] = {}
    with (
        progress(console) as meter,
        connect(url) as client,
        client.stream("POST", "/v1/generate", **json_body(body)) as response,
    ):
        require_success(response)
        meter("drawing")
        for event in events(response):
            kind, data = event.kind, event.data
            if kind == "progress":
                meter("drawing", data["done_steps"], data["total_steps"])
            elif kind == "image":
                image = np.asarray(Image.open(BytesIO(base64.b64decode(data["png"]))))
                pixels = image[:, :, None] if image.ndim == 2 else image
                score = data.get("score")
                images[data["row"]] = Drawn(data["index"], data["class_index"], data["class"], pixels, score)
            elif kind == "error":
                raise ServiceError(data["detail"])
            elif kind == "done":
                answer = GenerateAnswer.model_validate(data)
                # `best_of` sends images in order of score; otherwise they arrive as they are finished
                rows = list(images) if answer.best_of else sorted(images)
                return [images[row] for row in rows], answer
    raise ServiceError("the service closed the connection before the answer was complete; try again")
