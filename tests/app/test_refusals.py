"""Laws of refusals: problem details with the right status, which name the fault and the remedy."""

import gzip
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from darkroom.model.provenance import LARGEST_INDEX
from tests.app.served import CLASS_NAMES, Service, events_of, serving, serving_slowly
from tests.processes import wait_until

JSON = {"Content-Type": "application/json"}


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.text)
    assert problem["status"] == status
    assert problem["type"].startswith("/docs/errors#")
    assert problem["title"]
    assert problem["detail"]
    assert "Value error" not in answer.text
    return problem


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"class": "Cat"}, "/class", ", ".join(CLASS_NAMES)),
        ({"class": 4}, "/class", "0..3"),
        ({"class": -1}, "/class", "0..3"),
        ({"class": 2**70}, "/class", ""),
        ({"class": ["One", "Cat"]}, "/class/1", "Zero"),
        ({"class": ["One", None]}, "/class/1", ""),
        ({"class": [[0]]}, "/class/0", ""),
        ({"class": []}, "/class", "at least 1"),
        ({"class": None}, "/class", ""),
        ({"class": True}, "/class", ""),
        ({"class": 1.0}, "/class", ""),
        ({"class": {"a": 1}}, "/class", ""),
        ({"class": "\ud800"}, "/class", ""),
        ({"n": 0}, "/n", "greater than or equal to 1"),
        ({"n": 1_000_000}, "/n", "32"),
        ({"n": 33}, "/n", "32"),
        ({"class": list(range(4)), "n": 9}, "/n", "32"),
        ({"n": "3"}, "/n", "integer"),
        ({"n": True}, "/n", "integer"),
        ({"n": 2.5}, "/n", "integer"),
        ({"seed": -1}, "/seed", "0"),
        ({"seed": 2**63}, "/seed", ""),
        ({"seed": 2**80}, "/seed", ""),
        ({"seed": "1"}, "/seed", "integer"),
        ({"guidance": -0.1}, "/guidance", "0"),
        ({"guidance": 101}, "/guidance", "100"),
        ({"guidance": float("nan")}, "/guidance", "finite"),
        ({"guidance": float("inf")}, "/guidance", "finite"),
        ({"guidance": "2"}, "/guidance", "number"),
        ({"guidance_interval": [2, 1]}, "/guidance_interval", "below"),
        ({"guidance_interval": [1, 1]}, "/guidance_interval", "below"),
        ({"guidance_interval": [-1, 1]}, "/guidance_interval/0", "0"),
        ({"guidance_interval": [0, float("inf")]}, "/guidance_interval/1", "finite"),
        ({"guidance_interval": [0, 1, 2]}, "/guidance_interval", "2"),
        ({"guidance_interval": [1]}, "/guidance_interval", ""),
        ({"guidance_interval": 3}, "/guidance_interval", "tuple"),
        ({"guide": "teacher"}, "/guide", "snapshot"),
        ({"guide": "snapshot"}, "/guide", "carries no snapshot"),
        ({"spacing": "karras"}, "/spacing", "edm"),
        ({"spacing": "edm", "steps": 499}, "/steps", "between 1 and 49"),
        ({"sampler": "euler"}, "/sampler", "dpmpp_2m"),
        ({"threshold": "soft"}, "/threshold", "dynamic"),
        ({"variance": "gamma"}, "/variance", "beta_tilde"),
        ({"variance": "learned"}, "/variance", "has not learned variances"),
        ({"percentile": 0}, "/percentile", "0"),
        ({"percentile": 1.01}, "/percentile", "1"),
        ({"eta": 2}, "/eta", "1"),
        ({"steps": 0}, "/steps", "1"),
        ({"steps": 501}, "/steps", "500 diffusion steps"),
        ({"steps": 1001}, "/steps", "1000"),
        ({"steps": [4]}, "/steps", "integer"),
        ({"model": "unknown"}, "/model", "other, tiny"),
        ({"model": "tiny@9"}, "/model", "tiny"),
        ({"model": "tiny@" + "9" * 80}, "/model", "tiny"),
        ({"model": "tiny@sha256:" + "0" * 64}, "/model", "tiny"),
        ({"model": "tiny@sha256:"}, "/model", "tiny"),
        ({"model": "../secrets"}, "/model", "pattern"),
        ({"model": "tiny\n"}, "/model", "pattern"),
        ({"model": 3}, "/model", "string"),
        ({"deadline_seconds": 0}, "/deadline_seconds", "0"),
        ({"deadline_seconds": float("inf")}, "/deadline_seconds", ""),
        ({"format": "jpeg"}, "/format", "npz"),
        ({"format": "png", "n": 2, "grid": False}, "/grid", "zip"),
        ({"stream": "yes"}, "/stream", "boolean"),
        ({"colour": "red"}, "/colour", "not permitted"),
        ({"a/b~c": 1}, "/a~1b~0c", "not permitted"),
        ({"\ud800": 1}, "", ""),  # UTF-8 cannot encode this name
    ],
)
def test_a_faulty_field_is_named(service: Service, change: dict[str, Any], pointer: str, says: str) -> None:
    before = service.rows()
    answer = service.client.post("/generate", content=json.dumps({"class": "One"} | change), headers=JSON)
    problem = assert_problem(answer, 422)
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert any(says in error["detail"] for error in problem["errors"] if error["pointer"] == pointer), problem
    assert service.rows() == before


