"""The token that a key's owner holds: drk_ID_SECRET.

The store keeps the SHA-256 of the token alone. The secret is 256 random bits, so there is no list of likely ones to
try, and neither a salt nor a slow hash (which exist because people choose passwords) would protect it any better; a
slow one would be paid at every request. drk_ID is the prefix: what lists show, and how a key is found.
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
    """A token and what the store keeps of it. token: shown once."""

    token: str
    prefix: str
    digest: bytes


def new_token() -> NewToken:
    """A token that nobody has."""
    prefix = "drk_" + "".join(secrets.choice(ascii_lowercase + digits) for _ in range(_ID_LETTERS))
    token = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    return NewToken(token, prefix, token_digest(token))


def prefix_of(token: str) -> str | None:
    """The part by which its key is found; None of what cannot be a token."""
    match = _FORM.fullmatch(token)
    return match[1] if match else None


def token_digest(token: str) -> bytes:
    """SHA-256."""
    return hashlib.sha256(token.encode()).digest()


def matches(digest: bytes, known: bytes) -> bool:
    """Whether two digests are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(digest, known)
