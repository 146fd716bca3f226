"""Content addresses."""

import hashlib


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of the bytes as "sha256:..." (hexadecimal)."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
