"""Laws of the job protocol's model: every interleaving keeps the laws, and each rule of the protocol is needed."""

import re

import pytest

from tests.compose import ROOT
from tests.protocol.model import Broken, Edges, Rules, explore


def test_every_interleaving_keeps_the_laws_and_ends(edges: Edges) -> None:
    followed = sum(map(len, edges.values()))
    print(f"{len(edges):,} states, {followed:,} steps")
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert re.findall(r"([\d,]+) states and ([\d,]+) steps", page) == [(f"{len(edges):,}", f"{followed:,}")]


def test_the_model_meets_every_end_and_both_versions_in_production(edges: Edges) -> None:
    rows = [state.row for state in edges]
    assert {row.status for row in rows} == {
        *("none", "queued", "running", "cancelling"),
        *("succeeded", "failed", "cancelled"),
    }
    assert {row.production for row in rows} == {0, 1, 2}
    assert {row.first_kept for row in rows} == {True, False}
    assert any(worker.waits for state in edges for worker in state.workers)


@pytest.mark.parametrize(
    ("without", "law"),
    [
        (Rules(rescue_locks=False), "a job ends once"),
        (Rules(fenced=False), "nothing is written after the claim is over"),
        (Rules(looks=False), "an accepted job ends"),
        (Rules(kept_is_locked=False), "a promoted version is complete"),
    ],
)
def test_without_a_rule_a_law_breaks(without: Rules, law: str) -> None:
    with pytest.raises(Broken, match=law) as broken:
        explore(without)
    print(broken.value)
    assert broken.value.law == law
