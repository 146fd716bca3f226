"""Limits on what an archive unpacks to. Strangers upload archives, and a small file can claim terabytes."""

from dataclasses import dataclass

MAX_IMAGE_PIXELS = 100_000_000
"""The most pixels of one picture: a small file can claim billions of them (decompression bomb)."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits on one archive.

    entries: most files and folders.
    ratio, free_bytes: it may unpack to `ratio` times its own size, or to `free_bytes` where that is more.
    pixels: most stored pixels of all its pictures, because decoding time grows with pixels.
    """

    entries: int = 200_000
    ratio: int = 100
    free_bytes: int = 96 * 2**20
    pixels: int = 20_000_000_000

    def unpacked_bytes(self, archive_bytes: int) -> int:
        """Return the most bytes that an archive of that size may unpack to."""
        return max(self.free_bytes, self.ratio * archive_bytes)
