"""Laws of the page Service: it shows what Prometheus reads, as soon as it happens."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, expect

from darkroom.app.console.pages import FOLDER
from darkroom.store.database import Database
from tests.app.console.browser import PHONE, opened, overflow
from tests.app.console.stock import Trainer, submit, upload
from tests.app.served import Service, serving_slowly, weights_folder
from tests.processes import PATIENCE_SECONDS, wait_until

expect.set_options(timeout=1000 * PATIENCE_SECONDS)

SOURCE = Path(str(FOLDER)) / "src" / "service" / "page.js"


def light(page: Page, name: str) -> Locator:
    return page.locator(".light").filter(has=page.get_by_role("term").filter(has_text=re.compile(f"^{name}$")))


def refuse_one(service: Service) -> None:
    answer = service.client.post("/v1/generate", json={"class": "One", "n": 8})
    assert answer.status_code == 429, answer.text


def test_the_page_follows_the_service(browser: Browser, tmp_path: Path, database_url: str) -> None:
    folder, database = weights_folder(tmp_path / "weights"), Database(database_url)
    with (
        serving_slowly(folder, database_url=database_url, queue_rows=8) as (service, pace),
        opened(browser, service.url) as page,
        ThreadPoolExecutor(1) as pool,
    ):
        upload(service)
        submit(service, "done")
        submit(service, "waits")
        Trainer(database).whole_run(1.0)
        page.goto("/#/service")
        expect(light(page, "Service")).to_contain_text("ready")
        expect(light(page, "Workers alive")).to_contain_text("1 cpu")
        expect(light(page, "Oldest waiting job")).to_contain_text("since it could start")
        expect(page.get_by_role("region", name="Unfinished jobs")).to_contain_text("queued")
        expect(page.get_by_role("region", name="Ended jobs")).to_contain_text("succeeded")
        expect(page.get_by_role("region", name="Refused sampling requests")).to_contain_text("None was refused.")
        expect(light(page, "Step")).to_contain_text("no steps lately")

        pace.open.clear()  # the engine is busy, its queue is full, and it refuses the next request
        request = pool.submit(service.generate, **{"class": [0, 1], "n": 4, "steps": 40})
        wait_until(lambda: service.rows() == 8, "the queue is full")
        for _ in range(3):
            refuse_one(service)
        expect(light(page, "Open requests")).to_contain_text("1")
        expect(light(page, "Refusals")).to_contain_text("3")
        refused = page.get_by_role("region", name="Refused sampling requests").locator("tbody tr")
        expect(refused).to_have_text(re.compile("queue.*3$"))
        pace.seconds = 0.2
        pace.open.set()
        expect(light(page, "Step")).to_contain_text("ms")
        for title in ("Rows in the engine", "Time of a step", "Batch occupancy", "Row steps"):
            expect(page.get_by_role("img", name=re.compile(f"^{title}, \\d+ values"))).to_be_visible()
        occupancy = page.locator("figure").filter(has_text="Batch occupancy")
        occupancy.get_by_text("As a table").click()
        share = occupancy.locator("tbody td").nth(1)
        assert 0 < float(share.inner_text()) <= 100
        pace.seconds = 0.0
        request.result()
        expect(light(page, "Open requests")).to_contain_text("0 rows wait, 0 run")
        page.set_viewport_size(PHONE)
        assert overflow(page) == 0
        scraped = service.client.get("/metrics").text
    database.dispose()
    read = set(re.findall(r'"(darkroom_\w+)"', SOURCE.read_text(encoding="utf-8")))
    assert len(read) > 10
    for name in read:  # the page would show a metric of another name as 0
        assert re.search(rf"^{name}(_count)?[ {{]", scraped, re.MULTILINE), name
