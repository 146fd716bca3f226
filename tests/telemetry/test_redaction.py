"""Laws of redaction: no part of a log line shows a secret, and the words around it stay."""

import json
import logging

import pytest

from darkroom.app.access.token import new_token
from darkroom.telemetry.redaction import redacted
from tests.telemetry.log_lines import logging_to

SECRET = "s3cr3t-W0rd"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            f"connecting to postgresql://me:{SECRET}@host:5432/db now",
            "connecting to postgresql://me:***@host:5432/db now",
        ),
        (f"redis://:{SECRET}@host/0 and redis://host/1", "redis://:***@host/0 and redis://host/1"),
        (f"postgres://me:{SECRET}/with/slashes@host", "postgres://me:***@host"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"[(b'authorization', b'Bearer {SECRET}')]", "[(b'authorization', b'Bearer ***')]"),
        (f"authorization: Basic {SECRET}=", "authorization: Basic ***"),
        (f"DARKROOM_API_KEY={SECRET} darkroom jobs", "DARKROOM_API_KEY=*** darkroom jobs"),
        (f"host=h password='{SECRET} {SECRET}' user=u", "host=h password=*** user=u"),
        (f"/v1/models?token={SECRET}&page=2", "/v1/models?token=***&page=2"),
        (json.dumps({"secret": SECRET, "name": "lab"}), '{"secret": ***, "name": "lab"}'),
    ],
)
def test_a_secret_is_hidden_and_what_stands_around_it_is_not(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "job 7, attempt 2: train digits",
        "serving fashion-mnist sha256:0123abcd",
        "Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
        "the key 'lab' does not have the scope generate or admin",
        "Idempotency-Key: abc",
        "Connected to redis://127.0.0.1:6379/0",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_part_of_a_line_has_a_key(form: str) -> None:
    made = new_token()
    secret = made.token.removeprefix(f"{made.prefix}_")
    with logging_to(log_format=form) as written:
        log = logging.getLogger("some.module")
        try:
            raise ValueError(f"bad key {made.token}")
        except ValueError:
            log.exception("refused %s", made.token, extra={"fields": {"given": f"Bearer {made.token}"}})
        log.info(made.token)
    assert secret not in written.getvalue()
    assert written.getvalue().count(made.prefix) == 3  # in the message, the traceback, and the line of the token alone
    assert written.getvalue().count("***") >= 4
