"""Laws of docs/notebook.ipynb: its cells run, it shows its pictures, and they are of the shipped model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import darkroom

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
SMALLER = {
    "20_000": "128",
    "images=500": "images=20",
    "steps=20": "steps=2",
    "steps=100": "steps=5",
    "n=10": "n=1",
    "best_of=32": "best_of=8",
}
"""What makes the cells fast, by what stands in them."""


def _code_cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def _sources() -> list[str]:
    return ["".join(cell["source"]) for cell in _code_cells()]


def test_the_cells_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    whole = "\n".join(_sources())
    assert [text for text in SMALLER if text not in whole] == []
    for number, source in enumerate(_sources()):
        for text, smaller in SMALLER.items():
            source = source.replace(text, smaller)
        exec(compile(source, f"code cell {number}", "exec"), names)  # the repository's own file
    assert names["own"].header.images_seen == 128
    assert (tmp_path / "runs" / "digits" / "checkpoints").is_dir()


def test_it_was_run_in_order_and_shows_what_it_drew_and_measured() -> None:
    assert NOTEBOOK.stat().st_size < 400_000
    cells = _code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    assert all(output["output_type"] != "error" for cell in cells for output in cell["outputs"])
    shown = [output["data"] for cell in cells for output in cell["outputs"] if "data" in output]
    assert sum("image/png" in data for data in shown) == sum(
        bool(re.search(r"\.(generate|interpolate)\(", source)) for source in _sources()
    )
    assert "| fid-efficientnet-lite0 | " in "".join(shown[-1]["text/markdown"])


def test_its_pictures_are_of_the_shipped_model_and_what_it_prints_is_of_today() -> None:
    first = _code_cells()[0]
    (output,) = first["outputs"]
    assert "".join(output["data"]["text/plain"]) == repr(darkroom.load("fashion-mnist", device="cpu"))
