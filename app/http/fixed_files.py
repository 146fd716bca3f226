"""Serves files that come with the service, from memory, so that an answer needs no thread.

Starlette's StaticFiles would read them in the threads that requests hold while they wait for a slow database.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request
from fastapi.responses import Response

from darkroom.app.http.file_answer import names

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
}
"""Media types. The operating system's table may be wrong, and a browser runs no module of a wrong type."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: dict[str, str]


class FixedFiles:
    """The files below a folder that have one of TYPES, by their path in the folder.

    A browser asks for a file each time, because file names contain no digest. It gets 304 for a file that it has.
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
        """Answer a route with {name:path}."""
        return self.answer(request.path_params["name"], request)

    def answer(self, name: str, request: Request) -> Response:
        """Return the file, or 304 if the browser has it. Raises HTTPException (404)."""
        file = self._files.get(name)
        if file is None:
            raise HTTPException(404)
        if names(request.headers.getlist("if-none-match"), file.headers["ETag"]):
            return Response(status_code=304, headers={**file.headers})
        return Response(file.content, headers=file.headers)
