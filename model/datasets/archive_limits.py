"""How much an archive may unpack to. It comes from strangers, and a small file can claim terabytes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds on one archive.

    entries: files and folders in it. ratio, free_bytes: it may unpack to `ratio` times its own size, or to `free_bytes`
    where that is more. pixels: of all its pictures as they are stored, since decoding takes time by the pixel.
    """

    entries: int = 200_000
    ratio: int = 100
    free_bytes: int = 64 * 2**20
    pixels: int = 20_000_000_000

    def unpacked_bytes(self, archive_bytes: int) -> int:
        """What an archive of that size may unpack to."""
        return max(self.free_bytes, self.ratio * archive_bytes)
