"""Laws of the comparison of servers: what is measured is not measured again, and the page has all rounds together."""

import argparse
import ast
import base64
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import darkroom
from bench.scheduling import MIX, SIZES, arrivals
from bench.serving.__main__ import Results, in_turn, measure, suited
from bench.serving.contenders import DARKROOM, REQUIREMENTS, Contender
from bench.serving.drawing import SETTINGS, WEIGHTS, Model, Row, hosted
from bench.serving.report import (
    COMPARED,
    THROUGHPUT,
    TIMES,
    alone,
    comparison_table,
    loads,
    missed,
    page,
    picture,
    pooled,
)
from darkroom.model.machine import threads
from tests.app.served import weights_folder

WHERE = {"machine": "a machine, 2 cores", "code": "1234567", "weights": "sha256:89", "length of a load": "5 s"}
OURS, THEIRS, OTHERS = f"{DARKROOM}, 1x2", "Peer, 1x2", "Other, 2x1"


def _load(contender: str, number: int, each: float, length: float = 10.0) -> dict[str, Any]:
    """Return a record in which every kind of request took `each`, and one small request was refused."""
    answered = [*([kind, 200, each, None] for kind, *_ in MIX), ["small", 429, 0.001, 3.0]]
    return WHERE | {"contender": contender, "round": number, "rate": 2.0, "answered": answered, "seconds": length}


def test_arrivals_are_those_of_the_seed_and_have_the_rate_and_the_shares() -> None:
    planned = list(arrivals(5.0, 400.0, 3))
    assert planned == list(arrivals(5.0, 400.0, 3)) != list(arrivals(5.0, 400.0, 4))
    times = [time for time, _ in planned]
    assert times == sorted(times)
    assert 0.0 < times[0] < times[-1] < 400.0
    assert len(planned) == pytest.approx(2000, rel=0.1)
    for kind, *_, share in MIX:
        assert sum(one == kind for _, one in planned) / len(planned) == pytest.approx(share, abs=0.03)


def test_figures_are_of_the_answered_requests_of_all_rounds_together() -> None:
    records = [_load(OURS, number, each, 5.0 * each) for number, each in enumerate((1.0, 4.0, 2.0))]
    load = pooled(records)
    assert TIMES["small", "p50"].value(load) == 2.0
    assert TIMES["small", "p99"].value(load) == TIMES["large", "max"].value(load) == 4.0
    assert THROUGHPUT.value(load) == 3 * sum(images * steps for images, steps in SIZES.values()) / 35.0
    assert missed(records) == "3 of 12"


def test_a_server_goes_on_in_the_arrangement_that_drew_most_under_the_highest_load_of_the_first_round() -> None:
    other = THEIRS.replace("1x2", "2x1")
    low = [_load(who, 0, 1.0, length) | {"rate": 1.0} for who, length in ((THEIRS, 1.0), (other, 9.0))]
    high = [_load(who, 0, 1.0, length) for who, length in ((OURS, 5.0), (THEIRS, 20.0), (other, 10.0))]
    later = [_load(THEIRS, 1, 1.0, 1.0)]
    assert suited([*low, *high, *later], 2.0) == {OURS, other}


def _answered(load: dict[str, Any]) -> dict[str, Any]:
    return load | {"answered": [one for one in load["answered"] if one[1] == 200]}


def _cells(records: list[dict[str, Any]]) -> list[str]:
    return [cell.strip() for cell in comparison_table(loads(records)).splitlines()[-1].strip("|").split("|")]


def test_darkroom_is_compared_with_the_peer_that_is_best_in_each_figure() -> None:
    records = [_answered(one) for one in (_load(OURS, 0, 1.0), _load(THEIRS, 0, 4.0), _load(OTHERS, 0, 8.0, 5.0))]
    assert _cells(records) == ["2", *["0.25 (Peer, 1x2)"] * (len(COMPARED) - 1), "0.50 (Other, 2x1)"]


def test_an_arrangement_of_fewer_rounds_decides_no_ratio() -> None:
    dropped = THEIRS.replace("1x2", "2x1")
    of_two_rounds = [_load(who, number, each) for who, each in ((OURS, 1.0), (THEIRS, 4.0)) for number in (0, 1)]
    records = [_answered(one) for one in (*of_two_rounds, _load(dropped, 0, 0.5, 5.0))]
    assert _cells(records) == ["2", *["0.25 (Peer, 1x2)"] * (len(COMPARED) - 1), "1.00 (Peer, 1x2)"]


def test_a_ratio_says_what_the_two_did_not_answer() -> None:
    records = [_load(OURS, 0, 1.0), _answered(_load(THEIRS, 0, 4.0))]
    assert _cells(records)[1] == f"0.25 ({THEIRS}); not answered: 1 of 4 ({DARKROOM}), 0 of 3 ({THEIRS})"


def test_a_peer_that_answered_none_of_a_kind_decides_no_ratio_of_it() -> None:
    silent = _load(OTHERS, 0, 1.0) | {"answered": [["small", 503, 0.001, None]]}
    records = [silent, *(_answered(_load(who, 0, each)) for who, each in ((OURS, 1.0), (THEIRS, 4.0)))]
    assert _cells(records)[1] == "0.25 (Peer, 1x2)"


