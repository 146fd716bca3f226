"""The Accept header: which of the forms that there are a client wants (RFC 9110, 12.5.1)."""

import contextlib
from collections.abc import Collection, Sequence


def choose(accept: str, offers: Sequence[str], *, only_by_name: Collection[str] = ()) -> str | None:
    """The media type to answer with; None when nothing of `offers` is accepted.

    The order of `offers` decides what a wildcard, or no header at all, means. only_by_name: media types that a
    wildcard does not mean.
    """
    ranges = _ranges(accept or "*/*")
    wanted: list[tuple[float, int, int, str]] = []
    for order, media in enumerate(offers):
        wildcards = [] if media in only_by_name else [media.partition("/")[0] + "/*", "*/*"]
        for candidate in (media, *wildcards):  # the most specific range counts
            if candidate in ranges:
                quality, place = ranges[candidate]
                if quality > 0.0:
                    wanted.append((-quality, place, order, media))
                break
    return min(wanted)[-1] if wanted else None


def _ranges(accept: str) -> dict[str, tuple[float, int]]:
    """Media range -> (quality, place in the header)."""
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
