"""GET /: the console's page, and its modules and styles under /console."""

from importlib.resources import files
from os import PathLike, stat_result

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

ASSETS = "/console"
FOLDER = files("app.console") / "static"

CACHE_CONTROL = "no-cache"
"""Names have no digest in them, so a browser asks each time, and an unchanged file is a 304."""

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Not left to the operating system's table: a browser runs no module whose type is wrong."""


class ConsoleFiles(StaticFiles):
    """Starlette's static files (ETag, If-None-Match), asked for anew each time and with the right types."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """One file, or 304 where the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        suffix = "." + str(full_path).rpartition(".")[2]
        response.headers["Cache-Control"] = CACHE_CONTROL
        if isinstance(response, FileResponse) and suffix in MEDIA_TYPES:
            response.headers["Content-Type"] = f"{MEDIA_TYPES[suffix]}; charset=utf-8"
        return response


_files = ConsoleFiles(directory=str(FOLDER))

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """The page; what it shows is behind the # of its address."""
    return await _files.get_response("index.html", request.scope)


def mount(app: FastAPI) -> None:
    """Serve the page at / and what it is made of."""
    app.include_router(router)
    app.mount(ASSETS, _files, name="console")
