"""Laws of refusals for lack of room or time: they come before rows are made, planned or charged to a key."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import darkroom.app.engine.phases
from darkroom.app.access.caller import Caller
from darkroom.app.access.gate import Gate
from darkroom.app.access.limits import IMAGES, Window
from darkroom.app.engine.request import RowRequest
from tests.app.served import Json, serving_slowly
from tests.app.test_refusals import assert_problem
from tests.processes import wait_until

REFUSED: tuple[tuple[str, Json, int], ...] = (
    ("/generate", {"class": 0, "n": 2}, 429),
    ("/generate", {"class": [0, 1], "n": 1, "stream": True}, 429),
    ("/generate", {"class": 0, "n": 1, "best_of": 2}, 429),
    ("/generate", {"class": 0, "n": 2, "deadline_seconds": 3600}, 429),
    ("/v1/interpolate", {"class": 0, "seeds": [1, 2], "count": 2}, 429),
    ("/generate", {"class": 0, "n": 7}, 422),
    ("/generate", {"class": 0, "deadline_seconds": 1e-6}, 503),
    ("/generate", {"class": 0, "steps": 500, "deadline_seconds": 1e-6}, 503),
)


def test_a_refusal_makes_plans_and_charges_no_row(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def counting(name: str, function: Any) -> Any:
        def counted(*arguments: Any, **settings: Any) -> Any:
            done.append(name)
            return function(*arguments, **settings)

        return counted

    charge = Gate.charge

    async def charging(gate: Gate, caller: Caller, costs: Mapping[Window, int]) -> None:
        if IMAGES in costs:
            done.append("charged")
        await charge(gate, caller, costs)

    monkeypatch.setattr(RowRequest, "__init__", counting("made", RowRequest.__init__))
    monkeypatch.setattr(
        darkroom.app.engine.phases, "plan_row", counting("planned", darkroom.app.engine.phases.plan_row)
    )
    monkeypatch.setattr(Gate, "charge", charging)
    with ThreadPoolExecutor(2) as pool, serving_slowly(weights, default_model="tiny", queue_rows=6) as (service, pace):
        pace.open.clear()
        held = pool.submit(service.generate, n=5)
        wait_until(lambda: service.rows() == 5, "the engine holds five rows")
        assert sorted(done) == ["charged", *["made"] * 5, *["planned"] * 5]
        done.clear()
        for path, body, status in REFUSED:
            assert_problem(service.client.post(path, json=body), status)
            assert not done, body
        last = pool.submit(service.generate, n=1)
        wait_until(lambda: service.rows() == 6, "the queue is full")
        done.clear()
        for path in ("/generate", "/v1/generate", "/v1/interpolate"):  # refused before its body is parsed
            answer = service.client.post(path, content=b"{", headers={"Content-Type": "application/json"})
            assert_problem(answer, 429)
            assert "connection" not in answer.headers, "the client can try again on the same connection"
            assert int(answer.headers["retry-after"]) >= 1
        assert not done
        pace.open.set()
        assert len(held.result()["images"]) == 5
        assert len(last.result()["images"]) == 1
        answer = service.client.post("/generate", content=b"{", headers={"Content-Type": "application/json"})
        assert_problem(answer, 400)
