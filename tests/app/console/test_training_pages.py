"""Laws of the pages Training: from an archive to a promoted model, sweeps, a thousand jobs; also by keyboard."""

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect
from sqlalchemy import text, update

from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast
from darkroom.store.database import Database
from darkroom.store.job_repository import stop
from darkroom.store.promotion import succeed_training
from darkroom.store.tables import Evaluation
from tests.app.console.answers import Answers
from tests.app.console.browser import PHONE, accessibility_faults, assert_marked, drop, opened, overflow
from tests.app.console.keyboard import tab_to
from tests.app.console.stock import DATASET, SCRIPTS, Trainer, archive, submit, upload
from tests.app.keyed import add_key
from tests.app.served import Service, serving
from tests.app.training import add_dataset, see_measured
from tests.held_decoder import NEWS, TOTAL, HeldDecoder
from tests.processes import PATIENCE_SECONDS, wait_until

expect.set_options(timeout=1000 * PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose data sets the service may read by their paths."""
    return tmp_path_factory.mktemp("roots")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str, roots: Path) -> Iterator[Service]:
    """A service without a model and with one data set."""
    folder = tmp_path_factory.mktemp("nothing")
    settings = {"database_url": module_database_url, "dataset_roots": (roots,)}
    with serving(folder, wait_until_ready=False, **settings) as service:
        upload(service)
        yield service


@pytest.fixture(scope="module")
def module_database(module_database_url: str) -> Iterator[Database]:
    """The database that the tests of this module share."""
    database = Database(module_database_url)
    yield database
    database.dispose()


def file(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article").filter(has=page.get_by_role("heading", name=name, exact=True))


def is_drawn(image: Locator) -> bool:
    return bool(image.evaluate("image => image.complete && image.naturalWidth > 0"))


def test_an_archive_becomes_a_data_set_with_its_contact_sheet(browser: Browser, served: Service) -> None:
    names = [*SCRIPTS[:4], SCRIPTS[5].strip()]
    with opened(browser, served.url) as page:
        page.goto("/#/training/datasets")
        expect(card(page, "shapes")).to_be_visible()
        register = page.get_by_role("button", name="Register", exact=True)
        register.click()
        expect(page.get_by_text("Choose a folder or an archive, or give a path.")).to_be_visible()

        # over a slow connection the page shows the upload's progress, and can cancel it
        line = page.context.new_cdp_session(page)
        line.send("Network.enable")
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 40_000}
        line.send("Network.emulateNetworkConditions", slow)
        page.get_by_label("Archive").set_input_files(file("clothes.zip", archive(names, each=4, side=160)))
        expect(page.get_by_label("Name", exact=True)).to_have_value("clothes")
        page.get_by_label("Name", exact=True).fill(DATASET)
        register.click()
        expect(page.get_by_text(re.compile(r"kB of .* sent"))).to_be_visible()
        bar = page.get_by_role("progressbar", name="Upload")
        wait_until(lambda: 0 < int(bar.get_attribute("aria-valuenow") or 0) < 100, "a part of the archive is sent")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelled.")).to_be_visible()
        assert [one["name"] for one in served.client.get("/v1/datasets").json()["datasets"]] == ["shapes"]

        line.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
        register.click()
        expect(page.get_by_text(f"{DATASET} is registered: 20 images.")).to_be_visible()
        made = card(page, DATASET)
        expect(made.get_by_text("20 images, 160×160, grey")).to_be_visible()
        expect(made.get_by_role("listitem")).to_have_text([f"{name} 4" for name in sorted(names)])
        wait_until(lambda: is_drawn(made.locator("img")), "the contact sheet is shown")

        # a fault is shown beside its field, or as a notice
        page.get_by_label("Archive").set_input_files(file("other.zip", archive(("a", "b"))))
        page.get_by_label("Name", exact=True).fill("shapes")
        register.click()
        expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Archive").set_input_files(file("broken.zip", b"no archive"))
        page.get_by_label("Name", exact=True).fill("broken")
        register.click()
        expect(page.get_by_role("alert").get_by_text("The service does not accept this")).to_be_visible()

        # this page also asks for a key, and sends the same archive again with it
        answers = Answers(page)
        answers.refuse(401)
        page.get_by_label("Archive").set_input_files(file("again.zip", archive(("a", "b"))))
        page.get_by_label("Name", exact=True).fill("again")
        register.click()
        page.get_by_role("dialog").get_by_label("API key").fill("dk_1234")
        page.keyboard.press("Enter")
        expect(card(page, "again")).to_be_visible()

        page.set_viewport_size(PHONE)
        assert overflow(page) == 0
        card(page, DATASET).get_by_role("link", name="Train on it").click()
        expect(page.get_by_label("Data set")).to_have_value(DATASET)
        by_recipe(page)  # whose images are smaller, so that these are scaled down
        expect(page.get_by_role("button", name="Fit the recipe to them")).to_have_count(0)
        page.get_by_label("Data set").select_option("shapes")
        page.get_by_label("Recipe", exact=True).select_option("fashion-mnist")
        page.get_by_role("button", name="Fit the recipe to them").click()
        expect(page.get_by_label("Other fields of the recipe")).to_have_value("model.image_size = 8")
        assert overflow(page) == 0


@pytest.mark.parametrize("by_path", [False, True])
def test_the_page_says_how_many_pictures_are_decoded(
    browser: Browser, served: Service, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_path: bool
) -> None:
    decoder = HeldDecoder(monkeypatch, tmp_path)
    with opened(browser, served.url) as page:
        page.goto("/#/training/datasets")
        expect(card(page, "shapes")).to_be_visible()
        if by_path:
            _folder(roots / "pictures")
            page.get_by_text("More", exact=True).click()
            page.get_by_label("Or a path").fill(str(roots / "pictures"))
            page.get_by_label("Format").select_option("folder")
            page.get_by_label("Side in pixels").fill("8")
            page.get_by_label("Leave out damaged pictures").check()
        else:
            page.get_by_label("Archive").set_input_files(file("held.zip", archive(("a", "b"))))
        page.get_by_label("Name", exact=True).fill("held")
        page.get_by_role("button", name="Register", exact=True).click()
        bar = page.get_by_role("progressbar", name="Upload")
        for done in NEWS:
            expect(page.get_by_text(f"Decoding pictures: {done} of {TOTAL}")).to_be_visible()
            expect(bar).to_have_attribute("aria-valuenow", str(100 * done // TOTAL))
            decoder.go_on(done)
        expect(page.get_by_text("held is registered")).to_be_visible()
        expect(card(page, "held")).to_be_visible()
    served.client.delete("/v1/datasets/held").raise_for_status()


def _folder(folder: Path) -> Path:
    """Make class folders with pictures of several sizes; one is damaged, and one is in two classes."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            pixels = draw.integers(0, 256, (40 + 4 * number, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{label}{number}.png")
    (folder / "dogs" / "again.png").write_bytes((folder / "cats" / "00.png").read_bytes())
    (folder / "dogs" / "damaged.png").write_bytes(b"no picture")
    (folder / "Thumbs.db").write_bytes(b"junk")
    return folder


