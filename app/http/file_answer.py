"""Answers with a file, or with a part of it, or with 304 when the client has it (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

from fastapi import Depends, Header
from fastapi.responses import Response, StreamingResponse

from darkroom.app.http.problems import Problem, documented
from darkroom.model.digest import digest_of
from darkroom.store.artifact_stream import stream_artifact, stream_part
from darkroom.store.artifacts import ArtifactMissing
from darkroom.store.database import Database
from darkroom.store.tables import Artifact

_TAG = re.compile('(?:W/)?("[^"]*")')
_RANGE = re.compile(r"bytes=\s*([0-9]{0,100})-([0-9]{0,100})\s*", re.IGNORECASE)


def entity_tag(content: bytes) -> str:
    """Return the strong entity tag of a file."""
    return f'"{digest_of(content)}"'


def names(lines: Sequence[str], tag: str) -> bool:
    """Return True if the lines of If-None-Match name the entity tag."""
    return any(line.strip() == "*" or tag in _TAG.findall(line) for line in lines)


@dataclass(frozen=True)
class FileRequest:
    """The headers of a request for a file. if_none_match: its lines; the others are None where they are left out."""

    if_none_match: Sequence[str]
    range: str | None
    if_range: str | None

    def part(self, tag: str, size: int) -> tuple[int, int] | None:
        """Return start and length of the part that the request asks for; None for the whole file.

        A Range of another unit, of several parts or of a wrong form is ignored, as RFC 9110 allows. So is one whose
        If-Range names another file. size: of the file, in bytes. Raises Problem (416) for a part outside the file.
        """
        found = _RANGE.fullmatch(self.range or "")
        if found is None or self.if_range not in (None, tag):
            return None
        first, last = found.groups()
        if (not first and not last) or (first and last and int(first) > int(last)):
            return None
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start >= end:
            headers = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
            raise Problem(416, "range-not-satisfiable", f"the file has only {size} bytes", headers=headers)
        return start, end - start


def _file_request(
    if_none_match: Annotated[
        list[str] | None, Header(description="entity tags of files that the client has, or *; may be repeated")
    ] = None,
    range_: Annotated[str | None, Header(alias="Range", description="one range of bytes, such as bytes=0-1023")] = None,
    if_range: Annotated[str | None, Header(description="the entity tag of the file that Range means")] = None,
) -> FileRequest:
    return FileRequest(if_none_match or (), range_, if_range)


FileRequestHere = Annotated[FileRequest, Depends(_file_request)]


def artifact_answer(
    database: Database, digest: str, asked: FileRequest, media_type: str, filename: str | None = None
) -> Response:
    """Return an answer that streams the artifact or a part of it. Holds no transaction meanwhile.

    filename: the name under which a browser stores the file; None shows it. Raises Problem, ArtifactMissing and
    ArtifactCorrupted.
    """
    with database.session() as session:
        row = session.get(Artifact, digest)
    if row is None:
        raise ArtifactMissing(digest)
    size = row.size_bytes

    def read(start: int, length: int) -> Iterator[bytes]:
        whole = length == size
        return stream_artifact(database, digest) if whole else stream_part(database, digest, start, length)

    return _answer(asked, f'"{digest}"', size, read, media_type, filename)


def content_answer(content: bytes, asked: FileRequest, media_type: str) -> Response:
    """Return an answer with a file that is in memory, or a part of it. Raises Problem."""

    def read(start: int, length: int) -> Iterator[bytes]:
        yield content[start : start + length]

    return _answer(asked, entity_tag(content), len(content), read, media_type)


def _answer(
    asked: FileRequest,
    tag: str,
    size: int,
    read: Callable[[int, int], Iterator[bytes]],
    media_type: str,
    filename: str | None = None,
) -> Response:
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Accept-Ranges": "bytes"}
    if names(asked.if_none_match, tag):
        return Response(status_code=304, headers=headers)
    part = asked.part(tag, size)
    start, length = part or (0, size)
    chunks = read(start, length)
    first = next(chunks)  # its errors become problems
    headers["Content-Length"] = str(length)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    if filename is not None:
        headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    status = 200 if part is None else 206
    return StreamingResponse(chain([first], chunks), status, media_type=media_type, headers=headers)


def documented_file(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that answers with a file."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = dict.fromkeys(media_types, binary)
    return {
        200: {"description": description, "content": content},
        206: {"description": "The part that Range names", "content": content},
        304: {"description": "If-None-Match names these bytes: the client has them"},
        **documented(416),
    }
