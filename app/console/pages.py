"""GET /: the console's page, and its modules and styles under /console."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from darkroom.app.http.fixed_files import FixedFiles

FOLDER = Path(str(files("darkroom.app.console") / "static"))

_files = FixedFiles(FOLDER)

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """Return the console's page. The part of its address behind the # says what it shows."""
    return _files.answer("index.html", request)


def mount(app: FastAPI) -> None:
    """Serve the page at /, and its modules and styles under /console."""
    app.include_router(router)
    app.add_route("/console/{name:path}", _files.named, include_in_schema=False)
