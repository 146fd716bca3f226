"""GET /docs: Swagger UI from files that are installed with the service. GET /docs/errors: the types of problems.

The pages load nothing from another origin. FastAPI's own page starts Swagger UI by an inline script, which the content
security policy forbids.
"""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, Response

from darkroom.app.http.fixed_files import FixedFiles
from darkroom.app.http.problem_types import PAGE as ERRORS
from darkroom.app.http.problem_types import problem_page

router = APIRouter(include_in_schema=False)

ASSETS = "/docs/assets"
START = "/docs/start.js"

PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Darkroom</title>
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
<link rel="icon" href="{ASSETS}/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script src="{START}"></script>
</body>
</html>
"""

ERRORS_PAGE = problem_page()

SCRIPT = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // the default loads a badge from another origin
});
"""


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(PAGE)


@router.get(ERRORS)
async def errors() -> HTMLResponse:
    """Return the page that explains the types of problems."""
    return HTMLResponse(ERRORS_PAGE)


@router.get(START)
async def start() -> Response:
    """Return the script that starts Swagger UI."""
    return Response(SCRIPT, media_type="text/javascript")


def mount_assets(app: FastAPI) -> None:
    """Serve Swagger UI's files."""
    resources = FixedFiles(Path(str(files("fastapi_swagger") / "resources")))
    app.add_route(f"{ASSETS}/{{name:path}}", resources.named, include_in_schema=False)
