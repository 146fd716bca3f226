"""No body causes a server error, and every refusal is a problem (RFC 9457)."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.served import Service

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLASSES = st.sampled_from([0, 1, "one", "Größe", 4, "x"])
PLAUSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "class": CLASSES | st.lists(CLASSES, max_size=3),
    "n": st.integers(-1, 3),
    "seed": st.integers(-1, 2**64),
    "guidance": st.floats(-1, 101),
    "steps": st.integers(0, 6),
    "guidance_interval": st.lists(st.floats(-1, 100), max_size=3),
    "guide": st.sampled_from(["unconditional", "snapshot", "x"]),
    "spacing": st.sampled_from(["trailing", "log_snr", "edm", "edm_coarse", "x"]),
    "sampler": st.sampled_from(["ddpm", "ddim", "dpmpp_3m", "unipc", "ipndm", "x"]),
    "threshold": st.sampled_from(["none", "static", "dynamic", "x"]),
    "percentile": st.floats(0, 1),
    "eta": st.floats(0, 1),
    "variance": st.sampled_from(["beta", "beta_tilde"]),
    "model": st.sampled_from(["tiny", "other", "tiny@1", "tiny@production"]) | st.text(max_size=8),
    "format": st.sampled_from(["png", "webp", "zip", "npz", "json"]),
    "stream": st.booleans(),
    "grid": st.booleans(),
    "preview_every_steps": st.integers(0, 4),
}
# Few steps and images, so that an accepted request is fast.
BODIES = st.fixed_dictionaries(
    {"steps": PLAUSIBLE["steps"], "n": PLAUSIBLE["n"]},
    optional={name: strategy | JSON for name, strategy in PLAUSIBLE.items() if name not in ("steps", "n")},
)


def _check(service: Service, path: str, body: Any) -> None:
    answer = service.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.text)["status"] == answer.status_code
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert "event: done" in answer.text


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(BODIES)
def test_generate(service: Service, body: dict[str, Any]) -> None:
    _check(service, "/generate", body)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(JSON)
def test_anything(service: Service, body: Any) -> None:
    for path in ("/generate", "/v1/interpolate"):
        _check(service, path, body)
