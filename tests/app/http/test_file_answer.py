"""Laws of conditional and partial answers (RFC 9110, sections 13 and 14)."""

import asyncio

import pytest

from darkroom.app.http.file_answer import FileRequest, content_answer, entity_tag, names
from darkroom.app.http.problems import Problem

CONTENT = bytes(range(100))
TAG = entity_tag(CONTENT)


def _answer(
    *if_none_match: str, range_: str | None = None, if_range: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    answer = content_answer(CONTENT, FileRequest(if_none_match, range_, if_range), "text/plain")
    messages = []

    async def send(message: dict[str, object]) -> None:
        messages.append(message)

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    asyncio.run(answer({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send))
    body = b"".join(bytes(message.get("body", b"")) for message in messages)
    return answer.status_code, dict(answer.headers), body


@pytest.mark.parametrize(
    ("lines", "known"),
    [
        ([], False),
        ([TAG], True),
        ([f"W/{TAG}"], True),
        ([f'"a,b", {TAG}'], True),
        ([f'"a",W/"b",{TAG}'], True),
        (['"a"', TAG], True),
        (["*"], True),
        ([" * "], True),
        (['"*"'], False),
        (['"a"'], False),
        ([TAG.strip('"')], False),
        ([f'"a{TAG}b"'], False),
    ],
)
def test_if_none_match_takes_lists_lines_and_stars(lines: list[str], known: bool) -> None:
    assert names(lines, TAG) == known
    status, headers, body = _answer(*lines, range_="bytes=0-9")
    assert (status, body) == ((304, b"") if known else (206, CONTENT[:10]))
    assert headers["etag"] == TAG


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("BYTES=10-19", 10, 20),
        ("bytes=90-", 90, 100),
        ("bytes=90-1000", 90, 100),
        ("bytes=0-" + "9" * 100, 0, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-1000", 0, 100),
    ],
)
def test_a_part_is_answered_with_its_place(range_: str, start: int, end: int) -> None:
    status, headers, body = _answer(range_=range_)
    assert (status, body) == (206, CONTENT[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/100"
    assert headers["content-length"] == str(end - start)
    assert _answer(range_=range_, if_range=TAG)[2] == body


@pytest.mark.parametrize(
    "range_",
    [
        None,
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "lines=0-1",
        "bytes=0-1,5-6",
        "bytes=x-1",
        "bytes=-0x1",
        "0-1",
        "bytes=²-",
    ],
)
def test_another_range_means_the_whole_file(range_: str | None) -> None:
    status, headers, body = _answer(range_=range_)
    assert (status, body) == (200, CONTENT)
    assert (headers["accept-ranges"], headers["content-length"]) == ("bytes", "100")
    assert "content-range" not in headers


@pytest.mark.parametrize("if_range", ['"other"', f"W/{TAG}", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_part_of_another_file_is_not_sent(if_range: str) -> None:
    assert _answer(range_="bytes=0-9", if_range=if_range)[0] == 200
    assert _answer(range_="bytes=200-", if_range=if_range)[0] == 200


@pytest.mark.parametrize("range_", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_part_outside_the_file_is_416_with_its_size(range_: str) -> None:
    with pytest.raises(Problem) as refused:
        _answer(range_=range_)
    assert refused.value.status == 416
    assert refused.value.headers["Content-Range"] == "bytes */100"
