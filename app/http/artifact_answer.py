"""Answers with an artifact's bytes."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from fastapi.responses import Response, StreamingResponse

from darkroom.store.artifact_stream import stream_artifact
from darkroom.store.database import Database
from darkroom.store.tables import Artifact

NO_TAGS: list[str] = []
"""The default of If-None-Match, whose lines a client may repeat."""


def artifact_answer(
    database: Database, digest: str, if_none_match: Sequence[str], media_type: str, filename: str
) -> Response:
    """Return an answer that streams the artifact, or 304 when the client has it. Holds no transaction meanwhile.

    if_none_match: the header's lines. filename: the name under which a browser stores the file.
    Raises ArtifactMissing, ArtifactCorrupted.
    """
    headers = {"ETag": f'"{digest}"', "Cache-Control": "no-cache", "Accept-Ranges": "none"}
    known = [tag.strip().removeprefix("W/") for line in if_none_match for tag in line.split(",")]
    if "*" in known or headers["ETag"] in known:
        return Response(status_code=304, headers=headers)
    chunks = stream_artifact(database, digest)
    first = next(chunks)
    with database.session() as session:
        headers["Content-Length"] = str(session.get_one(Artifact, digest).size_bytes)
    headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return StreamingResponse(chain([first], chunks), media_type=media_type, headers=headers)


def documented_artifact(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that answers with `artifact_answer`."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {"description": description, "content": dict.fromkeys(media_types, binary)},
        304: {"description": "The bytes that If-None-Match names are still the newest"},
    }
