"""The token of a key: drk_ID_SECRET.

The store keeps only the SHA-256 of the token. A salt or a slow hash would not protect it better: they help against
guessing a password that a person chose, and the secret is 256 random bits. A slow hash would slow down every request.
drk_ID is the prefix: lists show it, and the store finds the key by it.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from string import ascii_lowercase, digits

SECRET_BYTES = 32
_ID_LETTERS = 10
_FORM = re.compile(rf"(drk_[a-z0-9]{{{_ID_LETTERS}}})_[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token, with the prefix and the digest that the store keeps. token: shown only once."""

    token: str
    prefix: str
    digest: bytes


def new_token() -> NewToken:
    """Return a new random token."""
    prefix = "drk_" + "".join(secrets.choice(ascii_lowercase + digits) for _ in range(_ID_LETTERS))
    token = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return NewToken(token, prefix, token_digest(token))


def prefix_of(token: str) -> str | None:
    """Return the prefix, by which the store finds the key; None if the text cannot be a token."""
    match = _FORM.fullmatch(token)
    return match[1] if match else None


def token_digest(token: str) -> bytes:
    """Return the token's SHA-256."""
    return hashlib.sha256(token.encode()).digest()


def matches(digest: bytes, known: bytes) -> bool:
    """Compare two digests in a time that does not depend on where they differ."""
    return hmac.compare_digest(digest, known)