@pytest.mark.parametrize(
    ("body", "pointer"), [("{}", "/class"), ("[]", ""), ("3", ""), ('"One"', ""), ("null", ""), ("", "")]
)
def test_a_body_of_another_form_is_refused(service: Service, body: str, pointer: str) -> None:
    problem = assert_problem(service.client.post("/generate", content=body, headers=JSON), 422)
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"class": }',
        b"\xff\xfe\xff",
        b"[" * 20_000,
        b'{"a":' * 8_000,
        b'{"class": 0, "seed": ' + b"9" * 10_000 + b"}",
    ],
    ids=["cut", "hole", "not-utf8", "deep-lists", "deep-objects", "long-number"],
)
def test_a_body_that_is_not_json_is_400(service: Service, body: bytes) -> None:
    problem = assert_problem(service.client.post("/generate", content=body, headers=JSON), 400)
    assert problem["type"] == "/docs/errors#not-json"
    assert "is not JSON" in problem["detail"]


@pytest.mark.parametrize("path", ["/generate", "/v1/datasets?name=x&format=zip", "/v1/models/x/versions"])
def test_an_encoded_body_is_415_and_is_not_read_as_plain(service: Service, path: str) -> None:
    for encoding, sent in (
        ("gzip", gzip.compress(b'{"class": 0}')),
        ("br", b'{"class": 0}'),
        ("identity, gzip", b"x"),
    ):
        answer = service.client.post(path, content=sent, headers=JSON | {"Content-Encoding": encoding})
        assert "Content-Encoding" in assert_problem(answer, 415)["detail"]
        assert answer.headers["accept-encoding"] == "identity"
    assert service.client.get("/readyz", headers={"Content-Encoding": "gzip"}).status_code == 200  # it has no body
    assert service.client.post("/generate", json={"class": 0}, headers={"Content-Encoding": "identity"}).is_success


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"GET /healthz?" + b"a" * 400_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri-too-long"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 400_000 + b"\r\n\r\n", 431, "request-header-fields-too-large"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400, "bad-request"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET /health z HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad-request"),
        (b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not-implemented"),
        (b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad-request"),
        (
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            400,
            "bad-request",
        ),
        (b"\x16\x03\x01\x02\x00 a client that speaks TLS\r\n\r\n", 400, "bad-request"),
    ],
    ids=["address", "headers", "NUL", "no-host", "space", "encoding", "length", "chunk", "tls"],
)
def test_bytes_that_are_no_request_get_a_problem(service: Service, sent: bytes, status: int, kind: str) -> None:
    problem = assert_problem(_answer_to(service, sent), status)
    assert problem["type"] == f"/docs/errors#{kind}"
    assert problem["detail"].startswith("the service cannot read the request: ")
    assert service.client.get("/healthz").status_code == 200


