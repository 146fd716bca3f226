"""`darkroom generate`: a client of the API with a progress bar."""

import base64
import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.encoding import Drawn, Format, default_columns, encode
from app.terminal import print_error

NO_TIMEOUT_BETWEEN_EVENTS = httpx.Timeout(10.0, read=60.0)
"""The service sends a keepalive every 15 seconds."""


class _ServiceError(Exception):
    """What the service said instead of images."""


def generate_to_file(url: str, fields: Mapping[str, Any], out: Path) -> int:
    """POST /generate with `fields` and write the images as the suffix of `out` says; returns the exit code."""
    console = Console(stderr=True)
    suffix = out.suffix.removeprefix(".").lower()
    if suffix not in get_args(Format):
        print_error(console, f"{out}: the name must end in one of {', '.join(get_args(Format))}")
        return 1
    wanted: Format = next(one for one in get_args(Format) if one == suffix)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(out))
        tempfile.TemporaryFile(dir=out.parent).close()  # a folder that cannot be written is found before drawing
        drawn, facts = _receive(url, fields, console)
        columns = default_columns(len(fields["class"]), fields["n"])
        out.write_bytes(encode(drawn, facts, wanted, columns))
    except _ServiceError as error:
        print_error(console, str(error))
        return 1
    except httpx.TransportError as error:
        print_error(console, f"no answer from {url} ({error}); is the service running? `make up` starts it")
        return 1
    except httpx.InvalidURL as error:
        print_error(console, f"{url} is not a URL: {error}")
        return 1
    except OSError as error:
        print_error(console, f"{error.filename or out}: {error.strerror}")
        return 1
    console.print(
        f"{out}: {len(drawn)} images by {facts['model']} {facts['version'][:19]}, seed {facts['seed']}, "
        f"{facts['sampler']} {facts['steps']} steps, guidance {facts['guidance']:g}, "
        f"{facts['timings']['run_seconds']:.2f} s",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def _receive(url: str, fields: Mapping[str, Any], console: Console) -> tuple[list[Drawn], dict[str, Any]]:
    """The images in order and the answer's facts."""
    body = dict(fields) | {"stream": True, "preview_every_steps": 1000}
    images: dict[int, Drawn] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        httpx.Client(timeout=NO_TIMEOUT_BETWEEN_EVENTS) as client,
        client.stream("POST", f"{url.rstrip('/')}/v1/generate", json=body) as response,
    ):
        if response.status_code != httpx.codes.OK:
            response.read()
            raise _ServiceError(_detail(response))
        task = bar.add_task("drawing", total=None)
        for kind, data in _events(response):
            if kind == "progress":
                bar.update(task, completed=data["done_steps"], total=data["total_steps"])
            elif kind == "image":
                image = np.asarray(Image.open(BytesIO(base64.b64decode(data["png"]))))
                pixels = image[:, :, None] if image.ndim == 2 else image
                images[data["row"]] = Drawn(data["index"], data["class_index"], data["class"], pixels)
            elif kind == "error":
                raise _ServiceError(data["detail"])
            elif kind == "done":
                return [images[row] for row in sorted(images)], data
    raise _ServiceError("the service ended the answer in the middle")


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code} from something that is not Darkroom"


def _events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """(event, data) of a stream of server-sent events."""
    kind = ""
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