def test_each_round_begins_with_another_server() -> None:
    running = [Contender(server, 1, 2) for server in (DARKROOM, "A", "B")]
    orders = [[one.server for one in in_turn(running, number)] for number in range(4)]
    assert orders == [[DARKROOM, "A", "B"], ["A", "B", DARKROOM], ["B", DARKROOM, "A"], [DARKROOM, "A", "B"]]


def test_the_page_has_every_server_and_its_refusals_and_the_picture_can_be_drawn() -> None:
    lonely = WHERE | {"contender": OURS, "round": 0, "images": 4, "steps": 10, "alone": [0.5, 0.1, 0.2]}
    records = [_load(OURS, 0, 1.0), _load(THEIRS, 0, 4.0), lonely]
    text = page(records, "shown.png")
    assert "| 2 | Peer, 1x2 | 1 | 1 / 1 / 1 | 4.00 / 4.00 / 4.00 |" in text
    assert "| 1 of 4 |" in text
    assert "Machine: a machine, 2 cores. Code: 1234567. Weights: sha256:89. Length of a load: 5 s." in text
    assert "](shown.png)" in text
    assert alone(records) == {OURS: {4: 200.0}}
    with Image.open(BytesIO(picture(loads(records), alone(records)))) as image:
        assert image.format == "PNG"


def test_a_peer_draws_the_librarys_images_for_several_requests_in_one_batch(tmp_path: Path) -> None:
    weights = weights_folder(tmp_path) / "tiny.safetensors"
    asked = [(1, 7, 3, 2), (0, 8, 5, 1)]
    requests = [
        [Row(label=label, seed=seed, index=index, steps=steps) for index in range(images)]
        for label, seed, steps, images in asked
    ]
    model = darkroom.load(weights, device="cpu")
    for (label, seed, steps, images), found in zip(asked, Model(weights).draw_each(requests), strict=True):
        drawn = [np.asarray(Image.open(BytesIO(base64.b64decode(one))), dtype=int) for one in found]
        expected = model.generate(label, n=images, seed=seed, steps=steps, **SETTINGS).pixels
        np.testing.assert_array_equal(np.stack(drawn).reshape(expected.shape), expected)


def test_a_peer_arranges_its_threads_as_darkroom_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS, str(weights_folder(tmp_path) / "tiny.safetensors"))
    threads.network_threads.cache_clear()
    torch.set_num_threads(2)
    try:
        hosted()
        assert threads.network_threads() == 2
        assert torch.get_num_threads() == 1
        with ThreadPoolExecutor(1) as others:
            assert others.submit(torch.get_num_threads).result() == 1
    finally:
        torch.set_num_threads(1)
        threads.network_threads.cache_clear()


class _Started(Exception):
    """The server would start."""


class _Untouched(Contender):
    def serving(self, weights: Path, environment: Path, log: Path) -> AbstractContextManager[httpx.Client]:
        raise _Started


def test_a_measurement_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    contender, path = _Untouched(DARKROOM, 1, 2), tmp_path / "out" / "measurements.jsonl"
    arguments = argparse.Namespace(weights=tmp_path, environment=tmp_path, rates=[2.0], seconds=5.0)
    results = Results(path, WHERE)
    for images in (1, 4, 16, 32):
        results.add({"contender": contender.name, "round": 0, "images": images, "steps": 10}, {"alone": [0.1]})
    with pytest.raises(_Started):
        measure(contender, 0, arguments, results)
    name = {"contender": contender.name, "round": 0, "rate": 2.0}
    results.add(name, {"answered": [], "seconds": 5.0})
    again = Results(path, WHERE)
    assert again.records == results.records
    measure(contender, 0, arguments, again)
    with pytest.raises(_Started):
        measure(contender, 0, argparse.Namespace(**vars(arguments) | {"rates": [3.0]}), again)
    with pytest.raises(_Started):
        measure(contender, 1, arguments, again)


@pytest.mark.parametrize("other", WHERE)
def test_measurements_of_other_conditions_are_neither_used_nor_shown(tmp_path: Path, other: str) -> None:
    name = {"contender": OURS, "round": 0, "rate": 2.0}
    Results(tmp_path / "all", WHERE | {other: "another"}).add(name, {"answered": [], "seconds": 5.0})
    results = Results(tmp_path / "all", WHERE)
    assert not results.has(name)
    assert results.records == []


def test_the_peers_environment_has_what_their_programs_import() -> None:
    program = (
        "import sys, bench.serving.drawing; print(*(m.__file__ for m in sys.modules.values() if is_own(m)), sep='\\n')"
    )
    is_own = "is_own = lambda m: m.__name__.split('.')[0] in ('bench', 'darkroom') and getattr(m, '__file__', None)"
    command = [sys.executable, "-c", f"{is_own}\n{program}"]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    origins = packages_distributions()
    imported = {
        canonicalize_name(one) for file in files for module in _imports(Path(file)) for one in origins.get(module, ())
    }
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert imported - _with_dependencies(lines) <= {"darkroom"}


def _imports(file: Path) -> Iterator[str]:
    """Yield the packages that a module imports when it is imported itself."""
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            yield from (one.name.partition(".")[0] for one in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module.partition(".")[0]


def _with_dependencies(requirements: list[str]) -> set[str]:
    """Return the distributions that pip installs for these, as far as they are installed here."""
    found: set[str] = set()
    while requirements:
        wanted = Requirement(requirements.pop())
        name = canonicalize_name(wanted.name)
        if name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found.add(name)
            with suppress(PackageNotFoundError):
                requirements += requires(name) or []
    return found