def test_a_chunk_that_breaks_after_the_answer_has_begun_only_closes_the_connection(weights: Path) -> None:
    with serving_slowly(weights, default_model="tiny") as (service, pace):
        pace.open.clear()
        url = httpx.URL(service.url)
        head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            connection.sendall(head + b'Content-Length: 27\r\n\r\n{"class": 0, "stream":true}')
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.sendall(b"\0 no request\r\n\r\n")
            pace.open.set()
            received = b""
            while part := connection.recv(65536):
                received += part
        assert b"event: done" in received  # the bytes after a request are read when its answer has ended
        assert received.rstrip().endswith(b"}")
        assert service.client.get("/healthz").status_code == 200


def test_an_upgrade_to_a_websocket_is_not_offered(service: Service) -> None:
    answer = service.client.get("/healthz", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert answer.status_code == 200


def test_unknown_query_parameters_are_refused_by_name(service: Service) -> None:
    problem = assert_problem(service.client.get("/v1/models?limt=3&limit=2&x=1"), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"limt", "x"}
    assert problem["errors"][0]["detail"] == "is no query parameter; this address has: after, limit"
    problem = assert_problem(service.client.post("/generate?seed=1", json={"class": 0}), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["seed"]
    assert "none" in problem["errors"][0]["detail"]
    assert "format" in assert_problem(service.client.put("/v1/datasets/x?fromat=zip"), 422)["detail"]
    assert service.client.get("/healthz?cache=no").status_code == 200  # monitors may add one


def test_an_image_index_above_the_largest_is_refused(service: Service) -> None:
    for n, first, fits in ((1, LARGEST_INDEX, True), (2, LARGEST_INDEX, False), (2, LARGEST_INDEX - 1, True)):
        answer = service.client.post("/generate", json={"class": 0, "n": n, "first_index": first, "steps": 1})
        assert answer.is_success == fits
        if not fits:
            assert [error["pointer"] for error in assert_problem(answer, 422)["errors"]] == ["/first_index"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/generate", "/v1/interpolate"])
def test_a_body_without_a_json_content_type_is_415(service: Service, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert_problem(service.client.post(path, content=b'{"class": 0}', headers=headers), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"])
def test_every_json_content_type_is_accepted(service: Service, kind: str) -> None:
    assert service.client.post("/generate", content=b'{"class": 0}', headers={"Content-Type": kind}).is_success


def _answer_to(service: Service, sent: bytes) -> httpx.Response:
    """Send raw bytes on a new connection and return the answer."""
    with socket.create_connection((httpx.URL(service.url).host, httpx.URL(service.url).port), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def test_a_body_over_the_limit_is_413(service: Service) -> None:
    """The limit is 50,000 bytes, of Content-Length or of the bytes that arrive. The rest need not be sent."""
    long = b'{"class": "' + b"a" * 60_000 + b'"}'
    assert_problem(service.client.post("/generate", content=long, headers=JSON), 413)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(long), 1000):
            yield long[start : start + 1000]

    assert_problem(service.client.post("/generate", content=pieces(), headers=JSON), 413)
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert_problem(_answer_to(service, head + b"Content-Length: 999999999\r\n\r\n{"), 413)
    chunk = b"%x\r\n%s\r\n" % (60_000, b" " * 60_000)
    assert_problem(_answer_to(service, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk), 413)
    just_right = b'{"class": 0}' + b" " * (50_000 - 12)
    assert service.client.post("/generate", content=just_right, headers=JSON).status_code == 200


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (60_000, b" " * 60_000),
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: +12\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"Content-Length: 99999999999999999999999999\r\n\r\n{}",
    ],
)
def test_no_content_length_lets_a_body_past_the_limit(service: Service, framing: bytes) -> None:
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    before = service.rows()
    assert _answer_to(service, head + framing).status_code in (400, 413)
    assert service.rows() == before


def test_an_unknown_path_is_404_and_a_wrong_method_405(service: Service) -> None:
    assert_problem(service.client.get("/nothing"), 404)
    assert_problem(service.client.get("/v1/models/NoName"), 422)
    document = service.client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        allowed = {method.upper() for method in operations} | ({"HEAD"} if "get" in operations else set())
        method = "PUT" if "PUT" not in allowed else "POST"
        answer = service.client.request(method, re.sub(r"\{\w+\}", "1", path))
        assert_problem(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == allowed, path


def test_unknown_methods_add_no_time_series(service: Service) -> None:
    for method in ("BREW", "PROPFIND"):
        assert_problem(service.client.request(method, "/generate"), 405)
    assert "BREW" not in service.client.get("/metrics").text


def test_all_faults_are_reported_together(service: Service) -> None:
    problem = assert_problem(service.client.post("/generate", json={"n": 0, "seed": -1, "colour": 1}), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/class", "/n", "/seed", "/colour"}


def test_without_a_database_the_models_routes_say_so(service: Service) -> None:
    assert_problem(service.client.get("/v1/models"), 503)
    assert_problem(service.client.get("/v1/models/tiny"), 503)


def test_a_full_queue_and_deadlines_that_cannot_be_met_or_have_passed(weights: Path) -> None:
    with serving_slowly(weights, default_model="tiny", queue_rows=6, request_rows=32) as (service, pace):
        assert_problem(service.client.post("/generate", json={"class": 0, "n": 7}), 422)  # more than the queue's size
        pace.open.clear()
        with ThreadPoolExecutor(2) as pool:
            held = pool.submit(service.generate, n=5, seed=1)
            wait_until(lambda: service.rows() == 5, "the engine holds five rows")
            full = service.client.post("/generate", json={"class": 0, "n": 2})
            problem = assert_problem(full, 429)
            assert int(full.headers["retry-after"]) >= 1
            assert "5 of 6" in problem["detail"]
            streamed = service.client.post("/generate", json={"class": 0, "n": 2, "stream": True})
            assert_problem(streamed, 429)
            late = pool.submit(
                service.client.post, "/generate", json={"class": 0, "steps": 500, "deadline_seconds": 1e-6}
            ).result()
            problem = assert_problem(late, 503)
            assert problem["expected_seconds"] > 0.0
            pace.open.set()
            assert len(held.result()["images"]) == 5
        refused = service.client.get("/metrics").text
        for reason, count in (("queue_full", 2.0), ("deadline", 1.0), ("too_many_rows", 1.0)):
            assert f'darkroom_refusals_total{{reason="{reason}"}} {count}' in refused


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_passes_during_drawing_ends_the_request(weights: Path, stream: bool) -> None:
    with serving_slowly(weights, default_model="tiny") as (service, pace), ThreadPoolExecutor(1) as pool:
        pace.open.clear()
        request = {"class": 0, "steps": 2, "deadline_seconds": 2.0, "stream": stream}
        asking = pool.submit(service.client.post, "/generate", json=request)
        wait_until(lambda: service.rows() == 1, "the engine holds the row")
        time.sleep(2.1)
        pace.open.set()
        answer = asking.result()
        if stream:
            kind, problem = events_of(answer.text)[-1]
            assert kind == "error"
            assert problem["status"] == 504
        else:
            assert_problem(answer, 504)
        wait_until(lambda: service.rows() == 0, "the engine has dropped the late request's rows")


def test_before_a_model_is_loaded_requests_get_503_and_retry_after(tmp_path: Path) -> None:
    with serving(tmp_path, wait_until_ready=False) as service:
        assert service.client.get("/healthz").status_code == 200
        for answer in (
            service.client.get("/readyz"),
            service.client.post("/generate", json={"class": 0}),
            service.client.post("/v1/interpolate", json={"class": 0, "seeds": [1, 2]}),
        ):
            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1


def test_while_the_database_is_away_images_are_drawn_and_the_models_routes_answer_503(weights: Path) -> None:
    with socket.socket() as bound:  # a bound port without a listener refuses connections
        bound.bind(("127.0.0.1", 0))
        url = f"postgresql://nobody@127.0.0.1:{bound.getsockname()[1]}/none"
        with serving(weights, default_model="tiny", database_url=url) as service:
            assert service.images(seed=1).shape == (1, 8, 8, 1)
            for answer in (
                service.client.get("/v1/models"),
                service.client.get("/v1/models/tiny"),
                service.client.post("/generate", json={"class": 0, "model": "elsewhere"}),
            ):
                assert_problem(answer, 503)
                assert int(answer.headers["retry-after"]) >= 1
            np.testing.assert_array_equal(service.images(seed=1), service.images(seed=1))
