"""Files that come with the service. They are read once, so that answering with one takes no thread.

Requests that wait for a database which does not answer hold the threads that Starlette's StaticFiles would read in.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request
from fastapi.responses import Response

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
}
"""Not left to the operating system's table: a browser runs no module whose type is wrong."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: dict[str, str]


class FixedFiles:
    """The files below a folder that have one of TYPES, by their path in it.

    Names have no digest in them, so a browser asks each time; for a file that it has it gets 304.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, _File] = {}
        for path in folder.rglob("*"):
            if path.suffix in TYPES:
                content = path.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Type": TYPES[path.suffix]}
                self._files[path.relative_to(folder).as_posix()] = _File(content, headers)

    async def named(self, request: Request) -> Response:
        """Endpoint of a route with {name:path}."""
        return self.answer(request.path_params["name"], request)

    def answer(self, name: str, request: Request) -> Response:
        """The file, or 304 where the browser has it; raises HTTPException (404)."""
        file = self._files.get(name)
        if file is None:
            raise HTTPException(404)
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if file.headers["ETag"] in known or "*" in known:
            return Response(status_code=304, headers={**file.headers})
        return Response(file.content, headers=file.headers)
