"""Laws of the table of scopes: resources outside it are closed, and /v1 makes no difference."""

import pytest

from darkroom.app.access.scopes import OPEN, RESOURCES, needed

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/", "/v1/nothing", "//generate", "/V1/generate", "/v1/v1/generate", "", "/docsx"]
)
def test_a_resource_outside_the_table_needs_admin(method: str, path: str) -> None:
    assert needed(method, path) == ("admin",)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_prefix_changes_nothing(resource: str) -> None:
    for method in METHODS:
        for rest in ("", "/3", "/3/cancel", "/../generate"):
            found = needed(method, f"/{resource}{rest}")
            assert found == needed(method, f"/v1/{resource}{rest}")
            row = RESOURCES[resource]
            assert found == (row.reading if method in ("GET", "HEAD") else row.changing)


def test_a_key_that_may_only_draw_cannot_download_weights() -> None:
    for prefix in ("", "/v1"):
        assert needed("GET", f"{prefix}/models/tiny/versions/1/weights") == ("train",)
        assert needed("HEAD", f"{prefix}/models/tiny/versions/1/weights") == ("train",)
        assert needed("PUT", f"{prefix}/models/tiny/versions/1/weights") == ("admin",)
        for other in ("/models/weights", "/models/tiny/versions/weights", "/models/tiny/versions/1"):
            assert needed("GET", prefix + other) == ("generate", "train")


def test_only_reading_is_open() -> None:
    for path in (*OPEN, "/docs/assets/swagger-ui.css", "/console/main.js"):
        assert needed("GET", path) is None
        assert needed("HEAD", path) is None
        for method in METHODS[2:]:
            assert needed(method, path) == ("admin",)
