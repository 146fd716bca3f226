"""GET /docs: Swagger UI from files that are installed with the service; nothing is loaded from another origin."""

from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

ASSETS = "/docs/assets"


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The interface, to read and to try."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Darkroom",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon-32x32.png",
        swagger_ui_parameters={"validatorUrl": None},  # its default is a badge from another origin
    )


def mount_assets(app: FastAPI) -> None:
    """Serve Swagger UI's files."""
    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_swagger") / "resources")), name="swagger-ui")
