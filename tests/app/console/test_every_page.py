"""Laws of all pages: accessible in both themes and on a telephone, with clear texts for errors and empty lists."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.database import Database
from tests.app.console.answers import Answers
from tests.app.console.browser import DESKTOP, PHONE, Theme, accessibility_faults, opened, overflow
from tests.app.console.stock import DATASET, SCRIPTS, Trainer, post, submit, upload
from tests.app.served import Service, serving, weights_folder
from tests.app.training import broken
from tests.fixtures.postgres import private_database
from tests.processes import PATIENCE_SECONDS, wait_until

expect.set_options(timeout=1000 * PATIENCE_SECONDS)


@dataclass(frozen=True)
class Shown:
    """A page. text: shown when the page is ready; empty: shown when there is nothing to list."""

    address: str
    heading: str
    text: str
    empty: str | None = None

    def open(self, page: Page) -> None:
        page.goto("about:blank")  # so that the next address loads a new page
        page.goto(f"/#{self.address}")

    def expect(self, page: Page) -> None:
        expect(page.get_by_role("heading", level=1)).to_contain_text(self.heading)
        expect(page.locator("main").get_by_text(self.text).first).to_be_visible()


GENERATE = Shown("/generate?model=tiny", "Generate", "T-shirt/top", "No model yet")
PAGES = [
    Shown("/training/jobs", "Training jobs", "Jobs 1 to 8", "No training job yet"),
    Shown("/training/jobs/1", "Job 1", "version 3"),
    Shown("/training/new", "New training job", "Darkroom makes the recipe from the data set"),
    Shown("/training/datasets", "Data sets", "8×8, grey", "No data set yet"),
    Shown("/training/datasets/shapes", "shapes", "1 to 3 of 3"),
    Shown("/training/sweeps", "Sweeps", "optimizer.learning_rate", "No sweep yet"),
    Shown("/training/sweeps/1", "Sweep 1", "fid-x by optimizer.learning_rate"),
    Shown("/models", "Models", "3 versions · production is version 2", "No model yet"),
    Shown("/models/trained", "trained", "Compare figures only where their protocol is equal."),
    Shown("/service", "Service", "a model is loaded and warm", "no model is loaded and warm"),
    Shown("/service/storage", "Storage", "Training job", "Nothing is stored yet"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    """A service with at least one thing of each kind."""
    folder = weights_folder(tmp_path_factory.mktemp("weights"))
    database = Database(module_database_url)
    with serving(folder, database_url=module_database_url) as service:
        upload(service)
        upload(service, DATASET, SCRIPTS[:4])
        submit(service, "trained")
        Trainer(database).whole_run(9.0, 4.0, 5.0)
        submit(service, "failing", dataset=DATASET)
        Trainer(database).end(broken)
        cancelled = submit(service, "cancelled")
        post(service, f"/v1/train-jobs/{cancelled}/cancel")
        submit(service, "running")
        grid = {"optimizer.learning_rate": [1e-3, 2e-3], "model.unet.width": [16, 32]}
        body = {"recipe": "digits", "dataset": "shapes", "model": "try", "grid": grid}
        post(service, "/v1/sweeps", name=f"Größe {SCRIPTS[0]} {DATASET}", **body)
        running = Trainer(database)
        running.train(300, loss=0.3)
        running.draw(250)
        for distance in (7.0, 5.0):
            Trainer(database).whole_run(distance)
        service.client.put("/v1/models/trained/alias/production", json={"version": 2})
        wait_until(
            lambda: 'workers_alive{device="cpu"} 1.0' in service.client.get("/metrics").text,
            "statistics read",
        )
        yield service
    database.dispose()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible(browser: Browser, served: Service, theme: Theme) -> None:
    with opened(browser, served.url, viewport=DESKTOP, theme=theme) as page:
        faults: list[str] = []
        for shown in [GENERATE, *PAGES]:
            page.set_viewport_size(DESKTOP)
            shown.open(page)
            shown.expect(page)
            wait_until(lambda: page.locator(".is-waiting").count() == 0, "all pictures are loaded")
            page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
            faults += [f"{shown.address}: {fault}" for fault in accessibility_faults(page)]
            page.set_viewport_size(PHONE)
            faults += [f"{shown.address}: {overflow(page)} pixels too wide"] if overflow(page) else []
        assert not faults, "\n".join(faults)
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) > 600, sum(ground) < 150) == (theme == "light", theme == "dark")


def test_a_chosen_theme_stays(browser: Browser, served: Service) -> None:
    with opened(browser, served.url, theme="dark") as page:
        page.goto("/#/models")
        page.get_by_role("button", name="Use the light theme").click()
        page.reload()
        expect(page.get_by_role("button", name="Use the dark theme")).to_be_visible()
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


@pytest.mark.parametrize("shown", PAGES, ids=[shown.address for shown in PAGES])
def test_a_page_explains_an_error(browser: Browser, served: Service, shown: Shown) -> None:
    with opened(browser, served.url, viewport=PHONE) as page:
        page.clock.install()
        answers = Answers(page)
        main = page.locator("main")
        again = main.get_by_role("button", name="Try again")
        answers.hold()
        shown.open(page)
        expect(main.locator(".loading")).to_be_visible()

        answers.refuse(500)
        expect(main.get_by_text("The service made an error")).to_be_visible()
        expect(main.get_by_text("request-7")).to_be_visible()
        assert accessibility_faults(page) == []
        assert overflow(page) == 0

        answers.refuse(429, Retry_After="7")
        again.click()
        expect(main.get_by_text("The service is busy")).to_be_visible()
        expect(main.get_by_text("The service asks you to wait")).to_be_visible()
        expect(again).to_be_disabled()
        page.clock.run_for(4500)  # a page that refreshes itself has asked once more, and was refused
        page.evaluate("fetch('/docs')")  # all requests before this one are counted
        before = answers.asked
        page.clock.run_for(2000)
        page.evaluate("fetch('/docs')")
        assert answers.asked == before
        answers.refuse(403, WWW_Authenticate='Bearer realm="darkroom", error="insufficient_scope", scope="train admin"')
        page.clock.run_for(1000)
        again.click()
        expect(main.get_by_text("This key lacks the scope train or admin.")).to_be_visible()

        answers.refuse(401, WWW_Authenticate='Bearer realm="darkroom"')
        again.click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("answers only requests with an API key")).to_be_visible()
        page.keyboard.press("Escape")
        expect(main.get_by_text("A key is needed")).to_be_visible()
        before = answers.asked
        page.clock.run_for(20_000)
        page.evaluate("fetch('/docs')")
        assert (answers.asked, dialog.count()) == (before, 0)  # after declining, no dialog comes again
        again.click()
        dialog.get_by_label("API key").fill("dk_1234")
        page.keyboard.press("Enter")
        shown.expect(page)

        answers.fail()
        shown.open(page)
        expect(page.locator("#connection")).to_contain_text("cannot be reached")
        expect(main.get_by_text("This page continues by itself")).to_be_visible()
        answers.through()
        page.clock.run_for(3000)
        shown.expect(page)
        assert overflow(page) == 0


def test_an_empty_page_says_what_to_do(
    browser: Browser, postgres_server: PrivatePostgres, template_name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        private_database(postgres_server, template_name) as url,
        serving(tmp_path_factory.mktemp("nothing"), wait_until_ready=False, database_url=url) as service,
        opened(browser, service.url, viewport=PHONE) as page,
    ):
        for shown in [GENERATE, *PAGES]:
            if shown.empty is None:
                continue
            shown.open(page)
            expect(page.locator("main").get_by_text(shown.empty)).to_be_visible()
            assert accessibility_faults(page) == [], shown.address
            assert overflow(page) == 0, shown.address
        for address, says in [("jobs/77", "no job 77"), ("sweeps/77", "no sweep 77")]:
            page.goto(f"/#/training/{address}")
            expect(page.get_by_role("alert").locator(".notice-title")).to_have_text("Not found")
            expect(page.get_by_role("alert").get_by_text(says)).to_be_visible()
        page.goto("/#/training/datasets/none")
        expect(page.get_by_role("alert").get_by_text("no data set 'none'")).to_be_visible()
        page.goto("/#/models/none")
        expect(page.get_by_role("alert").get_by_text("'none'")).to_be_visible()