def test_a_folder_is_previewed_sent_looked_through_and_replaced(
    browser: Browser, served: Service, tmp_path: Path
) -> None:
    folder = _folder(tmp_path / "pets")
    with opened(browser, served.url) as page:
        page.goto("/#/training/datasets")
        expect(page.get_by_role("radio", name="Pad")).to_be_hidden()
        page.get_by_label("Folder", exact=True).set_input_files(folder)
        expect(page.get_by_label("Name", exact=True)).to_have_value("pets")
        expect(page.get_by_text("The pictures differ in size. They become 32×32.")).to_be_visible()
        middle = "canvas => [...canvas.getContext('2d').getImageData(16, 0, 1, 1).data.slice(0, 3)]"
        page.get_by_label("Colour behind transparent parts").fill("#ff0000")
        padded = page.locator("label").filter(has_text="Pad").locator("canvas")
        assert padded.first.evaluate(middle) == [255, 0, 0]
        assert page.locator("label").filter(has_text="Crop").locator("canvas").first.evaluate(middle) != [255, 0, 0]
        page.get_by_role("radio", name="Pad").check()
        page.get_by_role("button", name="Register", exact=True).click()
        expect(page.get_by_text("One picture cannot be read")).to_be_visible()
        expect(page.get_by_text("pets/dogs/damaged.png: not a readable image")).to_be_visible()
        assert accessibility_faults(page) == []
        page.get_by_role("button", name="Go on without them").click()
        expect(
            page.get_by_text("pets is registered: 7 images. Files left out: no pictures: 1; damaged: 1.")
        ).to_be_visible()
        described = served.client.get("/v1/datasets/pets").json()
        assert (described["images"], described["image_shape"]) == (7, [3, 32, 32])

        (folder / "dogs" / "damaged.png").unlink()
        page.get_by_label("Folder", exact=True).set_input_files(folder)
        page.get_by_role("button", name="Register", exact=True).click()
        page.get_by_role("button", name="Replace it").click()  # cropped this time
        expect(page.get_by_text("pets is registered: 7 images.")).to_be_visible()
        assert served.client.get("/v1/datasets/pets").json()["version"] == 2

        page.get_by_role("link", name="pets", exact=True).click()
        expect(page.get_by_text("1 to 3 of 3")).to_be_visible()
        page.get_by_label("Class").select_option("dogs")
        expect(page.get_by_text("1 to 4 of 4")).to_be_visible()
        wait_until(lambda: is_drawn(page.get_by_role("img", name="Pictures of dogs")), "the pictures are shown")
        page.get_by_role("button", name="Check the pictures").click()
        page.get_by_text("Pictures that look alike (1)").click()
        expect(page.get_by_text("cats, dogs, identical")).to_be_visible()
        page.get_by_role("link", name="pets@1").click()
        expect(page.get_by_text("1, replaced by a later one")).to_be_visible()
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("New name").fill("first pets")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("first pets")


