"""What the service answers, as a test wants it: late, refusing, broken or not at all."""

import json
import re
from collections.abc import Mapping

from playwright.sync_api import Page, Request, Route

INTERFACE = re.compile(r"/(v1/|metrics|readyz|healthz)")
"""What the pages ask for beside their own files."""


class Answers:
    """Between a page and the service; at first everything passes. asked: the number of requests."""

    def __init__(self, page: Page) -> None:
        self.asked = 0
        self._waiting: list[Route] = []
        self._way = "through"
        self._refusal: tuple[int, Mapping[str, str]] = (500, {})
        page.route(INTERFACE, self._answer)

    def through(self) -> None:
        """The service itself answers, also what was held until now."""
        self._way = "through"
        for route in self._waiting:
            self._pass(route)
        self._waiting.clear()

    def hold(self) -> None:
        """Nothing is answered yet."""
        self._way = "hold"

    def fail(self) -> None:
        """The service is not there."""
        self._way = "fail"

    def refuse(self, status: int, **headers: str) -> None:
        """Everything is answered with this problem, also what was held."""
        self._way = "refuse"
        self._refusal = (status, {name.replace("_", "-"): value for name, value in headers.items()})
        for route in self._waiting:
            self._refuse(route)
        self._waiting.clear()

    def _answer(self, route: Route, request: Request) -> None:
        self.asked += 1
        if self._way == "hold":
            self._waiting.append(route)
        elif self._way == "fail":
            route.abort("connectionrefused")
        elif self._way == "refuse" and "authorization" not in request.headers:
            self._refuse(route)
        else:
            self._pass(route)

    def _pass(self, route: Route) -> None:
        # the service behind has no keys, and refuses one that it does not know
        headers = {name: value for name, value in route.request.headers.items() if name != "authorization"}
        route.continue_(headers=headers)

    def _refuse(self, route: Route) -> None:
        status, headers = self._refusal
        body = json.dumps({"type": "urn:darkroom:refused", "title": "Refused", "status": status, "detail": "not now"})
        told = {"X-Request-ID": "request-7", **headers}
        route.fulfill(status=status, content_type="application/problem+json", body=body, headers=told)
