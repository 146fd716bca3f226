"""Reads the Accept header: chooses the media type that a client wants (RFC 9110, section 12.5.1)."""

import contextlib
from collections.abc import Collection, Sequence


def choose(accept: str, offers: Sequence[str], *, only_by_name: Collection[str] = ()) -> str | None:
    """Return the media type of the answer, or None if the client accepts none of `offers`.

    A wildcard, or a missing header, means the first of `offers` that it matches. only_by_name: media types that no
    wildcard matches.
    """
    ranges = _ranges(accept or "*/*")
    wanted: list[tuple[float, int, int, str]] = []
    for order, media in enumerate(offers):
        wildcards = [] if media in only_by_name else [media.partition("/")[0] + "/*", "*/*"]
        for candidate in (media, *wildcards):  # the most specific range decides
            if candidate in ranges:
                quality, place = ranges[candidate]
                if quality > 0.0:
                    wanted.append((-quality, place, order, media))
                break
    return min(wanted)[-1] if wanted else None


def _ranges(accept: str) -> dict[str, tuple[float, int]]:
    """Return media range -> (quality, place in the header)."""
    ranges: dict[str, tuple[float, int]] = {}
    for place, part in enumerate(accept.split(",")):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                with contextlib.suppress(ValueError):
                    quality = float(parameter[2:])
        ranges[media] = (quality, place)
    return ranges
