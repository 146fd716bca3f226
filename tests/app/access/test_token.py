"""Laws of tokens: each is different, has a prefix to find it by, and a digest that no other token has."""

import pytest

from darkroom.app.access.token import matches, new_token, prefix_of, token_digest


def test_a_token_is_found_by_prefix_and_verified_by_digest() -> None:
    made = [new_token() for _ in range(200)]
    assert len({one.token for one in made}) == len({one.prefix for one in made}) == 200
    for one in made:
        assert prefix_of(one.token) == one.prefix
        assert one.token.startswith(f"{one.prefix}_")
        assert one.token.encode() not in one.digest
        assert matches(token_digest(one.token), one.digest)
        assert not matches(token_digest(one.token[:-1] + "-_"[one.token[-1] == "-"]), one.digest)


@pytest.mark.parametrize("text", ["", "drk_", "drk_abc", "x" * 58, "drk_" + "a" * 10 + "_" + "é" * 43])
def test_text_that_cannot_be_a_token_has_no_prefix(text: str) -> None:
    assert prefix_of(text) is None
    token = new_token().token
    for changed in (token + "x", token[:-1], token.upper(), f" {token}", f"{token}\n"):
        assert prefix_of(changed) is None
