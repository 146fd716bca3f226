"""`darkroom generate`: a client of the API with a progress bar."""

import base64
import errno
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.encoding import Drawn, Format, default_columns, encode
from app.service_client import ServiceError, connect, events, json_body, require_success
from app.terminal import open_console, say
from model.user_error import UserError


def generate_to_file(url: str | None, fields: Mapping[str, Any], out: Path) -> int:
    """POST /generate with `fields` and write the images as the suffix of `out` says; returns the exit code."""
    console = open_console(stderr=True)
    suffix = out.suffix.removeprefix(".").lower()
    if suffix not in get_args(Format):
        raise UserError(f"{out}: the name must end in one of {', '.join(get_args(Format))}")
    wanted: Format = next(one for one in get_args(Format) if one == suffix)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(out))
    tempfile.TemporaryFile(dir=out.parent).close()  # a folder that cannot be written is found before drawing
    drawn, facts = _receive(url, fields, console)
    columns = default_columns(len(fields["class"]), fields["n"])
    out.write_bytes(encode(drawn, facts, wanted, columns))
    say(
        console,
        f"{out}: {len(drawn)} images by {facts['model']} {facts['version'][:19]}, seed {facts['seed']}, "
        f"{facts['sampler']} {facts['steps']} steps, guidance {facts['guidance']:g}, "
        f"{facts['timings']['run_seconds']:.2f} s",
    )
    return 0


def _receive(url: str | None, fields: Mapping[str, Any], console: Console) -> tuple[list[Drawn], dict[str, Any]]:
    """The images in order and the answer's facts."""
    body = dict(fields) | {"stream": True, "preview_every_steps": 1000}
    images: dict[int, Drawn] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        connect(url) as client,
        client.stream("POST", "/v1/generate", **json_body(body)) as response,
    ):
        require_success(response)
        task = bar.add_task("drawing", total=None)
        for event in events(response):
            kind, data = event.kind, event.data
            if kind == "progress":
                bar.update(task, completed=data["done_steps"], total=data["total_steps"])
            elif kind == "image":
                image = np.asarray(Image.open(BytesIO(base64.b64decode(data["png"]))))
                pixels = image[:, :, None] if image.ndim == 2 else image
                images[data["row"]] = Drawn(data["index"], data["class_index"], data["class"], pixels)
            elif kind == "error":
                raise ServiceError(data["detail"])
            elif kind == "done":
                return [images[row] for row in sorted(images)], data
    raise ServiceError("the service ended the answer in the middle")