def test_a_dropped_zip_is_previewed_without_an_upload(browser: Browser, served: Service) -> None:
    content = base64.b64encode(archive(("a", "b"), side=100)).decode()
    drop = """(form, content) => {
      const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "dropped.zip"));
      form.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    with opened(browser, served.url) as page:
        page.goto("/#/training/datasets")
        page.locator("form.upload").evaluate(drop, content)
        expect(
            page.get_by_text("The pictures are 100×100 and stay so. A side of 64 trains much faster")
        ).to_be_visible()
        expect(page.get_by_label("Name", exact=True)).to_have_value("dropped")
        page.get_by_role("button", name="Register", exact=True).click()
        expect(page.get_by_text("dropped is registered: 6 images.")).to_be_visible()


def test_the_page_of_a_job_shows_a_failed_evaluation(
    browser: Browser, served: Service, module_database: Database
) -> None:
    number = submit(served, "unjudged")
    worker = Trainer(module_database)
    worker.save(500)
    worker.fail_at("evaluation", 500, "OutOfMemoryError: <b>full</b>")
    worker.end()
    with opened(browser, served.url) as page:
        page.goto(f"/#/training/jobs/{number}")
        events = page.get_by_role("list", name="Events, newest first")
        said = "evaluation failed after 500 images: OutOfMemoryError: <b>full</b>"
        expect(events.get_by_text(said)).to_be_visible()


def by_recipe(page: Page) -> None:
    """Choose a recipe in place of a plan."""
    page.locator("summary").filter(has_text="Change").click()
    page.get_by_label("Recipe", exact=True).select_option("digits")


def test_a_key_without_the_scope_to_promote_learns_what_it_needs(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, database: Database, database_url: str
) -> None:
    add_dataset(database)
    _, token = add_key(database, "train")
    settings = {"wait_until_ready": False, "database_url": database_url}
    with serving(tmp_path_factory.mktemp("nothing"), **settings) as keyed, opened(browser, keyed.url) as page:
        page.goto("/#/training/new")
        page.get_by_role("dialog").get_by_label("API key").fill(token)
        page.keyboard.press("Enter")
        by_recipe(page)
        promotion = page.get_by_label("Promotion")
        expect(promotion).to_have_accessible_description("Promotion needs a key with the scope admin.")
        page.get_by_label("Data set").select_option("shapes")
        promotion.select_option("best")
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_text("This key lacks the scope admin.")).to_be_visible()
        promotion.select_option("never")
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_role("heading", name="Job 1")).to_be_visible()


def test_from_a_recipe_to_a_promoted_version(browser: Browser, served: Service, module_database: Database) -> None:
    with opened(browser, served.url) as page:
        page.goto("/#/training/new?dataset=shapes")
        by_recipe(page)
        page.get_by_label("Name of the model").fill("Not A Name")
        page.get_by_label("Images to train on").fill("500")
        start = page.get_by_role("button", name="Start training")
        start.click()
        expect(page.get_by_label("Name of the model")).to_have_attribute("aria-invalid", "true")
        page.reload()
        expect(page.get_by_label("Images to train on")).to_have_value("500")  # the input stays
        page.get_by_label("Name of the model").fill("shapes-model")
        start.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("shapes-model")
        status = page.locator(".page-head .badge").first
        expect(status).to_have_text("queued")
        expect(page.get_by_text("The first figures come")).to_be_visible()
        expect(page.get_by_text("The first checkpoint is stored after 500 images.")).to_be_visible()

        # live: curves, samples, log, checkpoints and figures come as the worker writes them
        worker = Trainer(module_database)
        worker.say("training on cpu", "قطة 👟 <b>")
        worker.train(100, loss=0.75)
        expect(status).to_have_text("running")
        expect(page.get_by_text("100 of 500 images")).to_contain_text("loss 0.75")
        expect(page.get_by_role("progressbar", name="Images seen")).to_have_attribute("aria-valuenow", "20")
        worker.train(200, loss=0.5)
        loss = page.get_by_role("img", name=re.compile("^Training loss"))
        expect(loss).to_have_accessible_name(re.compile("2 values"))
        expect(page.get_by_role("log")).to_contain_text("قطة 👟 <b>")
        for images in (100, 200):
            worker.draw(images)
        frames = page.get_by_role("list", name="Samples over time").get_by_role("button")
        expect(frames).to_have_count(2)
        wait_until(lambda: all(is_drawn(one.locator("img")) for one in frames.all()), "the samples are shown")
        worker.save(200, fid_x=4.0)
        table = page.get_by_role("region", name="Table of checkpoints")
        expect(table.get_by_role("row").nth(1)).to_contain_text("best")
        expect(page.get_by_role("img", name=re.compile("^fid-x, 1 values"))).to_be_visible()

        # an early verdict
        advice = "The pictures are still noise; train longer"
        worker.judge(200, Finding("noise", "failure", None, advice), expected=Forecast(312.0, 198.0, 450.0, 250.0))
        expect(page.get_by_text("This training fails after 200 images")).to_be_visible()
        expect(page.locator(".notice").get_by_text(advice, exact=True)).to_be_visible()
        end = "310 (200 to 450); twice the images would bring 250"
        expect(page.get_by_text(end, exact=True)).to_be_visible()
        told = f"early verdict after 200 images: {advice}; expected distance {end}"
        expect(page.get_by_text(told)).to_be_visible()
        verdict = page.get_by_text("fails the check")
        expect(verdict).to_have_attribute("title", advice)

        # by keyboard: the curve's values and the strip
        loss.focus()
        page.keyboard.press("End")
        expect(page.locator("figure").first.locator(".tooltip")).to_have_text("images 200: 0.5")
        frames.first.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("After 100 images (1 of 2)")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(dialog.get_by_text("After 200 images (2 of 2)")).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)

        # cancelled, resumed, continued from its checkpoint, done
        page.get_by_role("button", name="Cancel").click()
        dialog.get_by_role("button", name="Leave it as it is").click()
        expect(status).to_have_text("running")
        page.get_by_role("button", name="Cancel").click()
        dialog.get_by_role("button", name="Cancel the job").click()
        expect(status).to_have_text("cancelling")
        worker.end(stop)
        expect(status).to_have_text("cancelled")
        page.get_by_role("button", name="Resume").click()
        expect(status).to_have_text("queued")
        worker = Trainer(module_database)
        worker.train(500, loss=0.25)
        worker.save(500, fid_x=6.0)
        worker.judge(500)
        expect(verdict).to_have_count(0)
        worker.end()
        expect(status).to_have_text("succeeded")
        expect(page.get_by_text("500 of 500 images")).to_be_visible()
        expect(loss).to_have_accessible_name(re.compile("3 values"))

        # the better one is promoted, then the other, and back
        said = page.locator(".notice-title")
        for version, roll_back in ((1, False), (2, True)):
            page.get_by_role("button", name=f"Promote version {version}", exact=True).click()
            dialog.get_by_role("button", name=f"Promote version {version}").click()
            expect(said).to_have_text(f"production is version {version} now")
            assert page.get_by_role("button", name=re.compile("Roll back")).count() == int(roll_back)
        page.get_by_role("button", name="Roll back to version 1").click()
        dialog.get_by_role("button", name="Roll back").click()
        expect(said).to_have_text("production is version 1 now")
        model = served.client.get("/v1/models/shapes-model").json()
        assert model["aliases"]["production"]["version"] == 1
        expect(table.get_by_role("row").filter(has_text="200").get_by_text("production")).to_be_visible()

        page.get_by_role("link", name="Generate from it").click()
        expect(page.get_by_label("Model", exact=True)).to_have_value("shapes-model")
        expect(page.locator(".run").first.locator(".tile-open:not([disabled])")).to_have_count(8)  # two classes

        # what is wrong with a version stays with it
        page.goto("/#/models/shapes-model")
        expect(page.get_by_role("row").filter(has_text="fails the check")).to_have_count(1)
        page.goto("/#/generate?model=shapes-model")
        caution = page.get_by_text(f"{advice}.")
        expect(caution).to_be_visible()
        expect(page.get_by_text("It saw 200 images")).to_be_visible()
        page.get_by_label("Version").select_option("2")
        expect(page.get_by_text("It saw 500 images")).to_be_visible()
        expect(caution).to_have_count(0)


def test_seven_tabs_on_running_jobs_all_follow(browser: Browser, served: Service, module_database: Database) -> None:
    """A browser opens six connections to a service over HTTP/1. If each tab held one, the seventh would get no page."""
    job_id = submit(served, "followed-by-many")
    worker = Trainer(module_database)
    with opened(browser, served.url) as page:
        tabs = [page, *(page.context.new_page() for _ in range(6))]
        for tab in tabs:
            tab.goto(f"/#/training/jobs/{job_id}")
            expect(tab.get_by_role("button", name="Cancel")).to_be_visible()
        worker.train(100)
        for tab in tabs:
            expect(tab.get_by_text(re.compile("^100 of .* images"))).to_be_visible()
        _set_hidden(page, "true")
        worker.train(200)
        for tab in tabs[1:]:
            expect(tab.get_by_text(re.compile("^200 of .* images"))).to_be_visible()
        expect(
            page.get_by_text(re.compile("^100 of .* images"))
        ).to_be_visible()  # a hidden tab leaves the turn to others
        _set_hidden(page, "false")
        worker.end()
        for tab in tabs:
            expect(tab.locator(".page-head .badge").first).to_have_text("succeeded")


def _set_hidden(page: Page, hidden: str) -> None:
    """Let the page think that its tab is hidden, or shown."""
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_sweep_is_a_table_that_can_be_sorted_and_a_plot(
    browser: Browser, served: Service, module_database: Database
) -> None:
    name = f"Größe {SCRIPTS[0]} {SCRIPTS[2]}"
    with opened(browser, served.url) as page:
        page.goto("/#/training/sweeps")
        page.get_by_role("link", name="New sweep").click()
        page.get_by_label("Data set").select_option("shapes")
        page.get_by_label("Name of the model").fill("try")
        page.get_by_label("Name of the sweep").fill(name)
        grid = page.get_by_label("Values to compare")
        grid.fill("optimizer.learning_rate 0.001")
        start = page.get_by_role("button", name="Start training")
        start.click()
        expect(page.get_by_text('Write "name = value"')).to_be_visible()
        grid.fill("optimizer.learning_rate = 0.001, -1")
        start.click()
        expect(grid).to_have_attribute("aria-invalid", "true")
        grid.fill("optimizer.learning_rate = 0.001, 0.002, 0.004")
        seed = 2**53 + 1  # a JavaScript number would round it
        page.get_by_label("Seeds").fill(str(seed))
        start.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        rows = page.get_by_role("region", name="Jobs of the sweep").locator("tbody tr")
        expect(rows).to_have_count(3)
        expect(rows.filter(has_text=str(seed))).to_have_count(3)
        for distance in (5.0, 9.0, 7.0):
            Trainer(module_database).whole_run(distance)
        expect(rows.filter(has_text="succeeded")).to_have_count(3)
        plot = page.get_by_role("img", name=re.compile("3 values"))
        expect(plot).to_be_visible()
        expect(page.get_by_text("fid-x by optimizer.learning_rate")).to_be_visible()

        tab_to(page, "fid-x")  # by keyboard
        for expected in (["5", "7", "9"], ["9", "7", "5"]):
            page.keyboard.press("Enter")
            expect(rows.locator("td:last-child")).to_have_text([f"{one} (version 1)" for one in expected])
        expect(page.get_by_role("columnheader", name="fid-x")).to_have_attribute("aria-sort", "descending")
        expect(page.get_by_text("do not compare them")).to_have_count(0)
        with module_database.session() as session:
            other = update(Evaluation).where(Evaluation.metric == "fid-x", Evaluation.value == 7.0)
            session.execute(other.values(protocol_digest="sha256:" + "0" * 64))
        expect(page.get_by_text("do not compare them")).to_be_visible()
        expect(rows.locator("td:last-child").filter(has_text="other protocol")).to_have_text(
            "7 (version 1) other protocol"
        )
        page.get_by_label("Metric").select_option("kid-x")
        expect(page.get_by_text("kid-x by optimizer.learning_rate")).to_be_visible()
        expect(page.get_by_text("do not compare them")).to_have_count(0)
        page.get_by_label("Across").select_option("seed")
        expect(page.get_by_text("kid-x by seed")).to_be_visible()
        page.set_viewport_size(PHONE)
        assert overflow(page) == 0

        page.goto("/#/training/sweeps")
        expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("3 succeeded")
        page.goto("/#/training/new?sweep=1")
        page.get_by_label("Data set").select_option("shapes")
        page.get_by_label("Seeds", exact=True).fill("1, 2")
        page.get_by_label("Values to compare").fill("training.minutes = 45, 60")
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_text("Expected to take 3 h 30 min, one after another (4)")).to_be_visible()
        page.get_by_role("button", name="Cancel its jobs").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel them").click()
        expect(rows.filter(has_text="cancelled")).to_have_count(4)
        expect(page.get_by_role("button", name="Cancel its jobs")).to_be_hidden()
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_role("dialog").get_by_role("listitem")).to_have_count(4)
        page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
        expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("3 succeeded")
        expect(page.get_by_role("row").filter(has_text="cancelled")).to_have_count(0)


def test_a_marked_job_is_not_deleted_and_another_one_is(
    browser: Browser, served: Service, module_database: Database
) -> None:
    job = submit(served, "marked")
    Trainer(module_database).whole_run(1.0)
    with opened(browser, served.url) as page:
        page.goto(f"/#/training/jobs/{job}")
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.get_by_text("its records stay, and nobody can delete it")).to_be_visible()
        page.goto("/#/service/storage")
        remove = page.get_by_role("button", name=f"Delete training job {job}", exact=True)
        remove.click()
        expect(page.get_by_role("dialog")).to_contain_text(f"train-jobs/{job} is marked to be kept")
        expect(page.get_by_role("button", name="Delete it")).to_have_count(0)
        page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
        page.goto(f"/#/training/jobs/{job}")
        page.get_by_role("button", name="Do not keep").click()
        expect(page.get_by_role("button", name="Keep", exact=True)).to_be_visible()
        page.goto("/#/service/storage")
        remove.click()
        page.get_by_role("button", name="Leave it as it is").click()
        remove.click()
        page.get_by_role("button", name="Delete it").click()
        expect(remove).to_have_count(0)
        expect(page.get_by_role("row").filter(has_text="marked")).to_be_visible()  # its model stays
        page.goto(f"/#/training/jobs/{job}")
        expect(page.get_by_text(f"there is no job {job}")).to_be_visible()


THOUSAND = """
INSERT INTO jobs (kind, status, model_name, dataset_id, configuration, total_images, images_done, finished_at)
SELECT 'train', CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END, 'model-' || n % 10, dataset_id,
       configuration, 1000, n, now()
