"""Content addresses."""

import hashlib


def digest_of(data: bytes) -> str:
    """The bytes' SHA-256 as "sha256:..."."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
