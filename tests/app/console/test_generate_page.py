"""Laws of the page Generate: from classes to images, by keyboard too; refusals, a missing service, kept input."""

import base64
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from darkroom.model.config import SAMPLER_SETTINGS, SamplingConfig
from tests.app.console.browser import PHONE, Theme, accessibility_faults, opened, overflow
from tests.app.console.keyboard import tab_to
from tests.app.served import (
    CLASS_NAMES,
    Service,
    picture,
    pixels_of,
    serving,
    serving_slowly,
    tiny_weights,
    weights_folder,
)
from tests.processes import PATIENCE_SECONDS, free_port, wait_until

expect.set_options(timeout=1000 * PATIENCE_SECONDS)

NAMES = (
    "قطة",
    "运动鞋",
    "👟🧦",
    "שמלה",
    "<img src=x onerror=alert(1)>",
    'it\'s & "quoted"',
    "a very long name " * 11,
    "Größe",
)

FOLDERS = ("1", "10", "11", "12", *map(str, range(2, 10)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    """A service with four models: `names` in several scripts, `folders` of numbers, `interval` with such guidance."""
    folder = weights_folder(tmp_path_factory.mktemp("weights"), tiny=0)
    (folder / "names.safetensors").write_bytes(tiny_weights("names", 1, NAMES))
    interval = {"guidance": 3.0, "guidance_interval": (0.5, 2.0)}
    (folder / "interval.safetensors").write_bytes(tiny_weights("interval", 2, **interval))
    (folder / "folders.safetensors").write_bytes(tiny_weights("folders", 3, FOLDERS))
    with serving(folder, default_model="tiny", database_url=module_database_url, request_rows=64) as service:
        wait_until(lambda: len(service.client.get("/v1/models").json()["models"]) == 4, "registered")
        yield service


def ready(page: Page, model: str = "tiny") -> None:
    """Open the page with the first class alone chosen, and 8 images of it."""
    page.goto(f"/#/generate?model={model}")
    expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()
    page.get_by_role("button", name="None", exact=True).click()
    page.get_by_role("checkbox").first.check()
    page.get_by_label("Images of each").fill("8")


def drawn(page: Page) -> Locator:
    """Return the finished images of the newest request."""
    return page.locator(".run").first.locator(".tile-open:not([disabled])")


def pixels(image: Locator) -> np.ndarray:
    source = image.get_attribute("src") or ""
    return picture(base64.b64decode(source.removeprefix("data:image/png;base64,")))


def command_of(page: Page) -> dict[str, object]:
    """Return the request in the open dialog's command line."""
    text = page.locator("dialog pre").inner_text()
    found = re.search(r"-d '(.*)' \\\n", text, re.DOTALL)
    assert found is not None, text
    body: dict[str, object] = json.loads(found[1].replace("'\\''", "'"))
    return body


def test_from_classes_to_images_their_settings_more_images_and_interpolation(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        ready(page)
        page.get_by_role("checkbox", name="One", exact=True).check()
        page.get_by_role("checkbox", name="T-shirt/top").check()
        page.get_by_role("checkbox", name="Zero").uncheck()
        page.get_by_label("Images of each").fill("3")
        page.get_by_label("Seed", exact=True).fill(str(2**63 - 1))
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Sampler").select_option("dpmpp_2m")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(6)
        expected = served.images(**{"class": [1, 2], "n": 3, "seed": 2**63 - 1, "sampler": "dpmpp_2m"})
        for at in range(6):
            np.testing.assert_array_equal(pixels(drawn(page).nth(at).locator("img")), expected[at])

        drawn(page).nth(4).click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text(f"{2**63 - 1}, 1")).to_be_visible()
        answer = served.client.post("/v1/generate", json=command_of(page))
        np.testing.assert_array_equal(picture(answer.content), expected[4])
        with page.expect_download() as download:
            dialog.get_by_role("link", name="Download").click()
        np.testing.assert_array_equal(picture(Path(download.value.path()).read_bytes()), expected[4])
        assert download.value.suggested_filename == f"T-shirt-top-{2**63 - 1}-1.png"
        page.keyboard.press("ArrowRight")
        expect(dialog.get_by_text(f"{2**63 - 1}, 2")).to_be_visible()

        dialog.get_by_role("button", name="More like this seed").click()
        expect(dialog).to_have_count(0)
        expect(page.locator(".run")).to_have_count(2)
        expect(drawn(page)).to_have_count(8)
        more = served.images(**{"class": 2, "n": 8, "first_index": 3, "seed": 2**63 - 1, "sampler": "dpmpp_2m"})
        np.testing.assert_array_equal(pixels(drawn(page).first.locator("img")), more[0])

        page.get_by_role("button", name="Pick T-shirt/top, image 4").click()
        page.get_by_role("button", name="Pick One, image 2").click()
        picks = page.get_by_role("region", name="Picked images")
        picks.get_by_label("Images").fill("5")
        picks.get_by_role("button", name="Interpolate").click()
        expect(page.locator(".run")).to_have_count(3)
        expect(drawn(page)).to_have_count(5)
        for at, end in ((0, more[1]), (4, expected[2])):
            assert np.abs(pixels(drawn(page).nth(at).locator("img")).astype(int) - end).max() <= 1

        page.get_by_role("link", name="Models").click()  # drawn images are kept while the tab is open
        page.get_by_role("link", name="Generate", exact=True).first.click()
        expect(page.locator(".run")).to_have_count(3)


def test_one_click_draws_each_class_and_the_images_stay_in_the_browser(browser: Browser, served: Service) -> None:
    with opened(browser, served.url, viewport=PHONE) as page:
        page.goto("/#/generate")
        expect(page.get_by_label("Model", exact=True)).to_have_value("tiny")  # the default model, not the first by name
        page.get_by_label("Seed", exact=True).fill(str(2**63 - 1))
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(4 * len(CLASS_NAMES))
        assert page.locator(".run h3").all_inner_texts() == list(CLASS_NAMES)
        expect(page.get_by_label("Seed", exact=True)).to_be_hidden()  # the form is folded, so the images are in reach
        expect(drawn(page).first).to_be_in_viewport(ratio=1)
        assert overflow(page) == 0
        expected = served.images(**{"class": [0, 1, 2, 3], "n": 4, "seed": 2**63 - 1})
        drawn(page).nth(5).click()
        page.get_by_role("button", name="☆ Favourite").click()
        expect(page.get_by_role("button", name="★ Favourite")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Escape")

        page.reload()
        expect(drawn(page)).to_have_count(4 * len(CLASS_NAMES))
        for at in (0, 5, 15):
            np.testing.assert_array_equal(pixels(drawn(page).nth(at).locator("img")), expected[at])
        page.get_by_role("button", name="Favourites only").click()
        expect(page.locator(".tile:visible")).to_have_count(1)
        page.get_by_role("button", name="Favourites only").click()
        page.get_by_role("button", name="Pick images").click()
        for at in (0, 5):
            page.locator(".tile-pick").nth(at).click()
        assert accessibility_faults(page) == []
        with page.expect_download() as download:
            page.get_by_role("button", name="Download (zip)").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None
            requests = json.loads(archive.read("images.json"))
            for name, image in ((f"Zero-{2**63 - 1}-0.png", expected[0]), (f"One-{2**63 - 1}-1.png", expected[5])):
                np.testing.assert_array_equal(picture(archive.read(name)), image)
                again = served.client.post(requests[name]["path"], json=requests[name]["body"])
                np.testing.assert_array_equal(picture(again.content), image)
        page.get_by_role("button", name="Pick none").click()
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="Remove them").click()
        expect(page.locator(".run")).to_have_count(1)  # it has a favourite
        page.locator(".run").get_by_role("button", name="Remove").click()
        expect(page.get_by_text("No images yet")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()
        expect(page.locator(".run")).to_have_count(0)


def test_the_same_seeds_are_drawn_side_by_side_and_a_link_restores_settings(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        ready(page)
        page.get_by_role("checkbox", name="One", exact=True).check()
        page.get_by_label("Images of each").fill("2")
        page.get_by_label("Seed", exact=True).fill("9")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(4)
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_text("Choose another version, a preset or other settings in the form.")).to_be_visible()
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Steps").fill("2")
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".run")).to_have_count(2)
        expect(drawn(page)).to_have_count(8)
        both = [served.images(**{"class": [0, 1], "n": 2, "seed": 9, "steps": steps}) for steps in (4, 2)]
        for at, image in enumerate([*both[0][:2], *both[1][:2], *both[0][2:], *both[1][2:]]):
            np.testing.assert_array_equal(pixels(drawn(page).nth(at).locator("img")), image)
        assert page.locator(".run").first.locator(".sides > p").all_inner_texts() == ["steps 4", "steps 2"]

        link = page.locator(".run").first.get_by_role("link", name="Use these settings")
        page.get_by_label("Steps").fill("")
        link.click()
        expect(page.get_by_label("Version")).to_have_value("1")
        address = page.url
        with opened(browser, served.url) as other:
            other.goto(address)
            expect(other.get_by_role("button", name="Generate", exact=True)).to_be_enabled()
            for name, value in (("Images of each", "2"), ("Seed", "9"), ("Steps", "2"), ("Guidance", "2")):
                expect(other.get_by_label(name, exact=True)).to_have_value(value)
            expect(other.get_by_role("checkbox", checked=True)).to_have_count(2)
            other.get_by_role("button", name="Generate", exact=True).click()
            expect(drawn(other)).to_have_count(4)
            np.testing.assert_array_equal(pixels(drawn(other).nth(3).locator("img")), both[1][3])


FILL = """async (count) => {
  const { changes, keep, runs } = await import("/console/src/generate/gallery.js");
  const { Run } = await import("/console/src/generate/run.js");
  const drawn = { class: "Zero", class_index: 0, index: 0, png: "", finished: true, score: null };
  const facts = { model: "tiny", version: "sha256:0", seed: 1n, sampler: "ddim", steps: 4, guidance: 1 };
  const timings = { run_seconds: 0 };
  const shared = { kind: "generate", body: { n: 1 }, title: ["Zero"], beside: null, status: "done", facts, timings };
  const run = (number) =>
    Run.from({ ...shared, id: `${number}`, images: [{ ...drawn, favourite: number === 0 }] });
  for (let number = 0; number < count; number += 1) runs.unshift(run(number));
  await keep(runs[0]);
  return runs.map((one) => Number(one.id));
}"""
"""Fills the gallery. The oldest run has a favourite. Returns the numbers of the runs that are kept."""


def test_a_full_gallery_drops_the_oldest_images_but_favourites_last_and_says_so(
    browser: Browser, served: Service
) -> None:
    with opened(browser, served.url) as page:
        ready(page)
        assert page.evaluate(FILL, 103) == [*range(102, 3, -1), 0]
        expect(page.get_by_text("The oldest 3 requests were removed. Favourites go last.")).to_be_visible()


def test_a_version_that_saw_little_training_says_so(browser: Browser, served: Service) -> None:
    """For the version that saw enough, only that fact is made up."""

    def trained(route: Route) -> None:
        version = served.client.get("/v1/models/tiny/versions/production").json()
        route.fulfill(json={**version, "little_training": None})

    with opened(browser, served.url) as page:
        ready(page)
        note = page.get_by_text("This version saw little training")
        expect(note).to_be_visible()
        expect(
            page.get_by_text(re.compile("^It saw .* images, and its pictures need .*; expect noise and blurs.$"))
        ).to_be_visible()
        page.route("**/v1/models/tiny/versions/production", trained)
        page.reload()
        ready(page)
        expect(note).to_have_count(0)


def test_a_models_guidance_interval_is_shown_and_completes_a_single_bound(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        ready(page, "interval")
        page.get_by_text("More", exact=True).click()
        ends = page.get_by_label("Low end"), page.get_by_label("High end")
        for end, shown in zip(ends, ("0.5", "2"), strict=True):
            expect(end).to_have_attribute("placeholder", shown)
        page.get_by_label("Seed", exact=True).fill("5")
        for runs, (low, high, interval) in enumerate((("", "", None), ("", "40", [0.5, 40]), ("0.1", "", [0.1, 2])), 1):
            for end, value in zip(ends, (low, high), strict=True):
                end.fill(value)
            with page.expect_request(lambda request: request.method == "POST") as sent:
                page.get_by_role("button", name="Generate", exact=True).click()
            assert sent.value.post_data_json.get("guidance_interval") == interval
            expect(page.locator(".run")).to_have_count(runs)
            expect(drawn(page)).to_have_count(8)
            drawn(page).nth(0).click()
            settings = {} if interval is None else {"guidance_interval": interval}
            expected = served.images(**{"model": "interval", "class": [0], "n": 8, "seed": 5, **settings})
            np.testing.assert_array_equal(pixels(page.locator("dialog img")), expected[0])
            page.keyboard.press("Escape")


def test_the_form_has_every_sampling_setting_and_a_picture_names_those_that_had_an_effect(
    browser: Browser, served: Service
) -> None:
    with opened(browser, served.url) as page:
        ready(page)
        page.get_by_text("More", exact=True).click()
        for name, setting in SamplingConfig.model_fields.items():
            control = page.locator(f".generate-form [name={name}], .generate-form [name={name}_low]")
            expect(control).to_have_attribute("title", setting.description or "every setting is described")
        asked = {"sampler": "ddpm", "variance": "beta", "steps": 6, "spacing": "edm", "guide": "unconditional"}
        for name in ("sampler", "variance", "spacing", "guide"):
            page.get_by_label(name.capitalize(), exact=True).select_option(str(asked[name]))
        page.get_by_label("Steps").fill("6")
        page.get_by_label("Seed", exact=True).fill("5")
        page.get_by_label("Images of each").fill("1")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(1)
        drawn(page).nth(0).click()
        expected = served.generate(**{"class": 0, "seed": 5, **asked})
        np.testing.assert_array_equal(pixels(page.locator("dialog img")), pixels_of(expected)[0])
        facts = dict(
            zip(page.locator("dialog dt").all_inner_texts(), page.locator("dialog dd").all_inner_texts(), strict=True)
        )
        shown = ("guidance", "guide", "sampler", "steps", "spacing", "threshold", "percentile", "variance")
        assert {name.capitalize(): str(expected[name]).removesuffix(".0") for name in shown}.items() <= facts.items()
        assert "Eta" not in facts  # only ddim has it
        command = command_of(page)
        assert {name: command[name] for name in shown} == {name: expected[name] for name in shown}
        page.keyboard.press("Escape")
        page.get_by_role("radio", name="Fast").check()
        for name in SamplingConfig.model_fields:
            control = page.locator(f".generate-form [name={name}], .generate-form [name={name}_low]")
            assert control.is_disabled() == (name in SAMPLER_SETTINGS), name


def test_names_in_any_script_are_shown_unchanged(browser: Browser, served: Service) -> None:
    with opened(browser, served.url, viewport=PHONE) as page:
        ready(page, "names")
        for name in NAMES:
            expect(page.get_by_role("checkbox", name=name.strip(), exact=True)).to_have_count(1)
        page.get_by_role("button", name="All", exact=True).click()
        page.get_by_label("Images of each").fill("1")
        page.get_by_label("Seed").fill("7")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(len(NAMES))
        assert overflow(page) == 0
        for at in (0, 4, 5):
            drawn(page).nth(at).click()
            expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text(NAMES[at])
            answer = served.client.post("/v1/generate", json=command_of(page))
            np.testing.assert_array_equal(picture(answer.content), pixels(page.locator("dialog img")))
            page.keyboard.press("Escape")
        assert page.locator("img[src=x]").count() == 0


def test_a_keyboard_is_enough(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        ready(page)
        page.reload()  # the focus starts at the top, and the form is as it was
        expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        tab_to(page, "One")
        page.keyboard.press("Space")
        tab_to(page, "Images of each")
        page.keyboard.press("Control+A")
        page.keyboard.type("2")
        page.keyboard.press("Enter")
        expect(drawn(page)).to_have_count(4)
        tab_to(page, "Open One, image 1")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Open One, image 1"


def test_a_fault_is_shown_beside_its_field_and_the_input_stays(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        ready(page)
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Best of").fill("2")
        page.get_by_role("button", name="Generate", exact=True).click()
        best_of = page.get_by_label("Best of")
        expect(best_of).to_have_attribute("aria-invalid", "true")
        expect(best_of).to_be_focused()
        expect(page.get_by_text("best_of must be at least n: of 2 there are no best 8")).to_be_visible()
        page.reload()
        expect(page.get_by_label("Best of")).to_have_value("2")
        page.get_by_role("button", name="None", exact=True).click()
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.get_by_text("Choose at least one class.")).to_be_visible()


def test_the_page_does_not_send_a_request_for_too_many_images(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
        ready(page)
        page.get_by_role("checkbox", name="Zero").check()
        page.get_by_role("checkbox", name="One", exact=True).check()
        page.get_by_label("Images of each").fill("300000")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.get_by_text("One request may draw 64 images: at most 32 of each of 2 classes.")).to_be_visible()
        expect(page.get_by_label("Images of each")).to_be_focused()
        assert (asked, page.locator(".tile").count()) == ([], 0)
        page.get_by_label("Images of each").fill("32")
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Best of").fill("33")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.get_by_label("Best of")).to_be_focused()
        page.get_by_label("Best of").fill("")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(64)


def test_classes_with_numbers_as_names_are_drawn_by_name(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        ready(page, "folders")
        page.get_by_role("checkbox", name="1", exact=True).uncheck()
        page.get_by_role("checkbox", name="2", exact=True).check()
        page.get_by_label("Images of each").fill("2")
        page.get_by_label("Seed", exact=True).fill("5")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(drawn(page)).to_have_count(2)
        expected = served.images(**{"class": "2", "model": "folders", "n": 2, "seed": 5})
        np.testing.assert_array_equal(pixels(drawn(page).first.locator("img")), expected[0])
        drawn(page).nth(1).click()
        answer = served.client.post("/v1/generate", json=command_of(page))
        np.testing.assert_array_equal(picture(answer.content), expected[1])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_button_is_readable_under_the_pointer(browser: Browser, served: Service, theme: Theme) -> None:
    with opened(browser, served.url, theme=theme) as page:
        ready(page)
        page.get_by_label("Images of each").fill("2")
        page.get_by_role("button", name="Generate", exact=True).click()
        page.get_by_role("button", name=re.compile("Pick Zero, image 0")).click()
        expect(page.locator(".tile-pick").first).to_have_text("picked")
        buttons = page.locator("button:visible:not(:disabled)")
        assert buttons.count() > 8
        for number in range(buttons.count()):
            if not buttons.nth(number).inner_text().strip():
                continue
            buttons.nth(number).hover()
            assert contrast(buttons.nth(number)) >= 4.5, buttons.nth(number).inner_text()


def contrast(text: Locator) -> float:
    """Return the contrast (WCAG 2.2) of an element's text and background. There are no transitions to wait for."""
    return float(
        text.evaluate(
            """(element) => {
              const painted = (color) => {
                const context = new OffscreenCanvas(1, 1).getContext("2d");
                context.fillStyle = color;
                context.fillRect(0, 0, 1, 1);
                return [...context.getImageData(0, 0, 1, 1).data];
              };
              const luminance = (color) => {
                const linear = painted(color).slice(0, 3).map((one) => one / 255)
                  .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
                return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
              };
              let behind = element;
              while (painted(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
              const both = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(luminance);
              return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
            }"""
        )
    )


def test_a_used_up_quota_is_shown_with_the_hours_until_it_is_renewed(browser: Browser, served: Service) -> None:
    detail = "the key 'lab' may use 20 images per day: none is left; the next day begins in 12 h 39 min"

    def refuse(route: Route) -> None:
        body = json.dumps({"type": "/docs/errors#images-limit", "title": "Too Many", "status": 429, "detail": detail})
        headers = {"Retry-After": "45505"}
        route.fulfill(status=429, content_type="application/problem+json", body=body, headers=headers)

    with opened(browser, served.url) as page:
        page.route("**/v1/generate", refuse)
        ready(page)
        page.get_by_role("button", name="Generate", exact=True).click()
        notice = page.get_by_role("alert")
        expect(notice).to_contain_text("This key has too few images left today")
        expect(notice).to_contain_text("The" + detail.removeprefix("the"))
        expect(notice).to_contain_text("The service asks you to wait 12 h 38 min, until ")
        expect(notice).not_to_contain_text("45505")
        expect(notice).not_to_contain_text("busy")


def test_previews_are_shown_and_a_request_can_be_cancelled(browser: Browser, tmp_path: Path, database_url: str) -> None:
    folder = weights_folder(tmp_path / "weights")
    with serving_slowly(folder, database_url=database_url, queue_rows=8) as (service, pace):
        wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "registered")
        with opened(browser, service.url) as page:
            ready(page)
            page.get_by_text("More", exact=True).click()
            page.get_by_label("Steps").fill("10")
            pace.seconds = 0.2
            page.get_by_role("button", name="Generate", exact=True).click()
            expect(page.locator(".tile.is-preview img[src^='data:']").first).to_be_visible()
            pace.open.clear()
            expect(drawn(page)).to_have_count(0)
            page.get_by_role("button", name="Cancel").click()
            expect(page.locator(".run").get_by_text("cancelled")).to_be_visible()
            pace.open.set()
            wait_until(lambda: service.rows() == 0, "the engine has dropped the rows")

            pace.open.clear()  # a full queue refuses, says when to try again, and accepts the same request later
            page.get_by_role("button", name="Generate", exact=True).click()
            wait_until(lambda: service.rows() == 8, "the queue is full")
            page.get_by_role("button", name="Generate", exact=True).click()
            expect(page.get_by_text("The service is busy")).to_be_visible()
            expect(page.get_by_text(re.compile(r"The service asks you to wait \d+ s"))).to_be_visible()
            pace.seconds = 0.0
            pace.open.set()
            wait_until(lambda: service.rows() == 0, "the first request is drawn")
            page.get_by_role("button", name="Try again").click()
            expect(drawn(page)).to_have_count(8)


def test_while_the_service_is_away_the_page_says_so_and_loses_no_input(
    browser: Browser, tmp_path: Path, database_url: str
) -> None:
    folder, port = weights_folder(tmp_path / "weights"), free_port()
    with serving(folder, port=port, database_url=database_url) as service:
        wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "registered")
        context = opened(browser, service.url)
        page = context.__enter__()
        ready(page)
        page.get_by_label("Seed", exact=True).fill("77")
    page.get_by_role("button", name="Generate", exact=True).click()
    status = page.locator("#connection")
    expect(status).to_contain_text("cannot be reached")
    assert status.get_attribute("aria-live") == "polite"
    with serving(folder, port=port, database_url=database_url):
        expect(status).to_contain_text("is back")
        expect(page.get_by_label("Seed", exact=True)).to_have_value("77")
        page.get_by_role("button", name="Try again").click()
        expect(drawn(page)).to_have_count(8)
        context.__exit__(None, None, None)


def test_the_page_asks_for_a_key_keeps_it_in_the_tab_and_says_what_scope_it_lacks(
    browser: Browser, served: Service
) -> None:
    """The refusals are made up as by a service with keys; all other answers are the real service's."""

    def guard(route: Route, request: Request) -> None:
        if "authorization" not in request.headers:
            refuse(route, 401, "send Authorization: Bearer KEY", 'Bearer realm="darkroom"')
        elif request.method == "POST":
            challenge = 'Bearer realm="darkroom", error="insufficient_scope", scope="generate"'
            refuse(route, 403, "the key 'mine' does not have the scope generate or admin", challenge)
        else:  # the real service has no keys, and would refuse an unknown one
            headers = {name: value for name, value in request.headers.items() if name != "authorization"}
            route.continue_(headers=headers)

    def refuse(route: Route, status: int, detail: str, challenge: str) -> None:
        body = json.dumps({"type": "/docs/errors#refused", "title": "Refused", "status": status, "detail": detail})
        headers = {"X-Request-ID": "request-7", "WWW-Authenticate": challenge}
        route.fulfill(status=status, content_type="application/problem+json", body=body, headers=headers)

    with opened(browser, served.url) as page:
        page.route("**/v1/**", guard)
        page.goto("/#/generate")
        page.get_by_label("API key").fill("dk_1234")
        page.get_by_role("button", name="Use this key").click()
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.get_by_text("This key lacks the scope generate.")).to_be_visible()
        expect(page.get_by_text("request-7")).to_be_visible()
        assert page.evaluate("sessionStorage.getItem('darkroom-key')") == "dk_1234"
        assert page.evaluate("JSON.stringify(localStorage)") == "{}"
        page.get_by_role("button", name="Forget key").click()
        assert page.evaluate("sessionStorage.getItem('darkroom-key')") is None