FROM generate_series(1, 1000) AS n, (SELECT dataset_id, configuration FROM jobs WHERE id = :pattern) AS pattern
"""


def test_filters_find_one_of_a_thousand_jobs(browser: Browser, served: Service, module_database: Database) -> None:
    pattern = submit(served, "pattern")
    with module_database.session() as session:
        session.execute(text(THOUSAND), {"pattern": pattern})
        newest = session.scalar(text("SELECT max(id) FROM jobs"))
        assert newest is not None

    def numbers() -> list[int]:
        links = page.locator("table.jobs tbody th a")
        return [int(one.lstrip("#")) for one in links.all_inner_texts()]

    def wait_for(*expected: int) -> None:
        wait_until(lambda: numbers()[: len(expected)] == list(expected), f"jobs {expected}")
        assert len(numbers()) <= 50

    with opened(browser, served.url) as page:
        page.goto("/#/training/jobs")
        wait_for(newest, newest - 1)
        for pages in (1, 2, 3):
            tab_to(page, "Older →")
            page.keyboard.press("Enter")
            wait_for(newest - 50 * pages)
        page.get_by_role("link", name=f"#{newest - 150}").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"Job {newest - 150}")
        page.go_back()
        wait_for(newest - 150)  # the address names the page
        page.get_by_role("button", name="Newest").click()
        wait_for(newest)

        page.get_by_label("State").select_option("failed")
        wait_for(*[number for number in range(newest, newest - 1000, -1) if (newest - number) % 100 == 0])
        page.get_by_label("Model").fill("model-7")
        expect(page.get_by_text("No such job")).to_be_visible()
        page.get_by_label("State").select_option("")
        wait_for(newest - 3, newest - 13)
        page.reload()
        wait_for(newest - 3, newest - 13)
        page.get_by_label("Model").fill("Not A Name")
        expect(page.get_by_label("Model")).to_have_attribute("aria-invalid", "true")

        page.get_by_label("Job number").fill(str(newest - 700))
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"Job {newest - 700}")

        page.set_viewport_size(PHONE)  # number, model, state and progress fit beside and below each other
        page.goto("/#/training/jobs")
        wait_for(newest)
        assert page.get_by_role("region", name="Jobs").evaluate("it => it.scrollWidth - it.clientWidth") == 0
        first = page.locator("table.jobs tbody tr").first
        number, model, state, progress = (first.locator(":is(th, td)").nth(place) for place in range(4))
        boxes = [one.bounding_box() for one in (number, model, state, progress)]
        assert len({round(box["y"]) for box in boxes[:3] if box}) == 1
        assert all(box and 0 <= box["x"] < box["x"] + box["width"] <= PHONE["width"] for box in boxes)


def test_a_job_is_started_by_keyboard_alone(browser: Browser, served: Service, module_database: Database) -> None:
    see_measured(module_database, "measured")
    with opened(browser, served.url) as page:
        page.goto("/#/training/jobs")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        tab_to(page, "Training")
        tab_to(page, "New job")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Data set", exact=True)).to_be_visible()
        assert page.evaluate("document.activeElement.tagName") == "H1"
        tab_to(page, "Data set")
        page.keyboard.type("shapes")
        tab_to(page, "Minutes")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text("shapes")
        tab_to(page, "Cancel")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        tab_to(page, "Cancel the job")
        page.keyboard.press("Enter")
        expect(page.locator(".page-head .badge")).to_have_text("cancelled")
        assert page.evaluate("document.activeElement.innerText") == "Resume"


def test_a_folder_dropped_on_any_page_leads_to_its_training(
    browser: Browser, served: Service, tmp_path: Path, module_database: Database
) -> None:
    see_measured(module_database, "measured")
    folder = tmp_path / "mixed"
    with zipfile.ZipFile(io.BytesIO(archive(("a", "b"), side=40))) as pictures:
        pictures.extractall(folder)
    with opened(browser, served.url) as page:
        page.goto("/#/models")
        expect(page.get_by_role("heading", level=1)).to_have_text("Models")
        drop(page, folder)
        expect(page.get_by_label("Name", exact=True)).to_have_value("mixed")
        page.get_by_role("button", name="Register and train").click()
        expect(page.get_by_label("Data set", exact=True)).to_have_value("mixed")
        expect(page.get_by_text("images in 45 minutes")).to_be_visible()


def test_a_refused_plan_is_asked_for_again_when_the_service_expects_it(
    browser: Browser, served: Service, module_database: Database
) -> None:
    see_measured(module_database, "measured")
    with opened(browser, served.url) as page:
        page.goto("/#/training/new?dataset=shapes")
        expect(page.get_by_text("images in 45 minutes")).to_be_visible()
        answers = Answers(page)
        answers.refuse(503, Retry_After="2")
        page.get_by_label("Minutes").fill("90")
        expect(page.get_by_text("Then this page tries again.")).to_be_visible()
        answers.through()
        expect(page.get_by_text("images in 90 minutes")).to_be_visible()


def test_a_plan_is_shown_before_it_is_started(browser: Browser, served: Service, module_database: Database) -> None:
    see_measured(module_database, "measured")
    with opened(browser, served.url) as page:
        page.goto("/#/training/datasets")
        card(page, "shapes").get_by_role("link", name="Train on it").click()
        expect(page.get_by_text("images in 45 minutes")).to_contain_text("Started now, it ends at about")
        expect(page.get_by_text("these classes have few pictures")).to_be_visible()
        page.get_by_label("Minutes").fill("90")
        expect(page.get_by_text("images in 90 minutes")).to_be_visible()
        page.get_by_text("Every choice and its reason").click()
        choices = page.get_by_role("region", name="Choices of the plan")
        expect(choices.get_by_role("row").filter(has_text="training.minutes")).to_contain_text("90")
        page.locator("summary").filter(has_text="Change").click()
        told = served.client.get("/v1/plan", params={"dataset": "shapes", "minutes": 90}).json()
        planned = str(told["recipe"]["training"]["batch_size"])
        expect(page.get_by_label("Batch size")).to_have_attribute("placeholder", planned)
        page.get_by_label("Minutes").fill("2000")
        page.get_by_label("Batch size").fill("32")
        page.get_by_role("button", name="Start training").click()
        longer = page.get_by_label("More than a day")
        expect(longer).to_have_attribute("aria-invalid", "true")
        longer.select_option("yes")
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("shapes")
        expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
        expect(page.get_by_text("33 h 20 min")).to_be_visible()
        expect(page.get_by_text("The first checkpoint is stored after about 2 h 5 min.")).to_be_visible()
        newest = served.client.get("/v1/train-jobs", params={"limit": 1}).json()["jobs"][0]
        training = served.client.get(newest["links"]["self"]).json()["configuration"]["recipe"]["training"]
        assert (training["minutes"], training["batch_size"], newest["promote"]) == (2000.0, 32, "best")
        served.client.post(f"{newest['links']['self']}/cancel")


def test_a_data_set_is_marked_to_be_kept(browser: Browser, served: Service) -> None:
    with opened(browser, served.url) as page:
        page.goto("/#/training/datasets/shapes")
        assert_marked(page, served, "/v1/datasets/shapes")


def test_a_job_is_continued_with_its_own_recipe(browser: Browser, served: Service, module_database: Database) -> None:
    first = submit(served, "continued-model", 1000, priority=50)  # before what other tests left
    worker = Trainer(module_database)
    worker.save(500)
    worker.end()
    with opened(browser, served.url) as page:
        page.goto("/#/training/new?dataset=shapes")
        page.locator("summary").filter(has_text="Change").click()
        page.locator("summary").filter(has_text="More").click()
        page.get_by_label("Continue job").fill(str(first))
        page.keyboard.press("Tab")
        expect(page.get_by_label("Minutes")).to_be_hidden()
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("continued-model")
    newest = served.client.get("/v1/train-jobs", params={"limit": 1}).json()["jobs"][0]
    assert served.client.get(newest["links"]["self"]).json()["configuration"]["start"]["job_id"] == first
    served.client.post(f"{newest['links']['self']}/cancel")


def test_a_job_that_promoted_its_best_version_leads_to_images_of_it(
    browser: Browser, served: Service, module_database: Database
) -> None:
    job = submit(served, "promoted-model", promote="best", priority=50)  # before what other tests left
    worker = Trainer(module_database)
    worker.save(500, fid_x=4.0)
    worker.end(succeed_training)
    with opened(browser, served.url) as page:
        page.goto(f"/#/training/jobs/{job}")
        expect(page.get_by_text("Version 1 was promoted", exact=True)).to_be_visible()
        page.get_by_role("link", name="Generate from it").click()
        expect(page.get_by_label("Model", exact=True)).to_have_value("promoted-model")
        expect(page.get_by_label("Version", exact=True)).to_have_value("1")
        expect(page.locator(".run").first.locator(".tile-open:not([disabled])")).to_have_count(8)  # two classes
        page.reload()
        expect(page.get_by_role("button", name="Generate", exact=True)).to_be_enabled()
        expect(page.locator(".run")).to_have_count(1)  # a reload draws nothing more


def test_a_broken_stream_continues_and_a_refused_action_says_why(
    browser: Browser, served: Service, module_database: Database
) -> None:
    waiting = [one["id"] for one in served.client.get("/v1/train-jobs", params={"status": "queued"}).json()["jobs"]]
    for one in waiting:
        served.client.post(f"/v1/train-jobs/{one}/cancel")
    job = submit(served, "cut-off")
    with opened(browser, served.url) as page:
        answers = Answers(page)
        page.goto(f"/#/training/jobs/{job}")
        status = page.locator(".page-head .badge")
        expect(status).to_have_text("queued")
        answers.refuse(409)
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role("alert").get_by_text("That is not possible now")).to_be_visible()
        answers.through()
        page.goto("about:blank")
        answers.fail()
        page.goto(f"/#/training/jobs/{job}")
        expect(page.locator("#connection")).to_contain_text("cannot be reached")
        worker = Trainer(module_database)
        worker.train(100)
        worker.end(stop)
        answers.through()
        expect(page.get_by_text("100 of 500 images")).to_be_visible()
        expect(page.get_by_role("list", name="Events, newest first")).to_contain_text("queued: the worker was stopped")
