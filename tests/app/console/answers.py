"""Controls the answers that a page gets: late ones, refusals, or none at all."""

import json
import re
from collections.abc import Mapping

from playwright.sync_api import Page, Request, Route

INTERFACE = re.compile(r"/(v1/|metrics|readyz|healthz)")
"""Addresses that pages request in addition to their own files."""


class Answers:
    """Stands between a page and the service; at first everything passes. asked: number of requests."""

    def __init__(self, page: Page) -> None:
        self.asked = 0
        self._waiting: list[Route] = []
        self._way = "through"
        self._refusal: tuple[int, Mapping[str, str]] = (500, {})
        page.route(INTERFACE, self._answer)

    def through(self) -> None:
        """Let the service answer from now on, including held requests."""
        self._way = "through"
        for route in self._waiting:
            self._pass(route)
        self._waiting.clear()

    def hold(self) -> None:
        """Hold requests without an answer."""
        self._way = "hold"

    def fail(self) -> None:
        """Fail requests as if the service were away."""
        self._way = "fail"

    def refuse(self, status: int, **headers: str) -> None:
        """Answer every request with this problem, including held ones."""
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
        # the real service has no keys, and would refuse an unknown one
        headers = {name: value for name, value in route.request.headers.items() if name != "authorization"}
        route.continue_(headers=headers)

    def _refuse(self, route: Route) -> None:
        status, headers = self._refusal
        body = json.dumps({"type": "/docs/errors#refused", "title": "Refused", "status": status, "detail": "not now"})
        sent = {"X-Request-ID": "request-7", **headers}
        route.fulfill(status=status, content_type="application/problem+json", body=body, headers=sent)
