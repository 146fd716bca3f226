"""Laws of the pages Models: versions with figures and protocol, frontiers, and aliases that move and move back."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from darkroom.store.database import Database
from darkroom.store.figure_repository import record_figures
from darkroom.store.model_repository import resolve
from tests.app.console.answers import Answers
from tests.app.console.browser import PHONE, assert_marked, opened, overflow
from tests.app.console.keyboard import tab_to
from tests.app.console.stock import Trainer, submit, upload
from tests.app.generation.test_choice import FIGURES
from tests.app.served import Service, picture, serving, tiny_weights, weights_folder
from tests.processes import PATIENCE_SECONDS, wait_until

expect.set_options(timeout=1000 * PATIENCE_SECONDS)

CLASSES = ("قطة", "运动鞋", "👟🧦", "Größe", *(f"class {number}" for number in range(9)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    """A service with three models: shipped, with names in several scripts, trained (three versions, a frontier)."""
    folder = weights_folder(tmp_path_factory.mktemp("weights"))
    (folder / "names.safetensors").write_bytes(tiny_weights("names", 1, CLASSES))
    database = Database(module_database_url)
    with serving(folder, default_model="tiny", database_url=module_database_url) as service:
        upload(service)
        submit(service, "trained")
        Trainer(database).whole_run(9.0, 4.0, 5.0)
        with database.session() as session:
            record_figures(session, resolve(session, "trained", 3).id, "frontier", FIGURES)
        wait_until(lambda: len(service.client.get("/v1/models").json()["models"]) == 3, "registered")
        yield service
    database.dispose()


def production(service: Service) -> int:
    found: int = service.client.get("/v1/models/trained").json()["aliases"]["production"]["version"]
    return found


def test_a_version_is_evaluated_promoted_and_rolled_back(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        page.goto("/#/models")
        names = page.get_by_role("article").filter(has_text="names")
        expect(names.get_by_text("and 5 more")).to_be_visible()
        for one in CLASSES[:4]:
            expect(names.get_by_text(one, exact=True)).to_be_visible()
        expect(page.get_by_role("article").filter(has_text="trained")).to_contain_text("nothing in production")
        page.get_by_role("link", name="trained", exact=True).click()

        versions = page.get_by_role("region", name="Table of versions")
        expect(versions.get_by_role("row")).to_have_count(4)
        row = versions.get_by_role("row").nth(1)
        for text in ("500", "5", "0.05", "trained"):
            expect(row.get_by_role("cell", name=text, exact=True)).to_be_visible()
        expect(page.get_by_text("images=100", exact=False).first).to_be_visible()  # the figures' protocol

        # the frontier names the point of each quality, and shows every value by keyboard and as a table
        chart = page.get_by_role("region", name="Frontier")
        for quality in ("fast", "balanced", "best"):
            expect(chart.locator(".point-label", has_text=quality)).to_be_visible()
        chart.get_by_text("As a table").click()
        values = chart.locator("tbody tr")
        expect(values).to_have_count(len(FIGURES))
        for figure in FIGURES:
            expect(values.filter(has_text=f"{figure.protocol['steps']} steps")).to_contain_text(f"{figure.value:g}")
        chart.get_by_role("img").focus()
        page.keyboard.press("ArrowLeft")
        expect(chart.locator(".tooltip")).to_contain_text(f"{FIGURES[-1].protocol['steps']} steps")

        # promoted, promoted, rolled back; requests get the version that the page shows
        dialog = page.get_by_role("dialog")
        said = page.locator(".notice-title", has_text="production is version")
        for version in (2, 3):
            page.get_by_role("button", name=f"Promote version {version}", exact=True).click()
            dialog.get_by_role("button", name=f"Promote version {version}").click()
            expect(said).to_have_text(f"production is version {version} now")
            expect(page.get_by_role("row").filter(has_text="in memory").filter(has_text="production")).to_be_visible()
            assert production(served) == version
        page.get_by_role("button", name="Roll back to version 2").click()
        dialog.get_by_role("button", name="Leave it as it is").click()
        assert production(served) == 3
        page.get_by_role("button", name="Roll back to version 2").click()
        dialog.get_by_role("button", name="Roll back").click()
        expect(said).to_have_text("production is version 2 now")
        assert production(served) == 2

        page.set_viewport_size(PHONE)
        assert overflow(page) == 0
        page.get_by_role("link", name="Generate from version 1").click()
        expect(page.get_by_label("Model", exact=True)).to_have_value("trained")
        expect(page.get_by_label("Version")).to_have_value(re.compile("1$"))

        # a preset says what it means for the version
        page.get_by_role("radio", name="Best").check()
        expect(page.get_by_text("Nobody has measured this version's samplers")).to_be_visible()
        page.get_by_label("Version").select_option("3")
        (frontier,) = served.client.get("/v1/models/trained/versions/3").json()["frontiers"]
        (best,) = [one for one in frontier["points"] if "best" in one["picked_by"]]
        expect(
            page.get_by_text(f"{best['sampler']}, {best['steps']} steps, {best['network_evaluations']} ")
        ).to_be_visible()


def test_aliases_are_added_moved_and_removed_by_keyboard(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        page.goto("/#/models/trained")
        dialog = page.get_by_role("dialog")
        aliases = page.get_by_role("region", name="Table of aliases")

        def give(version: int, alias: str) -> None:
            tab_to(page, f"Give version {version} an alias")
            page.keyboard.press("Enter")
            expect(dialog.get_by_label("Alias")).to_be_visible()
            tab_to(page, "Alias")
            page.keyboard.type(alias)
            page.keyboard.press("Enter")

        expect(page.get_by_role("button", name="Give version 1 an alias")).to_be_visible()
        give(1, "Not An Alias")
        expect(dialog.get_by_label("Alias")).to_have_attribute("aria-invalid", "true")
        page.keyboard.press("Escape")
        give(1, "canary")
        expect(aliases.get_by_role("row").filter(has_text="canary")).to_contain_text("version 1")
        give(3, "canary")
        expect(dialog.get_by_text("It is version 1 now.")).to_be_visible()
        tab_to(page, "Move it")
        page.keyboard.press("Enter")
        expect(aliases.get_by_role("row").filter(has_text="canary")).to_contain_text("version 3")
        tab_to(page, "Remove alias canary")
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        tab_to(page, "Remove it")
        page.keyboard.press("Enter")
        expect(page.get_by_role("row").filter(has_text="canary")).to_have_count(0)
        assert "canary" not in served.client.get("/v1/models/trained").json()["aliases"]


def test_a_change_that_is_refused_changes_nothing_and_says_why(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        page.goto("/#/models/trained")
        button = page.get_by_role("button", name="Promote version 1", exact=True)
        expect(button).to_be_visible()
        before = served.client.get("/v1/models/trained").json()["aliases"]
        answers = Answers(page)
        confirm = page.get_by_role("dialog").get_by_role("button", name="Promote version 1")
        answers.refuse(403, WWW_Authenticate='Bearer realm="darkroom", error="insufficient_scope", scope="admin"')
        button.click()
        confirm.click()
        expect(page.get_by_role("alert").get_by_text("This key lacks the scope admin.")).to_be_visible()
        answers.fail()
        button.click()
        confirm.click()
        expect(page.locator("#connection")).to_contain_text("cannot be reached")
        answers.through()
        expect(page.locator("#connection")).to_contain_text("is back")
        assert served.client.get("/v1/models/trained").json()["aliases"] == before  # no repeat by itself
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".notice-title", has_text="production")).to_have_text("production is version 1 now")


def test_a_version_is_shown_downloaded_added_and_deleted(browser: Browser, served: Service, tmp_path: Path) -> None:
    versions = "/v1/models/trained/versions"
    served.client.put("/v1/models/trained/alias/production", json={"version": 2}).raise_for_status()
    served.client.put("/v1/models/trained/alias/canary", json={"version": 1}).raise_for_status()
    with opened(browser, served.url, viewport=PHONE) as page:
        drawn: list[str] = []
        page.on("request", lambda request: drawn.append(request.url) if request.method == "POST" else None)
        for _ in range(2):  # the browser keeps the images of the first visit
            page.goto("/#/models/trained")
            images = page.get_by_role("region", name="Images")
            expect(images.get_by_role("img")).to_have_count(8)
            assert images.get_by_role("heading", level=3).all_inner_texts() == ["circle", "square"]
            page.reload()
        assert len(drawn) == 1
        found = page.get_by_role("img", name="square, image 3").get_attribute("src") or ""
        wanted = served.images(model="trained", seed=0, n=4, **{"class": "square"})[3]
        np.testing.assert_array_equal(picture(base64.b64decode(found.removeprefix("data:image/png;base64,"))), wanted)

        page.get_by_role("link", name="Show version 3").click()
        about = page.get_by_role("region", name="Version", exact=True)
        shown = served.client.get(f"{versions}/3").json()
        for text in ("8×8 pixels, grey", f"{shown['parameters']:,}", "500 images seen", "sampler ddim, steps 4"):
            expect(about).to_contain_text(text)
        figures = page.get_by_role("region", name="Figures")
        for text in ("The features are not Inception's", "Here 4 (version 2) is good and 9 (version 1) is poor."):
            expect(figures).to_contain_text(text)
        assert_marked(page, served, f"{versions}/3")
        files = []
        for button in ("Download weights", "Download card"):
            with page.expect_download() as download:
                page.get_by_role("button", name=button).click()
            files.append((download.value.suggested_filename, Path(download.value.path()).read_bytes()))
        assert files[0] == ("trained-3.safetensors", served.client.get(f"{versions}/3/weights").content)
        assert (files[1][0], json.loads(files[1][1])) == ("trained-3.json", shown)

        expect(about.get_by_role("button", name="Promote version 3")).to_be_visible()
        boxes = page.locator("main :is(button, a.button):visible").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect()).map(({ height, right }) => [height, right])"
        )
        assert all(height >= 40 and right <= PHONE["width"] for height, right in boxes)
        (tmp_path / "more.safetensors").write_bytes(tiny_weights("trained", 77, ("circle", "square")))
        page.get_by_label("Weights file").set_input_files(tmp_path / "more.safetensors")
        page.get_by_role("button", name="Add a version").click()
        expect(page.get_by_text("Version 4 is added")).to_be_visible()
        assert served.client.get(f"{versions}/4").json()["source"] == "imported"

        page.get_by_role("link", name="Show version 1").click()
        about.get_by_role("button", name="Delete").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("alias/canary")).to_be_visible()
        assert served.client.get(f"{versions}/1").json()["kept"]
        dialog.get_by_role("button", name="Delete it").click()
        expect(page.get_by_text("The weights of version 1 are deleted")).to_be_visible()
        assert not served.client.get(f"{versions}/1").json()["kept"]
        page.get_by_role("link", name="Show version 2").click()
        about.get_by_role("button", name="Delete").click()
        expect(dialog.get_by_text("version 2 cannot be deleted")).to_be_visible()
        expect(dialog.get_by_role("button", name="Delete it")).to_have_count(0)
