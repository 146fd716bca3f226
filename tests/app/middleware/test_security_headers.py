"""Laws of security headers: every answer has them, and only a setting lets pages of other origins call the API."""

import re
from pathlib import Path

import pytest

from tests.app.served import Service, serving

ORIGIN = "https://lab.example"


def test_every_answer_has_them(service: Service) -> None:
    answers = [
        service.client.get(path)
        for path in ("/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/healthz", "/v1/models", "/nothing")
    ]
    answers.append(service.client.post("/generate", json={"class": 0}))
    answers.append(service.client.post("/generate", json={}))
    answers.append(service.client.get("/v1/models", headers={"Host": "evil.example"}))
    assert {answer.status_code for answer in answers} == {200, 401, 404, 422, 503}
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in str(policy)
        assert "//" not in str(policy)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in answer.headers["permissions-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "strict-transport-security" not in answer.headers
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_answers_over_tls_have_strict_transport_security(service: Service) -> None:
    answer = service.client.get("/healthz", headers={"X-Forwarded-Proto": "https"})
    assert "max-age" in answer.headers["strict-transport-security"]


def test_the_documentation_obeys_the_content_security_policy(service: Service) -> None:
    page = service.client.get("/docs").text
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\son\w+=|style=", page)
    script = service.client.get("/docs/start.js")
    assert script.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_X", True), ("a" * 65, False), ("a b", False), ("ü", False), ("", False)]
)
def test_a_request_keeps_its_own_id_if_it_has_a_plain_form(service: Service, given: str, kept: bool) -> None:
    answer = service.client.get("/healthz", headers={"X-Request-ID": given.encode()})
    assert (answer.headers["x-request-id"] == given) is kept
    assert answer.headers["x-request-id"]


def _preflight(service: Service) -> dict[str, str]:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    headers["Access-Control-Request-Headers"] = "authorization,content-type"
    return dict(service.client.options("/v1/generate", headers=headers).headers)


def test_no_page_of_another_origin_may_call_the_api_by_default(service: Service) -> None:
    assert not [name for name in _preflight(service) if name.startswith("access-control")]
    answer = service.client.get("/healthz", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_only_pages_of_the_settings_origins_may_call_the_api(weights: Path) -> None:
    with serving(weights, default_model="tiny", cors_origins=f"{ORIGIN}, https://two.example") as service:
        allowed = _preflight(service)
        assert allowed["access-control-allow-origin"] == ORIGIN
        methods = {"GET", "POST", "PUT", "PATCH", "DELETE"}
        assert {one.strip() for one in allowed["access-control-allow-methods"].split(",")} == methods
        assert "authorization" in allowed["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in allowed
        body = {"class": 0, "steps": 1}
        answer = service.client.post("/generate", json=body, headers={"Origin": ORIGIN})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        other = service.client.post("/generate", json=body, headers={"Origin": "https://evil.example"})
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers
