"""Laws of the dashboard: Grafana can load it, and its queries name existing Prometheus metrics."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
WIDTH = 24
"""Width of Grafana's grid, in its units."""


def _dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "darkroom.json").read_text(encoding="utf-8"))
    return found


def _data_source() -> dict[str, Any]:
    file = GRAFANA / "provisioning" / "datasources" / "prometheus.yml"
    (found,) = yaml.safe_load(file.read_text(encoding="utf-8"))["datasources"]
    source: dict[str, Any] = found
    return source


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )


def test_panels_lie_side_by_side_and_have_numbers_of_their_own() -> None:
    panels = _dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= WIDTH for place in places)
    assert not [pair for pair in combinations(places, 2) if _overlap(*pair)]


def test_every_panel_asks_the_provisioned_data_source() -> None:
    source = _data_source()
    for panel in _dashboard()["panels"]:
        if panel["type"] != "row":
            asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert {(one["type"], one["uid"]) for one in asked} == {(source["type"], source["uid"])}, panel["title"]


def test_queries_name_documented_metrics_only() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE))
    documented |= {f"{name}_{part}" for name in documented for part in ("bucket", "sum", "count")}
    for panel in _dashboard()["panels"]:
        for target in panel.get("targets", []):
            assert set(re.findall(r"\b(?:darkroom|process)_\w+", target["expr"])) <= documented, panel["title"]
