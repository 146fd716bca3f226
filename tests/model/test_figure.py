"""A figure is a value with all facts that determine it, in memory and in files."""

import json
import math
from pathlib import Path

import pytest

from darkroom.model.checkpoint import decode_checkpoint, load_checkpoint, read_metadata
from darkroom.model.figure import Figure
from darkroom.model.metrics.frontier_measurement import with_evaluations
from darkroom.model.protocol import protocol_digest, protocol_string

SHIPPED = Path("weights/fashion-mnist.safetensors")


def test_what_the_drawing_adds_joins_the_protocol() -> None:
    told = Figure("fid-x", 2.5, {"extractor": "x"})
    whole = told.with_facts({"images": 4, "eta": None}, 1.5)
    assert whole == Figure("fid-x", 2.5, {"metric": "fid-x", "extractor": "x", "images": 4, "eta": None}, 1.5)
    assert whole.protocol_digest == protocol_digest(whole.protocol) != told.protocol_digest
    assert whole.protocol_string == protocol_string(whole.protocol) == "fid-x; extractor=x; images=4"
    assert whole.plain() == {
        "metric": "fid-x",
        "value": 2.5,
        "protocol": {"metric": "fid-x", "extractor": "x", "images": 4, "eta": None},
        "protocol_digest": whole.protocol_digest,
        "protocol_string": "fid-x; extractor=x; images=4",
        "seconds": 1.5,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_no_figure(value: float) -> None:
    with pytest.raises(ValueError, match=r"fid-x is -?(nan|inf)"):
        Figure("fid-x", value, {})


def test_the_shipped_file_gives_the_figures_that_stand_in_it() -> None:
    raw = json.loads(read_metadata(SHIPPED.read_bytes(), source="shipped")["darkroom"])
    found = load_checkpoint(SHIPPED).header.evaluations
    assert len(found) == 60
    assert [{"metric": one.metric, "value": one.value, "protocol": one.protocol} for one in found] == raw["evaluations"]
    assert {one.seconds for one in found} == {None}
    assert found[0].value == 606.5291466896788
    assert found[0].protocol_digest == "sha256:18a78f08823b45b7e065f47139565faed23ef44a5b160ce0087622285bc7a914"
    kinds = [{type(value) for value in one["protocol"].values()} for one in raw["evaluations"]]
    assert [{type(value) for value in one.protocol.values()} for one in found] == kinds, (
        "1 and 1.0 must give two protocols"
    )


def test_a_weights_file_holds_no_times_so_that_the_same_figures_are_the_same_bytes() -> None:
    shipped = load_checkpoint(SHIPPED)
    fast, slow = (Figure("fid-x", 2.5, {"images": 4}, seconds) for seconds in (1.0, 2.0))
    data = with_evaluations(shipped, [fast])
    assert data == with_evaluations(shipped, [slow])
    assert decode_checkpoint(data, source="again").header.evaluations[-1] == Figure("fid-x", 2.5, {"images": 4})
    assert with_evaluations(shipped, shipped.header.evaluations) == with_evaluations(shipped, ())
